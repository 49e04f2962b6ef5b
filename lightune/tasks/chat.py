"""Rows of four layouts -> the turns of a conversation.

    messages     [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]
    ShareGPT     [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]
    prompt       prompt and completion, or question and answer, each a text
    Alpaca       instruction, input (may be empty) and output, each a text

The first two stand in one column (as JSON text in a CSV file), the others in two or three.

Invariants: turns alternate, the user first, after a system turn if there is one; what cannot be
            read so is an error that names the row, never a turn left out.
Not here:   how turns become one text (`chat_template.py`), which columns there are (`instruct.py`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightune.errors import DataError
from lightune.types import Place, Record

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
"""What data sets call who speaks -> what chat templates call it."""

READ = {"role", "content", "from", "value", "weight", "name"}
"""Keys of a turn that are understood; any other that is not empty is an error."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says.

    Attributes:
        role: `system`, `user` or `assistant`.
        content: the text.
        learnt: an answer is learnt unless its `weight` is 0.
    """

    role: str
    content: str
    learnt: bool = True

    def to_message(self) -> dict[str, str]:
        """Return it as chat templates take it."""
        return {"role": self.role, "content": self.content}


def turns_of(record: Record, system: str | None = None) -> list[Turn]:
    """Return the turns of a record, in order.

    Args:
        record: with `messages`, or with `prompt` and perhaps `context`, `answer` and `system`.
        system: what stands before every conversation that has no system turn of its own.

    Raises:
        DataError: a turn cannot be read, or the turns do not alternate.
    """
    values, place = record.values, record.place
    if has_turns(record):
        turns = [
            _turn(item, number, place)
            for number, item in enumerate(_list(values["messages"], place), start=1)
        ]
    else:
        parts = [str(values.get(name) or "").strip("\n") for name in ("prompt", "context")]
        turns = [Turn("user", "\n\n".join(part for part in parts if part.strip()))]
        if str(values.get("answer") or "").strip():
            turns.append(Turn("assistant", str(values["answer"])))
    own = values.get("system") or system
    if own and not (turns and turns[0].role == "system"):
        turns.insert(0, Turn("system", str(own)))
    _check_order(turns, place)
    return turns


def has_turns(record: Record) -> bool:
    """Whether a record's conversation stands in one column, and its cell is not empty."""
    value = record.values.get("messages")
    if value is None or isinstance(value, float):  # NaN, as tables mark an empty cell
        return False
    return not isinstance(value, str) or bool(value.strip())


def _list(value: Any, place: Place) -> list[Any]:
    """Return a cell's list of turns; a text is read as JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise _wrong(place, "the messages are not JSON", f"{value!r:.80}") from None
    if hasattr(value, "tolist"):  # an array, as Parquet files give
        value = value.tolist()
    if not isinstance(value, list | tuple) or not value:
        raise _wrong(place, "the messages are not a list of turns", f"{value!r:.80}")
    return list(value)


def _turn(item: Any, number: int, place: Place) -> Turn:
    if not isinstance(item, Mapping):
        raise _wrong(place, f"turn {number} is not a mapping", f"{item!r:.80}")
    unknown = [str(key) for key in item if key not in READ and item[key] not in (None, "", [], {})]
    if unknown:
        raise _wrong(
            place,
            f"turn {number} holds what is not read here: {', '.join(unknown)}",
            f"{ {key: item[key] for key in unknown}!r:.80}",
            "remove these keys if they are not to be learnt from",
        )
    said = item.get("role", item.get("from"))
    role = ROLES.get(str(said).lower())
    if role is None:
        raise _wrong(
            place,
            f"turn {number}: nobody is known as {said!r}",
            f"{dict(item)!r:.80}",
            f"one of {', '.join(ROLES)}",
        )
    weight = item.get("weight")
    if weight not in (None, 0, 1):
        raise _wrong(place, f"turn {number}: a weight is 0 or 1", repr(weight), "weight: 1")
    return Turn(role, _content(item, number, place), weight != 0)


def _content(item: Mapping[str, Any], number: int, place: Place) -> str:
    content = item.get("content", item.get("value"))
    if isinstance(content, list | tuple):
        kinds = {part.get("type") if isinstance(part, Mapping) else None for part in content}
        if kinds != {"text"}:
            raise _wrong(place, f"turn {number} is not text alone", f"{content!r:.80}")
        content = "".join(str(part["text"]) for part in content)
    if not isinstance(content, str):
        raise _wrong(place, f"turn {number} has no text", f"{dict(item)!r:.80}")
    return content


def _check_order(turns: list[Turn], place: Place) -> None:
    spoken = turns[1:] if turns and turns[0].role == "system" else turns
    for number, turn in enumerate(spoken):
        expected = ("user", "assistant")[number % 2]
        if turn.role != expected:
            raise _wrong(
                place,
                f"turn {number + 1 + len(turns) - len(spoken)} is the {turn.role}'s, where the "
                f"{expected}'s is due",
                " → ".join(t.role for t in turns),
                "an optional system turn, then user and assistant by turns; join the texts of two "
                "turns of one side",
            )
    if not spoken or not any(turn.content.strip() for turn in spoken if turn.role == "user"):
        raise _wrong(
            place,
            "nothing is asked",
            " → ".join(f"{t.role}: {t.content!r:.30}" for t in turns) or "no turn",
            "a question, or remove the row",
        )


def _wrong(place: Place, problem: str, found: str, mend: str = "") -> DataError:
    form = '[{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]'
    return DataError(f"{place}: {problem}", found=found, mend=mend or f"write turns so: {form}")
