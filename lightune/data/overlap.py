"""Texts that training and its tests share: exact ones stop the run, near ones are counted.

    exact   every field that is read is equal (`split.text_key`)
    near    not exact, but in each field the same words in the same order once capitals,
            punctuation and white space are left out; or at least `LEAST` different words, of
            which all but a fifth are the same: |A and B| / |A or B| >= `LIKE` (Jaccard)

Why:        a score on texts that were trained on says nothing of new ones. Rows that Lightune
            holds out itself never share a text with those it trains on; given files may.
How:        the words of a text, rare ones first: two texts that are alike share one of the first
            few (the prefix filter of Bayardo et al. 2007, "Scaling up all pairs similarity
            search"). Nothing is drawn at random, and no pair that is compared is missed.
Limits:     `MOST` rows of a split, evenly spread, and the first `LONGEST` characters of a field
            are compared. Texts of few different words, as Chinese characters are, are alike in
            their first ones often: after `WORK` steps (seconds) no further rows of train are
            looked at. How many rows were is in the report. Chinese and Japanese characters
            count as words.
Not here:   what shares are held out (`split.py`), the report's lines (`report.py`).
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

from lightune.data.report import count, flat_texts
from lightune.data.split import LEARNT, text_key
from lightune.errors import DataError
from lightune.types import Record

LIKE = 0.8
"""Share of the different words that two near duplicates have in common."""

LEAST = 5
"""Different words from which on a text with other words can be a near duplicate."""

MOST = 20_000
"""Rows of a split that are compared."""

LONGEST = 2_000
"""Characters of a field that are compared."""

WORK = 10_000_000
"""Steps after which no further pairs are compared: one for each word of one of the two texts."""

SHOWN = 5

Row = TypeVar("Row")

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(f"[{_CJK}]|[^\\W_{_CJK}]+")

Words = tuple[tuple[str, ...], ...]
"""Of a record, field by field."""


def refuse(splits: Mapping[str, Sequence[Record]], key: str) -> None:
    """Stop a training whose validation or test rows it would learn.

    Args:
        splits: `train`, and what it is tested on.
        key: the recipe's key that allows it.

    Raises:
        DataError: texts of a split stand in `train` as well.
    """
    places = {text_key(record): record.place for record in splits["train"]}
    for name, records in splits.items():
        shared = [record for record in records if text_key(record) in places]
        if name == "train" or not shared:
            continue
        pairs = [f"{r.place} = {places[text_key(r)]}" for r in shared[:SHOWN]]
        more = f" … and {len(shared) - SHOWN} more" if shared[SHOWN:] else ""
        raise DataError(
            f"{shared[0].place}: {count(len(shared), 'row')} of {name} would be trained on too, so "
            "that the score would say nothing of new texts",
            found=f"the same texts in {name} and train: {', '.join(pairs)}{more}",
            mend=f"leave them out of train: -s {key}=drop; or keep them and have them counted: "
            f"-s {key}=allow",
        )


def without(records: Sequence[Record], others: Sequence[Record]) -> list[Record]:
    """Return the records whose text is not among that of `others`."""
    there = {text_key(record) for record in others}
    return [record for record in records if text_key(record) not in there]


def near(train: Sequence[Record], other: Sequence[Record]) -> dict[str, Any]:
    """Return how many rows of `other` are near duplicates of one in `train`.

    Returns:
        `{"near_rows", "near_share" (of the rows compared), "near_examples": [[place in other,
        place in train], …], "compared": [rows of train, rows of other]}`, JSON-ready.
    """
    ours, theirs = spread(train), spread(other)
    same = {text_key(record) for record in train}
    rest = [record for record in theirs if text_key(record) not in same]
    ours_read, rest_read = ([words(record) for record in rows] for rows in (ours, rest))
    pairs, compared = alike(ours_read, rest_read)
    examples = [[str(rest[j].place), str(ours[i].place)] for j, i in sorted(pairs.items())]
    return {
        "near_rows": len(pairs),
        "near_share": len(pairs) / max(len(theirs), 1),
        "near_examples": examples[:SHOWN],
        "compared": [compared, len(theirs)],
    }


def spread(records: Sequence[Row]) -> Sequence[Row]:
    """Return at most `MOST` records, evenly spread."""
    return records[:: -(-len(records) // MOST)] if len(records) > MOST else records


def words(record: Record) -> Words:
    """Return the words of every field that is read, in order, without capitals."""
    read = [value for name, value in record.values.items() if name not in LEARNT]
    return tuple(
        tuple(word for text in flat_texts(value) for word in _split(text)) for value in read
    )


def alike(
    train: Sequence[Words], other: Sequence[Words], work: int = WORK
) -> tuple[dict[int, int], int]:
    """Find near duplicates.

    Args:
        work: steps after which no further row of `train` is looked at for words in common.

    Returns:
        `{position in other: position in train}`, the first found, and the rows of `train` that
        were looked at.
    """
    order: dict[Words, int] = {}
    for position, written in enumerate(train):
        if any(written):
            order.setdefault(written, position)
    found = {j: order[written] for j, written in enumerate(other) if written in order}

    left, right = [_tagged(row) for row in train], [_tagged(row) for row in other]
    frequent = Counter(word for row in (*left, *right) for word in row)
    index: dict[Hashable, list[int]] = defaultdict(list)
    for j, row in enumerate(right):
        if j not in found:
            for word in _prefix(row, frequent):
                index[word].append(j)
    compared = 0
    for i in _from_everywhere(len(left)):
        row = left[i]
        hits = [index[word] for word in _prefix(row, frequent) if word in index]
        work -= sum(map(len, hits))
        for j in set().union(*hits) - found.keys():
            if LIKE * len(row) <= len(right[j]) <= len(row) / LIKE:
                work -= len(row)
                if _near(row, right[j], len(train[i])):
                    found[j] = i
        compared += 1
        if work < 0:
            break
    return found, compared


def _from_everywhere(count: int) -> Sequence[int]:
    """Return all positions, such that the first ones are spread over the whole."""
    step = max(1, math.isqrt(count))
    return [i for start in range(step) for i in range(start, count, step)]


def _tagged(row: Words) -> frozenset[tuple[int, str]]:
    """Return the different words of a record, each with the number of its field."""
    return frozenset((number, word) for number, field in enumerate(row) for word in field)


def _prefix(
    row: frozenset[tuple[int, str]], frequent: Mapping[tuple[int, str], int]
) -> Sequence[tuple[int, str]]:
    """Return the rarest words of a record, one of which any near duplicate must have."""
    if len(row) < LEAST:
        return ()
    ranked = sorted(row, key=lambda word: (frequent[word], word))
    return ranked[: len(row) - _least_common(len(row)) + 1]


def _least_common(size: int) -> int:
    """Return the words that a record of so many shares with a near duplicate at least."""
    return math.ceil(LIKE * size - 1e-9)


def _near(one: frozenset[Any], other: frozenset[Any], fields: int) -> bool:
    """Whether two records of like size are alike in each field, not just in all together."""
    common = len(one & other)
    if common < LIKE * (len(one) + len(other) - common):
        return False
    return fields == 1 or all(
        len(both) >= LIKE * len(either)
        for number in range(fields)
        for both, either in [(_field(one & other, number), _field(one | other, number))]
    )


def _field(row: frozenset[Any], number: int) -> list[Any]:
    return [word for word in row if word[0] == number]


def _split(text: str) -> list[str]:
    return _WORD.findall(text[:LONGEST].casefold())
