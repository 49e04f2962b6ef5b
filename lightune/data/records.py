"""Tables -> records by task field; labels as words; unusable rows counted, not lost in silence."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightune.data.columns import UNTRAINED, FieldLike, Mapped, Trained, choose_columns
from lightune.data.kinds import LEARNT, READ, READERS, TEXTS
from lightune.data.table import Table
from lightune.errors import DataError
from lightune.types import Place, Record

JOIN = "\n"
"""What stands between the columns of one text field."""

_WHOLE = re.compile(r"([+-]?\d+)\.0+")
_BOOLEANS = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}
_SHOWN = 5


@dataclass(slots=True)
class Made:
    """The records of some tables, and what was said and left out on the way.

    Attributes:
        rows: rows read, left-out ones included.
        empty: places of rows left out because their text is empty.
        unlabelled: places of rows left out because their label is missing.
        multi_label: whether labels were read as lists.
        columns: the columns read, by field, where the tables have names for them and agree.
    """

    records: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: int = 0
    empty: list[Place] = field(default_factory=list)
    unlabelled: list[Place] = field(default_factory=list)
    multi_label: bool = False
    columns: dict[str, list[str]] = field(default_factory=dict)


def make_records(
    tables: Sequence[Table],
    fields: Sequence[FieldLike],
    columns: Mapped,
    need: str = "train",
    multi_label: bool | None = False,
    trained: Trained = UNTRAINED,
) -> Made:
    """Return the records of `tables`.

    To train (or to score), rows with an empty text or without a label are left out, counted and
    noted; to predict, every row stays, so that predictions and rows keep step.

    Args:
        columns: the user's own mapping, see `columns.choose_columns`.
        need: `train` or `predict`.
        multi_label: split labels such as `a|b`; an empty cell then means none of the classes.
            None lets the data decide, see `looks_multi_label`.
        trained: what an earlier training read, see `columns.choose_columns`.

    Raises:
        DataError: a column is absent, a cell has no usable type, or no row is left.
    """
    made = Made()
    chosen = []
    for table in tables:
        found, notes = choose_columns(table, fields, columns, need, trained)
        chosen.append(found)
        made.notes += table.notes + notes
        made.rows += len(table)
    if all(table.named for table in tables):
        made.columns = {
            name: read
            for name, read in (chosen[0] if chosen else {}).items()
            if all(found.get(name) == read for found in chosen)
        }
    names = [f.name for f in fields if f.kind == "label"]
    labels = [
        table.columns[found[name][0]]
        for table, found in zip(tables, chosen, strict=True)
        for name in names
        if name in found
    ]
    made.multi_label = looks_multi_label(labels) if multi_label is None else multi_label
    for table, found in zip(tables, chosen, strict=True):
        _add(made, table, fields, found, need, made.multi_label)
    _note_left_out(made, tables, made.multi_label)
    return made


def looks_multi_label(columns: Sequence[Sequence[Any]]) -> bool:
    """Whether more than half of the labels in these columns are lists or `a|b`."""
    cells = [cell for column in columns for cell in column if cell is not None and cell != ""]
    several = sum(
        isinstance(c, list | tuple | set) or (isinstance(c, str) and "|" in c) for c in cells
    )
    return 2 * several > len(cells)


def label_of(value: Any) -> str | list[str] | None:
    """Return a label as a word, the same whatever file format it came from.

    Booleans become `true` and `false`, whole numbers lose their `.0`, lists keep their order
    without repeats. None stands for a missing label.
    """
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        words = [label_of(item) for item in items]
        return list(dict.fromkeys(word for word in words if isinstance(word, str)))
    if value is None or value != value:  # NaN
        return None
    word = str(value).strip()
    whole = _WHOLE.fullmatch(word)
    return whole[1] if whole else _BOOLEANS.get(word, word) or None


def split_labels(value: Any) -> list[str] | None:
    """Return the labels of one multi-label cell: `a|b`, or a list. None where it is missing."""
    if isinstance(value, str):
        value = value.split("|")
    labels = label_of(value)
    return [labels] if isinstance(labels, str) else labels


def _add(
    made: Made,
    table: Table,
    fields: Sequence[FieldLike],
    chosen: dict[str, list[str]],
    need: str,
    multi_label: bool,
) -> None:
    readers = []
    for f in fields:
        if f.name in chosen:
            cells = [table.columns[name] for name in chosen[f.name]]
            strict = f.needed_to_train if need == "train" else False
            values = _values(table, f, chosen[f.name], cells, multi_label)
            readers.append((f.name, f.kind, strict, values))
    read = [values for _, kind, _, values in readers if kind in READ]
    for i in range(len(table)):
        place = table.place(i)
        if need == "train":
            blank = any(strict and kind in TEXTS and not v[i] for _, kind, strict, v in readers)
            if blank or (read and all(_nothing(values[i]) for values in read)):
                made.empty.append(place)
                continue
            if any(strict and kind in LEARNT and v[i] is None for _, kind, strict, v in readers):
                made.unlabelled.append(place)
                continue
        record = {name: v[i] for name, kind, _, v in readers if v[i] is not None}
        made.records.append(Record(record, place))


def _nothing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value)


def _values(
    table: Table, f: FieldLike, names: list[str], cells: list[list[Any]], multi_label: bool
) -> list[Any]:
    """Return one field's value for every row."""
    if f.kind == "label":
        if len(cells) > 1:
            return _flags(table, names, cells)
        column = cells[0]
        for i, value in enumerate(column):
            if isinstance(value, dict):
                raise _wrong_type(table, i, names[0], value, "a label")
        return [split_labels(v) if multi_label else label_of(v) for v in column]
    if f.kind in READERS:
        return [_read(table, i, names[0], READERS[f.kind], v) for i, v in enumerate(cells[0])]
    if f.kind not in TEXTS:
        return cells[0]
    columns = [
        [_text(table, i, name, value) for i, value in enumerate(column)]
        for name, column in zip(names, cells, strict=True)
    ]
    if len(columns) == 1:
        return columns[0]
    return [JOIN.join(filter(None, row)) for row in zip(*columns, strict=True)]


