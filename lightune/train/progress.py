"""What one sees on standard error while training: a bar, a line now and then, or nothing.

    bar      a terminal: rich's progress bar with loss, examples per second, time left
    lines    a log file or pipe: a plain line every ten seconds and at every evaluation
    silent   `--json` and Python

Invariants: nothing is ever written to standard output, which belongs to results.
"""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Literal, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

Look = Literal["auto", "bar", "lines", "silent"]

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Shows one training; a context manager, so that the terminal is left tidy.

    Args:
        total: optimiser steps of the whole run.
        look: see above; `auto` takes the bar on a terminal and lines elsewhere.
        stream: None is standard error as it is now.
    """

    def __init__(self, total: int, look: Look = "auto", stream: TextIO | None = None) -> None:
        self.total = total
        self.stream = stream or sys.stderr
        if look == "auto":
            look = "bar" if self.stream.isatty() else "lines"
        self.look = look
        self._values: dict[str, float] = {}
        self._first: tuple[float, int] | None = None
        self._line_at = time.perf_counter()
        self._bar: Bar | None = None
        if look == "bar":
            self._bar = Bar(
                TextColumn("training"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[values]}"),
                TimeRemainingColumn(),
                console=Console(file=self.stream),
            )
            self._task = self._bar.add_task("", total=total, values="")

    def __enter__(self) -> "Progress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def step(self, step: int) -> None:
        """Note that `step` optimiser steps are done."""
        now = time.perf_counter()
        self._first = self._first or (now, step)
        if self._bar:
            self._bar.update(self._task, completed=step, values=self._speed())
        elif self.look == "lines" and now - self._line_at >= SECONDS_BETWEEN_LINES:
            self._line_at = now
            self._write(f"step {step}/{self.total}  {self._speed()}  {self._left(now, step)}")

    def log(self, entry: Mapping[str, float]) -> None:
        """Take a line of the loop's log; an evaluation is shown at once."""
        scores = {
            key.removeprefix("validation_"): value
            for key, value in entry.items()
            if key.startswith("validation_")
        }
        if not scores:
            self._values = dict(entry)
            return
        shown = "  ".join(f"{name} {value:.4f}" for name, value in scores.items())
        self._write(f"step {entry['step']:g}  epoch {entry['epoch']:.2f}  validation: {shown}")

    def _speed(self) -> str:
        if "loss" not in self._values:
            return ""
        speed = self._values["examples_per_s"]
        shown = f"{speed:.0f}" if speed >= 10 else f"{speed:.2g}"  # long texts: 0.3, not 0
        return f"loss {self._values['loss']:.4f}  {shown} examples/s"

    def _left(self, now: float, step: int) -> str:
        begun, first = self._first or (now, step)
        if step == first:
            return ""
        seconds = round((now - begun) / (step - first) * (self.total - step))
        return f"{seconds // 60}:{seconds % 60:02d} left"

    def _write(self, line: str) -> None:
        if self._bar:
            self._bar.console.print(line, highlight=False, markup=False)
        elif self.look == "lines":
            print(line.rstrip(), file=self.stream, flush=True)
