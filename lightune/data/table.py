"""One source as it was read: cells by column, and the line each row starts on.

Why:        readers differ (CSV, JSON, frames …), what follows does not: columns are chosen and
            records made from this one shape.
Invariants: every column has one cell per entry of `lines`; a cell that the source lacks is None.
Not here:   which column is which field (`columns.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightune.errors import DataError
from lightune.types import Place


@dataclass(slots=True)
class Table:
    """The rows of one file or in-memory object.

    Attributes:
        file: what messages call it: the path as given, `hf:org/name#split`, `<DataFrame>` …
        columns: cells by column name, in the source's order.
        lines: 1-based physical line (text files) or row (everything else) where each row starts.
        named: the source named its columns; False when they are `column_1`, `column_2` …
        notes: what was guessed while reading, one sentence each.
    """

    file: str
    columns: dict[str, list[Any]]
    lines: Sequence[int]
    named: bool = True
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.lines)

    def place(self, row: int) -> Place:
        return Place(self.file, self.lines[row])


def from_objects(file: str, objects: Sequence[Any], lines: Sequence[int]) -> Table:
    """Make a table of dicts, whose keys may differ from row to row.

    Raises:
        DataError: a row is not an object.
    """
    names: dict[Any, None] = {}
    for row, line in zip(objects, lines, strict=True):
        if not isinstance(row, Mapping):
            raise DataError(
                f"{file}:{line}: a row must be an object with named values",
                found=f"{type(row).__name__}: {row!r:.60}",
                mend='write each row as {"text": "…", "label": "…"}',
            )
        names.update(dict.fromkeys(row))
    return Table(file, {str(name): [row.get(name) for row in objects] for name in names}, lines)
