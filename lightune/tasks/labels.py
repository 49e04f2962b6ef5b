"""Label names as users write them: their order, several in one cell, and names nobody knows.

Invariants: the order of labels depends on their names alone, never on the order of rows, so two
            splits of one file number their classes alike.
Not here:   reading a column (the data folder has normalised numbers and booleans to words).
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from lightune.errors import DataError, nearest
from lightune.types import Record

SEPARATOR = "|"
"""Between the labels of one cell, as in `sport|politics`."""

MANY = 100
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_FRACTION = re.compile(r"[+-]?[0-9]*\.[0-9]+")


def natural_order(names: Iterable[str]) -> list[str]:
    """Return distinct names sorted as people do: -1, 2, 10, then `class 2`, `class 10`, `spam`."""
    return sorted(set(names), key=_natural_key)


def label_names(value: Any) -> list[str]:
    """Return the labels of a multi-label cell, without doubles: a list, or `a|b`.

    An empty cell or list holds no label, which is a truth about the record and not a gap.
    """
    parts = value if isinstance(value, (list, tuple, set)) else str(value).split(SEPARATOR)
    return list(dict.fromkeys(name for part in parts if (name := str(part).strip())))


def is_missing(value: Any) -> bool:
    """Return whether a cell holds nothing at all."""
    return value is None or (isinstance(value, str) and not value.strip())


def single_name(record: Record) -> str:
    """Return the one label of a record.

    Raises:
        DataError: it has none, or several.
    """
    value = record.values.get("label")
    if isinstance(value, (list, tuple, set)):
        if len(value) == 1:
            return str(next(iter(value)))
        raise DataError(
            f"{record.place}: {len(value)} labels where exactly one is needed",
            found=str(sorted(map(str, value))),
            mend="multi_label: true   (in the recipe's `task`), if several labels may hold at once",
        )
    if is_missing(value):
        raise DataError(
            f"{record.place}: the label is missing",
            found=repr(value),
            mend="fill the cell, or remove the row",
        )
    return str(value)


def several_names(record: Record) -> list[str]:
    """Return the labels of a multi-label record.

    Raises:
        DataError: the record has no label cell.
    """
    if record.values.get("label") is None:
        raise DataError(
            f"{record.place}: the label is missing",
            found="no value",
            mend="write an empty list (or an empty cell) if no label holds for this row",
        )
    return label_names(record.values["label"])


def looks_multi_label(records: Sequence[Record]) -> tuple[bool, str]:
    """Decide from the data whether several labels may hold at once, and say why.

    More than half of the labelled rows must hold a list or `a|b`.

    Returns:
        The decision, and a sentence for the user; empty where nothing hints at several labels.
    """
    cells = [r.values["label"] for r in records if not is_missing(r.values.get("label"))]
    lists = sum(isinstance(cell, (list, tuple, set)) for cell in cells)
    joined = sum(isinstance(cell, str) and SEPARATOR in cell for cell in cells)
    if 2 * (lists + joined) > len(cells):
        form = "lists" if lists >= joined else f"joined by {SEPARATOR!r}"
        return True, (
            f"taken as multi-label: labels are {form} in {lists + joined} of {len(cells)} rows "
            "(task.multi_label=false undoes it)"
        )
    if joined:
        return False, (
            f"{joined} of {len(cells)} labels contain {SEPARATOR!r} and are taken as one name "
            "each; if they are several labels, set task.multi_label=true"
        )
    return False, ""


def refuse_free_text(counts: Counter[str], records: Sequence[Record]) -> None:
    """Stop where the label column is plainly no label column.

    That is: more than half of the rows have a label of their own, and there are hundreds of
    labels, or they are sentences, or decimal numbers.

    Raises:
        DataError: naming some of the values and the mend.
    """
    names = list(counts)
    if 2 * len(names) <= len(records) or len(names) < 10:
        return
    words = sum(len(name.split()) for name in names) / len(names)
    fractions = sum(bool(_FRACTION.fullmatch(name)) for name in names) / len(names)
    if len(names) < MANY and words <= 4 and fractions < 0.5:
        return
    kind = "numbers to be estimated" if fractions >= 0.5 else "text or ids"
    shown = ", ".join(repr(name if len(name) <= 30 else f"{name[:29]}…") for name in names[:3])
    raise DataError(
        f"{records[0].place.file}: the label column looks like {kind}, not like labels",
        found=f"{len(names)} different labels in {len(records)} rows, such as {shown}",
        mend="name the column that holds the labels: task.label=COLUMN",
    )


def unknown_label(name: str, record: Record, known: Sequence[str], more: int = 0) -> DataError:
    """Return the error for a label that training did not know.

    Args:
        more: how many further records have such a label.
    """
    near = nearest(name, known)
    shown = ", ".join(known[:20]) + (f" … ({len(known)} in all)" if len(known) > 20 else "")
    others = f" (and {more} further {'row' if more == 1 else 'rows'})" if more else ""
    hint = f"did you mean {near!r}? " if near else ""
    return DataError(
        f"{record.place}: the label {name!r} is not among those trained{others}",
        found=f"labels trained: {shown}",
        mend=f"{hint}correct or remove the row, or train with examples of {name!r}",
    )


def _natural_key(name: str) -> tuple[Any, ...]:
    if _NUMBER.fullmatch(name):
        return 0, float(name), (), name
    # split() with a group alternates text and digits, so keys never compare text with a number;
    # digits compare by length first, since int() refuses very long ones
    pieces = [
        (len(piece.lstrip("0")), piece.lstrip("0")) if i % 2 else piece.casefold()
        for i, piece in enumerate(re.split(r"([0-9]+)", name))
    ]
    return 1, 0.0, tuple(pieces), name
