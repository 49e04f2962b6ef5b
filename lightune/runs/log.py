"""`metrics.jsonl`: what happened in a run, one JSON line per logged step or evaluation.

Invariants: each line is on its way to the disk when `write` returns. A line is there whole or not
            at all, except for the last one after a crash, which reading leaves out and reopening
            cuts off.
Full disk:  training goes on; the lines lost are counted and said once, since hours of work must
            not end for want of a log line.
Not here:   what is logged (`train/`), trackers (`train/trackers.py`).
"""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lightune.errors import RunError
from lightune.runs.files import LONE, disk_errors, json_line


class MetricsLog:
    """An append-only file of JSON lines.

    Args:
        path: made when it is not there; lines that are there stay.
        on_problem: called once with a sentence when a line cannot be written.

    Raises:
        ResourceError: the disk is full from the start.
    """

    def __init__(self, path: Path, on_problem: Callable[[str], None] = lambda text: None) -> None:
        self.path = path
        self.lost = 0
        self._on_problem = on_problem
        with disk_errors(path):
            self._file = path.open("ab", buffering=0)
            self._end = _end_of_last_line(path)
            if self._end != self._file.tell():
                self._file.truncate(self._end)

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one line. Units belong in the keys: `seconds`, `examples_per_s`, `rss_mb`."""
        line = (json_line(row) + "\n").encode(errors=LONE)
        try:
            self._write_all(line)
            self._end += len(line)
        except OSError as error:
            self.lost += 1
            with suppress(OSError):  # cut off what was written of it, so that no line is torn
                self._file.truncate(self._end)
            if self.lost == 1:
                self._on_problem(f"{self.path} cannot be written ({error.strerror}); going on")

    def _write_all(self, line: bytes) -> None:
        done = 0
        while done < len(line):
            done += self._file.write(line[done:]) or 0

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        if not self._file.closed:
            with suppress(OSError):
                os.fsync(self._file.fileno())
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a log; a last line that a crash tore is left out.

    Raises:
        RunError: there is no log, or a line before the last is damaged.
    """
    try:
        *lines, _ = path.read_bytes().split(b"\n")  # nothing stands behind the last line end
    except FileNotFoundError:
        raise RunError(f"{path} is missing") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise RunError(
                f"{path}:{number}: not a line of a log",
                found=repr(line[:60]),
                mend="copy the file again from where it came, or delete this line",
            )
        rows.append(row)
    return rows


def _end_of_last_line(path: Path) -> int:
    return path.read_bytes().rfind(b"\n") + 1
