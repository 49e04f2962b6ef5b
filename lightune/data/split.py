"""Hold records out: stratified by label, seeded, and never one text on both sides.

Why:        a text that stands in train and in test makes the test's score a lie; a rare label
            that a plain random draw misses makes it meaningless.
Invariants: same records, share and seed give the same two lists, in the order of the records;
            all records of one text go to one side; every label with two distinct texts or more
            is on both sides.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence

from lightune.errors import DataError
from lightune.types import Record

LEARNT = ("label", "answer", "answer_start", "target", "tags")
"""Fields that are to be predicted: one question with two answers is one text."""


def text_key(record: Record) -> Hashable:
    """Return what makes two records the same text: every field but what is to be learnt."""
    values = record.values.items()
    return tuple([v if isinstance(v, str) else repr(v) for name, v in values if name not in LEARNT])


def label_key(record: Record) -> Hashable:
    """Return what a split is stratified by: the label, or the set of labels (also `a|b`)."""
    label = record.values.get("label")
    if isinstance(label, float):  # a number to be estimated is no class
        return ()
    if isinstance(label, str) and "|" in label:
        label = label.split("|")
    return tuple(sorted(label)) if isinstance(label, list) else label


def hold_out(
    records: Sequence[Record],
    share: float,
    seed: int,
    key: Callable[[Record], Hashable] = label_key,
    text: Callable[[Record], Hashable] = text_key,
    strict: bool = True,
) -> tuple[list[Record], list[Record]]:
    """Return `(rest, held)`, where `held` has about `share` of every label's records.

    Args:
        key: a record's label. Sets of labels (tuples) too rare to be on both sides are drawn
            together.
        text: what may not be on both sides.
        strict: a label that cannot be on both sides is an error; otherwise it stays in `rest`.

    Raises:
        DataError: a label has a single record, or a single text.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be between 0 and 1, not {share}")
    strata = _strata(records, key, text, strict)
    targets = _apportion({k: sum(map(len, groups)) for k, groups in strata.items()}, share)
    held: set[int] = set()
    # A stream of random numbers per label: rows added to one label do not move those of others.
    for label, groups in strata.items():
        random.Random(f"{seed}/{label!r}").shuffle(groups)
        if len(groups) < 2:
            continue
        room = max(targets[label], 1)
        for group in groups[:-1]:  # one always stays
            if len(group) <= room:
                held.update(group)
                room -= len(group)
        if held.isdisjoint(index for group in groups for index in group):
            smallest = min(groups, key=len)
            held.update(smallest)
    rest = [record for i, record in enumerate(records) if i not in held]
    return rest, [records[i] for i in sorted(held)]


def _strata(
    records: Sequence[Record],
    key: Callable[[Record], Hashable],
    text: Callable[[Record], Hashable],
    strict: bool,
) -> dict[Hashable, list[list[int]]]:
    """Return each label's records as groups of one text; a text with two labels counts as its
    rarer one, which needs it more."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    labels = [key(record) for record in records]
    for index, record in enumerate(records):
        groups[text(record)].append(index)
    counts = Counter(labels)
    strata: dict[Hashable, list[list[int]]] = defaultdict(list)
    for group in groups.values():
        strata[min((labels[i] for i in group), key=lambda k: (counts[k], repr(k)))].append(group)
    rare = [label for label, found in strata.items() if len(found) < 2]
    for label in rare:
        if isinstance(label, tuple):
            strata[()] += strata.pop(label) if label else []
        elif strict:
            others = [repr(other) for other in rare if other != label]
            mostly = 2 * len(rare) > len(strata)
            raise _too_rare(label, [records[i] for i in strata[label][0]], others, mostly)
    return dict(strata)


def _apportion(sizes: dict[Hashable, int], share: float) -> dict[Hashable, int]:
    """Round each label's share so that the sum is right (largest remainders win)."""
    exact = {label: size * share for label, size in sizes.items()}
    targets = {label: int(value) for label, value in exact.items()}
    missing = round(sum(exact.values())) - sum(targets.values())
    by_remainder = sorted(exact, key=lambda label: (targets[label] - exact[label], repr(label)))
    for label in by_remainder[:missing]:
        targets[label] += 1
    return targets


def _too_rare(
    label: Hashable, records: Sequence[Record], others: Sequence[str], mostly: bool
) -> DataError:
    place = records[0].place
    more = f"; as rare: {', '.join(others[:8])}" if others else ""
    same = f" ({len(records)} rows with one and the same text)" if len(records) > 1 else ""
    return DataError(
        f"{place}: label {label!r} has one {'text' if same else 'row'}, which cannot be both "
        "trained on and tested on",
        found=f"{str(next(iter(records[0].values.values()), ''))!r:.60}{same}{more}",
        mend="most labels stand in one row alone: if the column holds texts or ids, name the right "
        "one: task.label=COLUMN; else give a test file: `data: {test: FILE}`"
        if mostly and others
        else f"add rows with that label, remove {place}, or give a test file: "
        "`data: {test: FILE}`",
    )
