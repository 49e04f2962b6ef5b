"""The recipe's data -> train, validation and test records, the report, and what was guessed.

Why:        which rows are tested on decides what a score means, so it is settled here once, for
            `train`, `evaluate` and `predict` alike.
Order:      a test (then a validation) set that the user names; else the one that the folder or
            hub data set brings, if it has labels; else a share of train, held out by label.
Invariants: held-out rows share no text with train; given ones may, and the report counts it, but
            for `data.overlap: drop`; refusing them is left to training (`overlap.refuse`).
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lightune.data import overlap
from lightune.data.columns import (
    UNTRAINED,
    ColumnError,
    FieldLike,
    Mapped,
    Trained,
    known_names,
)
from lightune.data.hub import ROLES
from lightune.data.read import own_splits, read_tables
from lightune.data.records import Made, make_records
from lightune.data.report import count, describe_split, overlaps
from lightune.data.sources import files_for
from lightune.data.spec import DataSpec
from lightune.data.split import hold_out, label_key, text_key
from lightune.errors import DataError
from lightune.types import Record

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Splits:
    """Everything training needs to know of the data.

    Attributes:
        validation: empty where none is wanted.
        test: empty where `data.test` is 0.
        notes: what was guessed, held out or left out, one sentence each.
        report: JSON-ready, see `report.py`.
    """

    train: list[Record]
    validation: list[Record]
    test: list[Record]
    notes: list[str]
    report: dict[str, Any]

    @property
    def named(self) -> dict[str, list[Record]]:
        """The records of each split that has any, by its name."""
        every = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: records for name, records in every.items() if records}


def load_splits(
    spec: DataSpec,
    fields: Sequence[FieldLike],
    columns: Mapped,
    seed: int = 0,
    want_validation: bool = False,
    multi_label: bool | None = None,
    check: Callable[[Sequence[Record]], None] | None = None,
) -> Splits:
    """Read, check and split the data of a recipe.

    Args:
        fields: what the task reads from a row.
        columns: the columns the user named for them.
        want_validation: hold a tenth of train out when the user names no validation set.
        multi_label: labels such as `a|b` are several; None lets the training data decide.
        check: looks at all training records before any are held out, and raises what it finds.

    Raises:
        DataError: see the modules that read; or nothing is left to train on.
    """
    if spec.train is None:
        raise DataError(
            "data.train: nothing to train on",
            found="no `train` under `data`",
            mend="`data: {train: reviews.csv}`, or --data FILE",
        )
    known = known_names(fields, columns)

    def read(source: Any, role: str) -> Made:
        tables = read_tables(source, spec, known, role)
        several = multi_label if role == "train" else made["train"].multi_label
        return make_records(tables, fields, columns, "train", several)

    made: dict[str, Made] = {}
    made["train"] = read(spec.train, "train")
    if check:
        check(made["train"].records)
    notes = list(made["train"].notes)
    sets: dict[str, list[Record]] = {"train": made["train"].records}
    to_find = spec.test is None or (spec.validation is None and want_validation)
    brought = own_splits(spec.train, spec) if to_find else []

    for role, asked, share in (
        ("test", spec.test, TEST_SHARE),
        ("validation", spec.validation, VALIDATION_SHARE if want_validation else 0.0),
    ):
        if isinstance(asked, float):
            share = asked
        elif asked is not None:
            made[role] = read(asked, role)
            notes += [note for note in made[role].notes if note not in notes]
        elif share and (found := _brought(spec.train, role, brought, read, notes)):
            made[role] = found
        if role in made:
            sets[role] = made[role].records
        elif share:
            if role == "validation":
                sets["train"] = _limited(sets["train"], spec.limit, seed, notes)
            passage = next((f.name for f in fields if f.kind == "passage"), None)
            sets["train"], sets[role] = _held_out(sets["train"], share, seed, role, notes, passage)
    if spec.overlap == "drop":
        sets["train"] = _dropped(sets, notes)
    sets["train"] = _limited(sets["train"], spec.limit, seed, notes)

    ordered = {name: sets[name] for name in ("train", "validation", "test") if sets.get(name)}
    shared = overlaps(ordered)
    for pair, both in shared.items():
        if both["texts"]:
            first, second = pair.split("/")
            notes.append(f"texts that {first} has too: {count(both['rows'], 'row')} of {second}")
    report = {
        "splits": {name: describe_split(rows, made.get(name)) for name, rows in ordered.items()},
        "columns": made["train"].columns,
        "overlap": shared,
        "notes": notes,
    }
    return Splits(sets["train"], sets.get("validation", []), sets.get("test", []), notes, report)


def load_records(
    source: Any,
    spec: DataSpec,
    fields: Sequence[FieldLike],
    columns: Mapped,
    need: str = "train",
    multi_label: bool | None = None,
    trained: Trained = UNTRAINED,
) -> tuple[list[Record], list[str]]:
    """Return the records of one source, to score (`need="train"`) or to predict, and notes.

    To score, rows are taken as `load_splits` takes those of `data.test`, so that both give the
    same figures; to predict, all rows are taken.

    Args:
        trained: what training read, for a column that the user does not name.

    Raises:
        DataError: see the modules that read.
    """
    role = "test" if need == "train" else None
    tables = read_tables(source, spec, known_names(fields, columns, trained), role)
    made = make_records(tables, fields, columns, need, multi_label, trained)
    return made.records, made.notes


def _brought(source: Any, role: str, splits: list[str], read: Any, notes: list[str]) -> Made | None:
    """Return the records of the split that the training source itself brings for `role`.

    A split without labels (GLUE hides those of its tests) cannot be scored, so it is passed over.
    """
    names: list[Any] = [str(file) for file in files_for(source, role)]
    names += [split for split in splits if split in ROLES[role]]
    if not names:
        return None
    try:
        found: Made = read(source, role)
    except ColumnError as error:
        notes.append(f"{names[0]} is not used as {role}: {error.problem}")
        return None
    except DataError as error:
        if "no row has a label" not in error.problem:
            raise
        notes.append(f"{names[0]} is not used as {role}: it has no labels")
        return None
    notes.append(f"{role} = {', '.join(names)}, which came with the training data")
    notes += [note for note in found.notes if note not in notes]
    return found


def _held_out(
    records: list[Record],
    share: float,
    seed: int,
    role: str,
    notes: list[str],
    passage: str | None = None,
) -> tuple[list[Record], list[Record]]:
    # A label that is too rare to be tested stops the run; in validation it may be missing.
    strict = role == "test" and not any(isinstance(label_key(r), tuple | None) for r in records)
    same = text_key if passage is None else lambda record: record.values.get(passage)
    rest, held = hold_out(records, share, seed, text=same, strict=strict)
    by = ", by label" if any(label_key(record) not in (None, ()) for record in records) else ""
    notes.append(
        f"{role}: {len(held)} of {len(records)} rows held out ({share:.0%}){by}, seed {seed}"
    )
    twice = len(records) - len({text_key(record) for record in records})
    if twice:
        notes.append(
            f"{role}: repeated texts ({count(twice, 'row')}) are kept on one side of the split"
        )
    if passage is not None:
        notes.append(f"{role}: rows that share their {passage} are kept on one side of the split")
    if not rest or not held:
        raise DataError(
            f"data.{role}: too few rows to hold out {share:.0%}",
            found=f"{len(records)} rows",
            mend=f"give more rows, or a file: `data: {{{role}: FILE}}`, or none: `{role}: 0`",
        )
    return rest, held


def _dropped(sets: dict[str, list[Record]], notes: list[str]) -> list[Record]:
    """Return the training records without those whose text is tested on."""
    tested = [record for name, records in sets.items() if name != "train" for record in records]
    kept = overlap.without(sets["train"], tested)
    lost = len(sets["train"]) - len(kept)
    if lost:
        notes.append(f"train: {count(lost, 'row')} left out that are tested on (data.overlap)")
    if not kept:
        raise DataError(
            "data.overlap: drop leaves nothing to train on",
            found=f"all {count(lost, 'row')} of train are tested on",
            mend="name other files under `data.test` and `data.validation`",
        )
    return kept


def _limited(records: list[Record], limit: int | None, seed: int, notes: list[str]) -> list[Record]:
    if limit is None or len(records) <= limit:
        return records
    chosen = sorted(random.Random(f"{seed}/limit").sample(range(len(records)), limit))
    notes.append(f"train: {limit} of {len(records)} rows, drawn at random (data.limit)")
    return [records[i] for i in chosen]
