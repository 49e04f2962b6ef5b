"""A finished run, opened for new data whose columns may have other names than in training."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lightune.cli.output import Output
from lightune.errors import ConfigError

if TYPE_CHECKING:
    from lightune.run import Run

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]

Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="FIELD=COLUMN",
        help="Where FILE names a column otherwise than training did: --column text=body.",
    ),
]


@contextmanager
def opened(folder: Path, columns: Sequence[str] | None, out: Output) -> Iterator[Run]:
    """Yield the run in `folder`, which reads new data by the columns that the user named.

    Raises:
        RunError: there is no finished run.
        ConfigError: a `--column` names no field of the run's task.
        ColumnError: the data lacks a column; the mend is the option, for a run's recipe is fixed.
    """
    from lightune.data.columns import ColumnError
    from lightune.recipe import load_recipe
    from lightune.run import Run

    run = Run.open(folder, note=out.note)
    fields = [field.name for field in run.recipe.task.fields]
    run.recipe = load_recipe(run.recipe, _changes(columns or (), fields))
    try:
        yield run
    except ColumnError as error:
        field = re.search(r"`(\w+)`", error.problem)
        raise ColumnError(
            error.problem,
            found=error.found,
            mend=f"say which it is: --column {field[1] if field else fields[0]}=COLUMN",
        ) from None


def _changes(columns: Sequence[str], fields: Sequence[str]) -> dict[str, list[str] | str]:
    """Return the options as changes of a recipe; a field named twice has several columns."""
    named: dict[str, list[str]] = {}
    for text in columns:
        field, equals, column = text.partition("=")
        if not equals or not column or field not in fields:
            raise ConfigError(
                f"--column {text}: not of the form FIELD=COLUMN",
                found=f"fields of this task: {', '.join(fields)}",
                mend=f"--column {fields[0]}=COLUMN",
            )
        named.setdefault(field, []).append(column)
    return {
        f"task.{field}": names[0] if len(names) == 1 else names for field, names in named.items()
    }
