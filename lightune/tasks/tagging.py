"""A record of any layout -> its text, the words in it, and a tag for each of them.

    tokens, tags    two lists of one length (JSON, Parquet, CoNLL files)
    text, tags      tags of the words, or of the characters, of a text
    text, spans     parts of a text by their first and end character, with a label

Words of a text: each Chinese, Japanese or Korean character is one of its own, and so is each sign;
            what else stands together is a word (`split: words`). A text can also be parted at its
            blanks alone, or into characters.
Tags:       BILOU, BMES and the like become BIOES; spans become B and I.
Invariants: an entity is a part of the text as it was written, letter by letter. Lists of different
            lengths and spans outside their text are errors that name the record. Spans that begin
            or end inside a word are widened to it, and of spans that overlap the longest is kept;
            both are counted.
Not here:   tags to entities (`metrics/entities.py`), words to tokens (`words.py`).
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal
from unicodedata import category

from lightune.errors import DataError
from lightune.metrics.entities import BARE, OUTSIDE
from lightune.types import Record

Split = Literal["words", "blanks", "characters"]

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
_ENDS_CJK, _BEGINS_CJK = re.compile(rf"[{_CJK}]$"), re.compile(rf"^[{_CJK}]")
PREFIXED = re.compile(r"([BIESLUMW])(?:[-_](.+))?")
"""A tag that says where in an entity its word stands."""
SAME = {"L": "E", "U": "S", "W": "S", "M": "I"}
"""Prefixes of BILOU, BMES and BMEWO, and those of BIOES that mean the same."""


@dataclass(frozen=True, slots=True)
class Tagged:
    """One record as it is tagged.

    Attributes:
        text: of the record; of a list of words, these joined.
        words: first and end character of each word.
        tags: one for each word; None where the record has none.
        listed: the record is a list of words, whose entities are told by their numbers.
        widened: spans that did not begin or end with a word.
        overlapping: spans left out.
    """

    text: str
    words: list[tuple[int, int]]
    tags: list[str] | None
    listed: bool = False
    widened: int = 0
    overlapping: int = 0

    def part(self, label: str, first: int, end: int) -> dict[str, Any]:
        """Return the words from `first` up to `end` as an entity is shown."""
        start, stop = self.words[first][0], self.words[end - 1][1]
        place = (first, end) if self.listed else (start, stop)
        return {
            "text": self.text[start:stop],
            "label": label,
            "start": place[0],
            "end": place[1],
        }


def tagged(record: Record, split: Split = "words") -> Tagged:
    """Return a record's words and their tags.

    Args:
        split: how a text without a list of words is parted. A text whose tags fit another way
            better is parted so.

    Raises:
        DataError: there is neither text nor list of words; or its tags do not fit it.
    """
    tags, spans = _tags_of(record)
    words, text = record.values.get("tokens"), record.values.get("text")
    if spans is not None and text is None:
        raise DataError(
            f"{record.place}: spans are parts of a text, and there is none",
            found=f"{len(spans)} spans; fields: {', '.join(record.values)}",
            mend="name its column: task.text=COLUMN, or give one tag for each token",
        )
    if words is None and text is None:
        raise DataError(
            f"{record.place}: there is neither a text nor a list of words",
            found=f"fields of this record: {', '.join(map(str, record.values)) or 'none'}",
            mend="name the column: task.tokens=COLUMN or task.text=COLUMN",
        )
    if words is not None and spans is None:
        _check_lengths(record, "tokens", {"": len(words)}, tags)
        whole, places = joined(words)
        return Tagged(whole, places, tags, listed=True)
    text = str(text)
    if tags is not None:
        split = _fitting(record, text, tags, split)
    places = [match.span() for match in _ways()[split].finditer(text)]
    if spans is None:
        return Tagged(text, places, tags)
    return _from_spans(record, text, places, spans)


@cache
def _ways() -> dict[Split, re.Pattern[str]]:
    """Return what finds the words of a text; made on first use."""
    # vowel signs of Indian scripts and accents of their own belong to the word they stand in
    marks = "".join(c for c in map(chr, range(0x300, 0xFE30)) if category(c)[0] == "M")
    return {
        "words": re.compile(rf"[{_CJK}]|(?:[^\W{_CJK}]|[{marks}])+|[^\w\s]"),
        "blanks": re.compile(r"\S+"),
        "characters": re.compile(r"\S"),
    }


def fits(record: Record) -> Split | None:
    """Return how a text with a tag for each part of it is parted; None for other records."""
    tags, _ = _tags_of(record)
    if tags is None or "tokens" in record.values or "text" not in record.values:
        return None
    return _fitting(record, str(record.values["text"]), tags, "words")


def joined(words: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """Return words as one text, with blanks between them but not between Chinese characters, and
    where in it each stands."""
    text, places = "", []
    for word in words:
        if text and not (_ENDS_CJK.search(text[-1]) and _BEGINS_CJK.match(word)):
            text += " "
        places.append((len(text), len(text) + len(word)))
        text += word
    return text, places


def parts_of(tag: str) -> tuple[str, str] | None:
    """Return prefix and type of a tag, in BIOES; None for `O` and for tags without prefix."""
    match = None if tag == OUTSIDE else PREFIXED.fullmatch(tag)
    return (SAME.get(match[1], match[1]), match[2] or BARE) if match else None


def with_parts(prefix: str, kind: str) -> str:
    """Return the tag that `parts_of` parts."""
    return prefix if kind == BARE else f"{prefix}-{kind}"


def _tags_of(record: Record) -> tuple[list[str] | None, list[dict[str, Any]] | None]:
    """Return a record's tags and its spans, of which there is one at most."""
    said: Any = record.values.get("tags")
    if said is None:
        return None, None
    if said and isinstance(said[0], dict):
        return None, said
    if not said and "tokens" not in record.values:
        return None, []
    return list(said), None


