"""Scores as tables: on a terminal in colour, and as plain text for files and pipes.

Not here: JSON (`Score.to_json`), pictures (`plots.py`). The task's own score made every number.
"""

import math
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lightune.tasks.base import Scores
from lightune.types import Score

LOWER_IS_BETTER = (
    "bits_per_byte",
    "calibration_error",
    "hamming_loss",
    "loss",
    "mae",
    "perplexity",
    "rmse",
)
WIDE = 0.1
"""An interval wider than this (ten points) is called wide; that of a score without a highest value
never is."""
SCALES = {"bleu": 100, "chrf": 100}
"""The highest value of scores whose highest is not 1."""
MOST_CLASSES = 30


def report(scores: Scores, title: str = "Scores") -> RenderableType:
    """Return the tables of `scores` for `rich.print` or `Console.print`.

    The metrics stand with their 95 % intervals and with each baseline beside them, then one line
    per class (the 30 largest classes if there are more), then what a reader must know.
    """
    parts: list[RenderableType] = [_metrics(scores, title)]
    rows = scores.tables.get("per_class")
    if rows:
        parts += [Text(""), _per_class(rows)]
    parts += [Padding(Text(f"note: {note}", style="yellow"), (0, 1)) for note in notes(scores)]
    return Group(*parts)


def plain_text(scores: Scores, title: str = "Scores", width: int = 100) -> str:
    """Return the same report without colour or control codes, `width` columns at most."""
    console = Console(file=StringIO(), width=width, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(report(scores, title))
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def notes(scores: Scores) -> list[str]:
    """Return what a reader of these scores must know: wide intervals, a baseline not beaten, …"""
    found = list(scores.tables.get("notes", ()))
    first = next(iter(scores.metrics.items()), None)
    if first is None:
        return found
    name, score = first
    records = scores.tables.get("records")
    wide = math.inf if name in LOWER_IS_BETTER else WIDE * SCALES.get(name, 1)
    if score.low is not None and score.high is not None and score.high - score.low > wide:
        many = "" if records is None else f"with {records} test {_plural(records, 'record')} "
        found.insert(
            0,
            f"{many}the interval of {name} is wide ({score.low:.3f} to {score.high:.3f}): "
            "small differences between runs mean nothing; test on more records",
        )
    for baseline, values in scores.baselines.items():
        if name not in values:
            continue
        better = score.value - values[name]
        if (-better if name in LOWER_IS_BETTER else better) <= 0:
            found.insert(
                0,
                f"{name} {score.value:.3f} is no better than {_words(baseline)} "
                f"({values[name]:.3f}): on this measure the model adds nothing",
            )
    return found


def _metrics(scores: Scores, title: str) -> Table:
    records = scores.tables.get("records")
    if records is not None:
        title = f"{title} ({records} {_plural(records, 'record')})"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_style="bold", title_justify="left")
    table.add_column("metric", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="center", no_wrap=True)
    for baseline in scores.baselines:
        table.add_column(_words(baseline), justify="right", style="dim")
    for i, (name, score) in enumerate(scores.metrics.items()):
        beside = [_number(values.get(name)) for values in scores.baselines.values()]
        shown = f"{name} (lower is better)" if name in LOWER_IS_BETTER else name
        bold = "bold" if i == 0 else None
        table.add_row(shown, _number(score.value), _interval(score), *beside, style=bold)
    return table


def _per_class(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("class", max_width=40, overflow="ellipsis", no_wrap=True)
    for column in ("precision", "recall", "f1", "records", "predicted"):
        table.add_column(column, justify="right", no_wrap=True)
    largest = sorted(rows, key=lambda row: -row["support"])[:MOST_CLASSES]
    for row in (row for row in rows if row in largest):
        shares = (_number(row[name]) for name in ("precision", "recall", "f1"))
        # Text, not str: a label such as "[red]" is a name here, not markup
        table.add_row(Text(row["label"]), *shares, str(row["support"]), str(row["predicted"]))
    if len(rows) > MOST_CLASSES:
        table.caption = f"the {MOST_CLASSES} largest of {len(rows)} classes; all in eval.json"
    return table


def _interval(score: Score) -> str:
    if score.low is None or score.high is None:
        return "-"
    return f"{score.low:.3f} to {score.high:.3f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _plural(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"
