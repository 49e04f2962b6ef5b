"""Which records train and which test: folds that all contenders share, and nested subsets of them.

Why:        two scores can be compared record by record only where both saw the same folds; and a
            score is honest only where nothing of its test was trained on.
How:        records that belong together (the same text; the same group) make one piece. Pieces
            are dealt out label by label, the rarest first, each to the fold that has fewest
            records of that label and then fewest in all (iterative stratification, Sechidis et
            al. 2011), so that several labels at once are balanced too.
Time:       ordered folds train on what came before and test on what came next; records of one
            moment are never parted, and a text that is tested is not trained on.
Invariants: same records, settings and seed give the same folds. Every label that a fold tests is
            trained on in it. A subset of n records is part of every larger one of the same draw.
Errors:     `DataError`: too few pieces, a label that cannot be on both sides, a column that does
            not order anything.
Not here:   reading the columns (`columns.py`), running anything (`trials.py`).
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lightune.data.split import label_key, text_key
from lightune.errors import ConfigError, DataError
from lightune.tasks.base import Task
from lightune.types import Record

Text = Callable[[Record], Hashable]


@dataclass(frozen=True, slots=True)
class Fold:
    """One way to part the records, as positions among all of them, in ascending order."""

    train: tuple[int, ...]
    test: tuple[int, ...]


def stratified(
    records: Sequence[Record],
    count: int,
    seed: int,
    groups: Sequence[Any] | None = None,
    text: Text = text_key,
) -> list[Fold]:
    """Return `count` folds, each record tested in exactly one of them.

    Args:
        groups: one value for each record; records of equal value stay together.
        text: what may not be on both sides, whatever its group.

    Raises:
        DataError: fewer pieces than folds, or a label that only one fold would have.
    """
    parts = pieces([text(record) for record in records], groups)
    if len(parts) < count:
        kind = "texts" if groups is None else "groups"
        raise DataError(
            f"{count} folds need at least {count} different {kind}",
            found=f"{len(parts)} in {len(records)} records",
            mend=f"--folds {len(parts)}" if len(parts) > 1 else "give more records",
        )
    labels = [labels_of(record) for record in records]
    held = Counter(label for piece in parts for label in {x for i in piece for x in labels[i]})
    dealt: list[list[int]] = [[] for _ in range(count)]
    of_label = [Counter[str]() for _ in range(count)]
    left = dict(enumerate(parts))
    for label in [*sorted(held, key=lambda name: (held[name], name)), None]:
        mine = [k for k, piece in left.items() if label is None or _holds(piece, labels, label)]
        random.Random(f"{seed}/folds/{label}").shuffle(mine)
        for k in sorted(mine, key=lambda k: -len(left[k])):
            piece = left.pop(k)
            best = min(
                range(count),
                key=lambda f: (of_label[f][label] if label else 0, len(dealt[f]), f),
            )
            dealt[best] += piece
            for i in piece:
                of_label[best].update(labels[i])
    folds = [_without(range(len(records)), test) for test in dealt]
    check(folds, records)
    return folds


def ordered(
    records: Sequence[Record], count: int, moments: Sequence[Any], text: Text = text_key
) -> list[Fold]:
    """Return `count` folds that train on the past and test on what came next.

    Args:
        moments: one for each record: numbers, dates (ISO 8601), or texts of either.

    Raises:
        DataError: they are neither, or fewer different ones than are needed.
    """
    times = _comparable(moments, records)
    by_time: dict[Any, list[int]] = defaultdict(list)
    for i, moment in enumerate(times):
        by_time[moment].append(i)
    if len(by_time) < count + 1:
        raise DataError(
            f"{count} folds in the order of time need at least {count + 1} different moments",
            found=f"{len(by_time)} in {len(records)} records",
            mend=f"--folds {len(by_time) - 1}" if len(by_time) > 2 else "name another column",
        )
    blocks: list[list[int]] = [[]]
    moments_left, filled = len(by_time), 0
    for moment in sorted(by_time):
        due = len(records) * len(blocks) / (count + 1)
        full = bool(blocks[-1]) and filled + len(by_time[moment]) / 2 > due
        needed = moments_left <= count + 1 - len(blocks)  # each block that is left gets one
        if blocks[-1] and len(blocks) <= count and (full or needed):
            blocks.append([])
        blocks[-1] += by_time[moment]
        filled += len(by_time[moment])
        moments_left -= 1
    texts = [text(record) for record in records]
    folds = []
    for k in range(1, len(blocks)):
        tested = {texts[i] for i in blocks[k]}
        past = [i for block in blocks[:k] for i in block if texts[i] not in tested]
        folds.append(Fold(tuple(sorted(past)), tuple(sorted(blocks[k]))))
    check(folds, records)
    return folds


def given(records: Sequence[Record], names: Sequence[Any], text: Text = text_key) -> list[Fold]:
    """Return the folds that a column names: each of its values is tested once, by the others.

    Raises:
        DataError: fewer than two different values, or a label that only one of them has.
    """
    tests: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(names):
        tests[str(name)].append(i)
    if not 2 <= len(tests) <= 100:
        raise DataError(
            "a column of folds has from 2 to 100 different values",
            found=f"{len(tests)}: {', '.join(list(tests)[:5])}",
            mend="name another column, or give --folds a number",
        )
    texts = [text(record) for record in records]
    folds = []
    for name in sorted(tests, key=_natural):
        tested = {texts[i] for i in tests[name]}
        rest = tuple(i for i in range(len(records)) if texts[i] not in tested)
        folds.append(Fold(rest, tuple(tests[name])))
    check(folds, records)
    return folds


def one(train: Sequence[Record], test: Sequence[Record], text: Text = text_key) -> Fold:
    """Return the one fold of a test set that the user named, which stands behind `train`; what it
    shares with `train` is not trained on."""
    tested = {text(record) for record in test}
    kept = tuple(i for i, record in enumerate(train) if text(record) not in tested)
    fold = Fold(kept, tuple(range(len(train), len(train) + len(test))))
    check([fold], [*train, *test])
    return fold


def subset(records: Sequence[Record], train: Sequence[int], size: str, seed: str) -> list[int]:
    """Return a part of `train`, every label in its proportion and at least once.

    Args:
        size: `all`, a number of records (`32`), or records of each label (`8/class`).
        seed: of the draw. Subsets of one draw are nested.

    Raises:
        ConfigError: there are fewer records, or fewer asked for than labels.
    """
    if size == "all":
        return list(train)
    number, _, per_class = size.partition("/")
    labels = {i: labels_of(records[i]) for i in train}
    counts = Counter(label for i in train for label in labels[i])
    order = _draw(train, labels, seed)
    if per_class:
        scarce = min(counts, key=lambda label: (counts[label], label), default="")
        if not counts or counts[scarce] < int(number):
            raise ConfigError(
                f"--sizes {size}: there are not so many records of each label",
                found=f"{counts[scarce]} of {scarce!r} in a training part" if counts else "none",
                mend=f"--sizes {counts[scarce]}/class" if counts else "--sizes 32,all",
            )
        room = dict.fromkeys(counts, int(number))
        chosen = []
        for i in order:
            if any(room[label] > 0 for label in labels[i]):
                chosen.append(i)
                for label in labels[i]:
                    room[label] -= 1
        return sorted(chosen)
    if not len(counts) <= int(number) <= len(train):
        few = int(number) < len(counts)
        raise ConfigError(
            f"--sizes {size}: "
            + ("fewer records than labels" if few else "a training part has fewer records"),
            found=f"{len(counts)} labels" if few else f"{len(train)} records",
            mend=f"from {max(len(counts), 2)} to {len(train)}, or `all`",
        )
    return sorted(order[: int(number)])


def text_of(task: Task) -> Text:
    """Return what tells which records are of one text: the passage, where several share one."""
    passage = next((field.name for field in task.fields if field.kind == "passage"), None)
    return text_key if passage is None else lambda record: record.values.get(passage)


def labels_of(record: Record) -> tuple[str, ...]:
    """Return the labels that a record has; none where its task has no classes."""
    label = label_key(record)
    if label is None or label == ():
        return ()
    return tuple(map(str, label)) if isinstance(label, tuple) else (str(label),)


def pieces(texts: Sequence[Hashable], groups: Sequence[Any] | None) -> list[list[int]]:
    """Return the records that belong together, joined by text and by group."""
    parent = list(range(len(texts)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[Hashable, int] = {}
    for i, text in enumerate(texts):
        names: list[Hashable] = [("text", text)]
        if groups is not None:
            names.append(("group", str(groups[i])))
        for name in names:
            parent[root(i)] = root(first.setdefault(name, i))
    found: dict[int, list[int]] = defaultdict(list)
    for i in range(len(texts)):
        found[root(i)].append(i)
    return list(found.values())


def check(folds: Sequence[Fold], records: Sequence[Record]) -> None:
    """Refuse folds without records to train on, and labels that are tested but never trained.

    Raises:
        DataError: such a fold, and the place of a record that is in its way.
    """
    for number, fold in enumerate(folds, start=1):
        if not fold.train or not fold.test:
            raise DataError(
                f"fold {number} of {len(folds)} has nothing to "
                + ("test on" if fold.train else "train on"),
                found=f"{len(fold.train)} records to train on, {len(fold.test)} to test on",
                mend="fewer folds, or another column",
            )
        known = {label for i in fold.train for label in labels_of(records[i])}
        for i in fold.test:
            for label in labels_of(records[i]):
                if label not in known:
                    raise DataError(
                        f"label {label!r} is tested in fold {number} of {len(folds)}, and no "
                        "record that it trains on has it",
                        found=f"{records[i].place}",
                        mend="add records with that label, remove these, or part the records "
                        "in another way",
                    )


def _holds(piece: Iterable[int], labels: Sequence[tuple[str, ...]], label: str) -> bool:
    return any(label in labels[i] for i in piece)


def _without(everything: Iterable[int], test: Sequence[int]) -> Fold:
    held = set(test)
    return Fold(tuple(i for i in everything if i not in held), tuple(sorted(held)))


def _draw(train: Sequence[int], labels: dict[int, tuple[str, ...]], seed: str) -> list[int]:
    """Return `train` in an order of which every beginning is balanced: first one record of each
    label, then each label's records spread evenly."""
    by_label: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i in train:
        by_label[labels[i]].append(i)
    place: dict[int, tuple[float, float]] = {}
    for label, members in by_label.items():
        rng = random.Random(f"{seed}/{label!r}")
        rng.shuffle(members)
        for k, i in enumerate(members):
            place[i] = ((k + 0.5) / len(members), rng.random())
    order = sorted(train, key=lambda i: place[i])
    seen: set[str] = set()
    first = []
    for i in order:
        if not seen.issuperset(labels[i]):
            first.append(i)
            seen.update(labels[i])
    early = set(first)
    return first + [i for i in order if i not in early]


def _comparable(moments: Sequence[Any], records: Sequence[Record]) -> list[Any]:
    """Return moments as numbers, or as dates where they are no numbers."""
    for read in (_number, _date):
        try:
            return [read(moment) for moment in moments]
        except ValueError:
            continue
    odd = next(i for i, moment in enumerate(moments) if not _is_date(moment))
    raise DataError(
        f"{records[odd].place}: neither a number nor a date, so that it has no place in time",
        found=repr(moments[odd])[:60],
        mend="write dates as 2026-01-31, or 2026-01-31 12:00",
    )


def _number(value: Any) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except OverflowError:  # an integer of hundreds of digits
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _date(value: Any) -> datetime:
    moment = datetime.fromisoformat(str(value).strip())
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


def _is_date(value: Any) -> bool:
    try:
        _date(value)
    except ValueError:
        return False
    return True


def _natural(name: str) -> tuple[int, str]:
    return (int(name), name) if name.isdecimal() else (10**9, name)
