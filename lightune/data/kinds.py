"""What the cells of each kind of field are read as, beside texts and labels (`records.py`).

    number    a finite number
    passage   a text that several records share: they are kept on one side of a split
    answers   parts of a passage: `[{"text", "start"}]`, `start` in characters or None
    turns     a conversation: whatever the file holds, the task reads it
    tokens    a text that is parted already: a list of words or characters
    tags      one tag for each token, as a list of words; or spans of a text, `[{"start", "end",
              "label"}]`, in characters

A reader returns None for an empty cell, and raises `ValueError` with what it wanted.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

TEXTS = ("text", "passage")
"""Kinds that are read as one text."""
WHOLE = ("turns", "tokens")
"""Kinds that hold what is to be read, in another form than a text."""
READ = (*TEXTS, *WHOLE)
"""Kinds that the model reads; a record of which all are empty has nothing to say."""
LEARNT = ("label", "number", "answers", "tags")
"""Kinds that are to be predicted, and so may be missing from new data."""


def number(cell: Any) -> float | None:
    """Return a cell as a number.

    Raises:
        ValueError: it is none.
    """
    if _blank(cell):
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
    if _blank(cell):
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
    return None if _blank(cell) else cell


def tokens(cell: Any) -> list[str] | None:
    """Return a cell as a list of words: a list, also as JSON text, or words parted by blanks.

    Raises:
        ValueError: it is neither.
    """
    wanted = 'words, such as ["Ada", "lives", "in", "Bern"]'
    if _blank(cell):
        return None
    cell = _parsed(cell)
    words = cell.split() if isinstance(cell, str) else cell
    if not isinstance(words, list | tuple):
        raise ValueError(wanted)
    if not all(_is_word(word) and str(word) for word in words):
        raise ValueError(f"{wanted}, none of them empty")
    return [str(word) for word in words] or None


def tags(cell: Any) -> list[Any] | None:
    """Return a cell as a list of tags, or as a list of spans.

    Takes tags as a list, also as JSON text, or parted by blanks; spans as objects with `start`,
    `end` and `label`, or as lists of these three. An empty list says that there is nothing.

    Raises:
        ValueError: it is none of these.
    """
    wanted = 'tags, such as ["B-PER", "O"], or spans, such as [{"start": 0, "end": 3, '
    wanted += '"label": "PER"}]'
    if _blank(cell):
        return None
    cell = _parsed(cell)
    items = cell.split() if isinstance(cell, str) else cell
    if not isinstance(items, list | tuple):
        raise ValueError(wanted)
    if all(_is_word(item) and str(item).strip() for item in items):
        return [str(item).strip() for item in items]
    if any(_is_word(item) for item in items):
        raise ValueError(f"{wanted}, not both")
    return [_span(item, wanted) for item in items]


def _span(item: Any, wanted: str) -> dict[str, Any]:
    """Return a span as `{"start", "end", "label"}`, and its `text` where it is given."""
    if isinstance(item, list | tuple) and len(item) == 3:
        item = dict(zip(("start", "end", "label"), item, strict=True))
    if not isinstance(item, Mapping):
        raise ValueError(wanted)
    labels = (item[name] for name in _LABELS if _is_word(item.get(name)))
    label = next((label for label in labels if str(label).strip()), None)
    places = item.get("start"), item.get("end")
    if label is None or not all(isinstance(at, int) and type(at) is not bool for at in places):
        raise ValueError(wanted)
    text = {"text": item["text"]} if isinstance(item.get("text"), str) else {}
    return {"start": places[0], "end": places[1], "label": str(label).strip(), **text}


_LABELS = ("label", "type", "tag", "entity", "entity_group")
"""What files call the kind of a span."""


def _is_word(item: Any) -> bool:
    return isinstance(item, str | int) and not isinstance(item, bool)


def _blank(cell: Any) -> bool:
    return cell is None or cell != cell or (isinstance(cell, str) and not cell.strip())


def _parsed(cell: Any) -> Any:
    """Return what a list or an object written as JSON holds; any other cell as it is."""
    if not isinstance(cell, str) or cell.strip()[:1] not in ("[", "{"):
        return cell
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):  # a text that begins with a bracket, or with very many
        return cell


READERS: dict[str, Callable[[Any], Any]] = {
    "number": number,
    "answers": answers,
    "turns": turns,
    "tokens": tokens,
    "tags": tags,
}
