"""A finished run, opened for new data whose columns may have other names than in training.

Also here: the texts of standard input, decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lightune.cli.output import Output
from lightune.errors import ConfigError, DataError

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
def opened(
    folder: Path, columns: Sequence[str] | None, out: Output
) -> Iterator[tuple[Run, dict[str, list[str]]]]:
    """Yield the run in `folder`, and the columns of new data that the user named, by field.

    Raises:
        RunError: there is no finished run.
        ConfigError: a `--column` names no field of the run's task.
        ColumnError: the data lacks a column; the mend is the option.
    """
    from lightune.data.columns import ColumnError
    from lightune.run import Run

    run = Run.open(folder, note=out.note)
    fields = [field.name for field in run.recipe.task.fields]
    try:
        yield run, _by_field(columns or (), fields)
    except ColumnError as error:
        mend = f"say which it is: --column {error.field}={error.column}"
        raise ColumnError(error.problem, error.found, mend) from None


def decoded(data: bytes) -> str:
    """Return what was read from standard input as text.

    Raises:
        DataError: it is not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            "standard input is not UTF-8",
            found=f"byte {error.object[error.start]:#04x} at position {error.start}",
            mend="convert it first: iconv -f gb18030 -t utf-8",
        ) from None


def _by_field(columns: Sequence[str], fields: Sequence[str]) -> dict[str, list[str]]:
    """Return the columns by field; a field named twice has several."""
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
    return named
