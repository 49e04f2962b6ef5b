"""What a command prints: a table or text for people, or one JSON object for programs.

Why:        scripts read standard output, so with `--json` nothing but the object may reach it:
            not a library's chatter, not a child process's.
Invariants: notes go to standard error; numbers that JSON lacks (NaN) become null; text that the
            terminal's encoding lacks is escaped.
Not here:   errors (`messages.py`), progress of training (`lightune/train/progress.py`).
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")
]
"""The option that every command has."""


class Output:
    """Where one command puts its result.

    Args:
        as_json: the user asked for `--json`; then `show` is silent and `result` prints.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._result: Mapping[str, Any] | None = None

    def note(self, text: str) -> None:
        """Say something beside the result, on standard error."""
        print(text, file=sys.stderr, flush=True)

    def show(self, *parts: Any) -> None:
        """Print text or rich tables for people."""
        if not self.as_json:
            out = console()
            with out.capture() as captured:  # rich would end the process when the reader has gone
                for part in parts:
                    if isinstance(part, str):
                        out.print(part, markup=False, highlight=False, soft_wrap=True)
                    else:
                        out.print(part)
            for line in captured.get().splitlines():
                print(line.rstrip())  # rich fills up to the width of the terminal

    def result(self, value: Mapping[str, Any]) -> None:
        """Give the JSON object. It is printed when the command has ended without an error."""
        self._result = value


@contextlib.contextmanager
def output(as_json: bool) -> Iterator[Output]:
    """Run a command's body; with `as_json`, all it prints goes to standard error but the result."""
    out = Output(as_json)
    if not as_json:
        yield out
        return
    with _stdout_to_stderr():
        yield out
    if out._result is not None:
        write_json(out._result)


def write_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on standard output."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
    text = json.dumps(jsonable(value), indent=2, ensure_ascii=not unicode, allow_nan=False)
    print(text, flush=True)


def jsonable(value: Any) -> Any:
    """Return `value` with only JSON's types: NumPy numbers unboxed, NaN null, paths as text."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, str | bool | int | None):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Sequence | set | frozenset):
        return [jsonable(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy's arrays and numbers
        return jsonable(value.tolist())
    return str(value)


def console() -> Console:
    """Return a rich console on standard output that a pipe does not narrow to 80 columns."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else shutil.get_terminal_size((120, 24)).columns
    return Console(width=width, highlight=False, emoji=False)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> Any:
    """Return a rich table of plain text; long cells fold instead of being cut."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(
        title=title or None,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        pad_edge=False,
        show_edge=False,
    )
    for name in columns:
        numbers = [row[columns.index(name)] for row in rows]
        right = bool(rows) and all(isinstance(number, int | float) for number in numbers)
        made.add_column(Text(name), overflow="fold", justify="right" if right else "left")
    for row in rows:
        made.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    return made


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Send standard output to standard error, child processes' and C code's included."""
    sys.stdout.flush()
    try:
        number = sys.stdout.fileno()
    except (AttributeError, io.UnsupportedOperation):  # replaced by a caller: a test, a notebook
        with contextlib.redirect_stdout(sys.stderr):
            yield
        return
    kept = os.dup(number)
    try:
        os.dup2(sys.stderr.fileno(), number)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, number)
        os.close(kept)


def short(path: Path | str) -> str:
    """Return `path` as the user would type it: relative to here where that is shorter."""
    text = str(path)
    with contextlib.suppress(ValueError):
        text = min(text, str(Path(path).resolve().relative_to(Path.cwd())) or ".", key=len)
    return text