def _flags(table: Table, names: list[str], cells: list[list[Any]]) -> list[list[str]]:
    """Return the labels of rows that have one column of yes or no per class."""
    labels: list[list[str]] = [[] for _ in range(len(table))]
    for name, column in zip(names, cells, strict=True):
        for i, value in enumerate(column):
            flag = label_of(value)
            if flag not in ("0", "1", "false", "true"):
                raise _wrong_type(table, i, name, value, "0 or 1")
            if flag in ("1", "true"):
                labels[i].append(name)
    return labels


def _read(table: Table, row: int, column: str, reader: Callable[[Any], Any], value: Any) -> Any:
    try:
        return reader(value)
    except ValueError as error:
        raise _wrong_type(table, row, column, value, str(error)) from None


def _text(table: Table, row: int, column: str, value: Any) -> str:
    """Return a cell as text; a blank one as the empty string."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:  # half of a surrogate pair, which no tokenizer takes
            raise _wrong_type(table, row, column, value, "whole characters only") from None
        return value if value and not value.isspace() else ""
    if value is None or value != value:
        return ""
    if isinstance(value, list | dict | bytes):
        raise _wrong_type(table, row, column, value, "a text")
    return str(value)


def _wrong_type(table: Table, row: int, column: str, value: Any, wanted: str) -> DataError:
    return DataError(
        f"{table.place(row)}: column {column!r} does not hold {wanted}",
        found=f"{type(value).__name__}: {value!r:.60}",
        mend=f"write {wanted} there, or name another column (has: {', '.join(table.columns)})",
    )


def _note_left_out(made: Made, tables: Sequence[Table], multi_label: bool) -> None:
    for places, what in ((made.empty, "an empty text"), (made.unlabelled, "no label")):
        if places:
            made.notes.append(f"rows left out for {what}: {len(places)} ({_shown(places)})")
    bare = sum(r.values.get("label") == [] for r in made.records) if multi_label else 0
    if bare:
        made.notes.append(f"rows with an empty label, taken as none of the classes: {bare}")
    if made.records or not made.rows:
        return
    files = ", ".join(table.file for table in tables)
    if made.unlabelled:
        raise DataError(
            f"{files}: no row has a label",
            found=f"{len(made.unlabelled)} rows without label, {len(made.empty)} without text",
            mend="name the column that holds the labels: `label: COLUMN` under `task`",
        )
    raise DataError(
        f"{files}: every text is empty",
        found=f"{len(made.empty)} rows, first: {_shown(made.empty)}",
        mend="name the column that holds the texts: `text: COLUMN` under `task`",
    )


def _shown(places: Sequence[Place]) -> str:
    more = " …" if len(places) > _SHOWN else ""
    return ", ".join(map(str, places[:_SHOWN])) + more
