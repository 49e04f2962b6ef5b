"""A bar on standard error for each file that is being fetched."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def download_bars() -> Iterator[Callable[[str, int, int | None], None]]:
    """Yield a function that takes (file, bytes here, bytes in all); elsewhere than on a terminal
    it shows nothing."""
    if not sys.stderr.isatty():
        yield lambda file, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(24), DownloadColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(file=sys.stderr)) as bars:
        tasks = {}

        def show(file: str, done: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = bars.add_task(file, total=total)
            bars.update(tasks[file], completed=done, total=total)

        yield show
