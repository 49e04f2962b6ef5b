"""The answers of a record, and where in its passage they stand: checked, mended, or said.

Why:        an offset that is one character off teaches the model to cut words in two, and nothing
            in the scores tells. So every answer is looked up in its passage.
Rule:       an offset at which the answer stands is taken. One that is wrong is mended where the
            answer occurs exactly once; where it does not, the answer is not learnt. An answer
            without offset is taken where it first occurs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lightune.errors import DataError
from lightune.types import Place, Record

SHOWN = 5


@dataclass(slots=True)
class Found:
    """What a look at all answers found.

    Attributes:
        mended: places of answers whose offset was wrong, and that occur once.
        ambiguous: of answers without offset that occur several times.
        lost: of records none of whose answers was found.
    """

    mended: list[Place] = field(default_factory=list)
    ambiguous: list[Place] = field(default_factory=list)
    lost: list[Place] = field(default_factory=list)

    def notes(self) -> list[str]:
        """Return one sentence for each kind of finding, with the first places."""
        said = (
            (self.mended, "offsets of answers are wrong and were mended (the text occurs once)"),
            (self.ambiguous, "answers without offset occur several times: the first is taken"),
            (self.lost, "questions are read but not learnt: the answer is not at its offset"),
        )
        return [f"{len(places)} {what}: {_shown(places)}" for places, what in said if places]


def answers_of(record: Record) -> list[dict[str, Any]] | None:
    """Return `[{"text", "start"}]`; empty where there is no answer, None where nothing is said."""
    answers = record.values.get("answer")
    start = record.values.get("answer_start")
    if answers and len(answers) == 1 and answers[0]["start"] is None and start is not None:
        return [{**answers[0], "start": int(start)}]
    return None if answers is None else list(answers)


def expected(record: Record) -> list[str]:
    """Return the texts of a record's answers.

    Raises:
        DataError: it does not say whether there is one.
    """
    answers = answers_of(record)
    if answers is None:
        raise DataError(
            f"{record.place}: the answer is missing",
            found=f"fields of this record: {', '.join(map(str, record.values))}",
            mend="write it, or an empty list if the passage has none",
        )
    return [answer["text"] for answer in answers]


def span_of(record: Record, found: Found | None = None) -> tuple[int, int] | None:
    """Return the characters of the first answer that stands in the passage.

    Args:
        found: takes what is to be said.

    Returns:
        First and end character; None where there is no answer, or none was found.
    """
    passage, found = str(record.values.get("context", "")), found or Found()
    answers = answers_of(record) or []
    for answer in answers:
        text, start = answer["text"], answer["start"]
        if start is not None and start >= 0 and passage.startswith(text, start):
            return start, start + len(text)
        count = passage.count(text)
        if start is None and count:
            if count > 1:
                found.ambiguous.append(record.place)
        elif count == 1:
            found.mended.append(record.place)
        else:
            continue
        first = passage.index(text)
        return first, first + len(text)
    if answers:
        found.lost.append(record.place)
    return None


def _shown(places: Sequence[Place]) -> str:
    return ", ".join(map(str, places[:SHOWN])) + (" …" if len(places) > SHOWN else "")
