"""What the cells of each kind of field are read as, beside texts and labels (`records.py`).

    number    a finite number
    passage   a text that several records share: they are kept on one side of a split
    answers   parts of a passage: `[{"text", "start"}]`, `start` in characters or None
    turns     a conversation: whatever the file holds, the task reads it

A reader returns None for an empty cell, and raises `ValueError` with what it wanted.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

TEXTS = ("text", "passage")
"""Kinds that are read as one text."""
READ = (*TEXTS, "turns")
"""Kinds that the model reads; a record of which all are empty has nothing to say."""
LEARNT = ("label", "number", "answers")
"""Kinds that are to be predicted, and so may be missing from new data."""


def number(cell: Any) -> float | None:
    """Return a cell as a number.

    Raises:
        ValueError: it is none.
    """
    if cell is None or cell != cell or (isinstance(cell, str) and not cell.strip()):
        return None
    if isinstance(cell, bool) or not (isinstance(cell, str) or hasattr(cell, "__float__")):
        raise ValueError("a number")
    try:
        value = float(cell)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("a number") from None
    if math.isnan(value):
        return None
    if math.isinf(value):
        raise ValueError("a finite number")
    return value


def answers(cell: Any) -> list[dict[str, Any]] | None:
    """Return a cell as a list of answers; an empty list says that there is none.

    Takes a text, a list of texts, SQuAD's `[{"text", "answer_start"}]`, and the same by column as
    data sets of the hub have it: `{"text": […], "answer_start": […]}`; lists and objects also as
    JSON text, as CSV files hold them.

    Raises:
        ValueError: it is none of these.
    """
    wanted = 'answers, such as "Paris" or [{"text": "Paris", "answer_start": 17}]'
    if cell is None or cell != cell or (isinstance(cell, str) and not cell.strip()):
        return None
    cell = _parsed(cell)
    if isinstance(cell, Mapping) and isinstance(cell.get("text"), list):
        starts = cell.get("answer_start") or [None] * len(cell["text"])
        if len(starts) != len(cell["text"]):
            raise ValueError(f"as many texts as starts of {wanted}")
        items: list[Any] = [
            {"text": text, "answer_start": start}
            for text, start in zip(cell["text"], starts, strict=True)
        ]
    else:
        items = cell if isinstance(cell, list) else [cell]
    found = []
    for item in items:
        one = item if isinstance(item, Mapping) else {"text": item}
        text, start = one.get("text"), one.get("answer_start")
        if isinstance(text, int | float) and not isinstance(text, bool):
            text = str(text)
        whole = start is None or (isinstance(start, int) and not isinstance(start, bool))
        if not isinstance(text, str) or not text.strip() or not whole:
            raise ValueError(wanted)
        found.append({"text": text, "start": start})
    return found


def turns(cell: Any) -> Any:
    """Return a cell as it is."""
    blank = cell is None or cell != cell or (isinstance(cell, str) and not cell.strip())
    return None if blank else cell


def _parsed(cell: Any) -> Any:
    """Return what a list or an object written as JSON holds; any other cell as it is."""
    if not isinstance(cell, str) or cell.strip()[:1] not in ("[", "{"):
        return cell
    try:
        return json.loads(cell)
    except ValueError:  # a text that begins with a bracket
        return cell


READERS: dict[str, Callable[[Any], Any]] = {"number": number, "answers": answers, "turns": turns}
