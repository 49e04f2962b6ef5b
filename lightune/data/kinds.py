"""What the cells of each kind of field are read as, beside texts and labels (`records.py`).

    number    a finite number
    turns     whatever the file holds: the task reads it

A reader returns None for an empty cell, and raises `ValueError` with what it wanted.
"""

import math
from collections.abc import Callable
from typing import Any

TEXTS = ("text",)
"""Kinds that the model reads; a record of which all are empty has nothing to say."""
LEARNT = ("label", "number")
"""Kinds that are to be predicted, and so may be missing from new data."""


def number(cell: Any) -> float | None:
    """Return a cell as a number.

    Raises:
        ValueError: it is none.
    """
    if cell is None or cell != cell or (isinstance(cell, str) and not cell.strip()):
        return None
    if isinstance(cell, bool) or not isinstance(cell, int | float | str):
        raise ValueError("a number")
    try:
        value = float(cell)
    except (ValueError, OverflowError):
        raise ValueError("a number") from None
    if math.isnan(value):
        return None
    if math.isinf(value):
        raise ValueError("a finite number")
    return value


READERS: dict[str, Callable[[Any], Any]] = {"number": number}