def _fitting(record: Record, text: str, tags: list[str], split: Split) -> Split:
    counts: dict[str, int] = {way: len(found.findall(text)) for way, found in _ways().items()}
    ways: list[Split] = [split, "blanks", "words", "characters"]
    found = next((way for way in ways if counts[way] == len(tags)), None)
    if found is None:
        _check_lengths(record, "text", counts, tags)
    return found or split


def _check_lengths(
    record: Record, field: str, counts: dict[str, int], tags: list[str] | None
) -> None:
    if tags is None or len(tags) in counts.values():
        return
    said = " or ".join(f"{count} {way}".strip() for way, count in counts.items())
    raise DataError(
        f"{record.place}: there are not as many tags as words",
        found=f"{len(tags)} tags; {field}: {said}",
        mend="give each word its tag, or spans of the text: "
        '[{"start": 0, "end": 3, "label": "PER"}]',
    )


def _from_spans(
    record: Record, text: str, places: list[tuple[int, int]], spans: list[dict[str, Any]]
) -> Tagged:
    """Return the tags of spans, the longest of those that overlap."""
    tags = [OUTSIDE] * len(places)
    starts, ends = [a for a, _ in places], [b for _, b in places]  # both in order
    widened = overlapping = 0
    for span in sorted(spans, key=lambda s: (s["start"] - s["end"], s["start"])):
        start, end, label = span["start"], span["end"], span["label"]
        if (
            not 0 <= start < end <= len(text)
            or span.get("text", text[start:end]) != text[start:end]
        ):
            raise DataError(
                f"{record.place}: a span does not stand in its text",
                found=f"{span!r:.100}; there the text reads {text[max(start, 0) : end]!r:.60}, and "
                f"has {len(text)} characters",
                mend="`start` counts characters from 0, and `end` is the one behind the last",
            )
        first, last = bisect_right(ends, start), bisect_left(starts, end) - 1
        if last < first or any(tag != OUTSIDE for tag in tags[first : last + 1]):
            overlapping += 1
            continue
        bare = text[start:end]
        start += len(bare) - len(bare.lstrip())
        end -= len(bare) - len(bare.rstrip())
        widened += (places[first][0], places[last][1]) != (start, end)
        tags[first : last + 1] = [f"B-{label}"] + [f"I-{label}"] * (last - first)
    return Tagged(text, places, tags, widened=widened, overlapping=overlapping)
