"""The design of a comparison: who is tried on which records, how often, and in which order.

Why:        everything that could favour a contender is fixed here, before anything is run, and is
            the same for all: folds, seeds, sizes, and with the seed the order of the records.
Order:      round by round, a round being one fold under one seed, so that contenders can be
            compared whenever a comparison is interrupted; baselines first in each, since they cost
            little and everything is read against them. What needs no luck (a baseline on all of
            a training part) is tried under the first seed only.
Invariants: a design is a function of recipe, settings and data; its fingerprint covers them and
            the code, so that trials of another design are never mixed in.
Errors:     those of the data; `ConfigError` for settings that contradict each other.
Not here:   folds (`folds.py`), contenders (`contenders.py`), running (`race.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from lightune.compare import folds as parting
from lightune.compare.contenders import Contender, contenders
from lightune.compare.folds import Fold
from lightune.compare.spec import CompareSpec
from lightune.compare.trials import Trial
from lightune.data.columns import known_names
from lightune.data.load import load_splits
from lightune.data.overlap import WORK, alike, spread, words
from lightune.data.read import read_tables
from lightune.data.report import describe_split
from lightune.errors import ConfigError, DataError, nearest
from lightune.recipe import Recipe
from lightune.runs.environment import code_hash
from lightune.train.memory import collector_off
from lightune.types import Record

DEFAULT_FOLDS = 5


@dataclass(frozen=True)
class Design:
    """What will be run.

    Attributes:
        records: all that are trained on or tested; trials name them by position.
        validation: set aside by the user for scoring while training.
        contenders: the methods; what their baselines are shows when the model is loaded.
        clusters: for each record the number of those that it belongs with, by their text (the
            passage, where several share one) or group; None where each stands alone.
        notes: what the user should read of the data and the folds.
    """

    recipe: Recipe
    spec: CompareSpec
    records: Sequence[Record]
    validation: Sequence[Record]
    contenders: Sequence[Contender]
    folds: Sequence[Fold]
    clusters: Sequence[int] | None
    notes: Sequence[str] = field(default=())

    @property
    def seeds(self) -> list[int]:
        """The recipe's seed, and those after it."""
        first = self.recipe.train.seed
        return list(range(first, first + self.spec.seeds))

    def rounds(self, every: Sequence[Contender]) -> list[list[Trial]]:
        """Return the trials of `every` contender, round by round.

        Raises:
            ConfigError: a size that cannot be had.
        """
        in_order = sorted(every, key=lambda contender: contender.baseline is None)
        made = []
        for seed in self.seeds:
            for number, fold in enumerate(self.folds):
                parts = {
                    size: tuple(parting.subset(self.records, fold.train, size, f"{seed}/{number}"))
                    for size in self.spec.sizes
                }
                made.append(
                    [
                        Trial(contender, number, seed, size, part, fold.test, self.spec.metric)
                        for size, part in parts.items()
                        for contender in in_order
                        if not (contender.baseline and size == "all" and seed != self.seeds[0])
                    ]
                )
        return made

    def fingerprint(self, every: Sequence[Contender]) -> str:
        """Return a hash of all that decides the outcomes."""
        task = self.recipe.task
        parts = {
            "records": describe_split(self.records)["sha256"],
            "validation": describe_split(self.validation)["sha256"],
            "task": [task.name, task.model_dump(mode="json")],
            "contenders": [
                [c.name, c.settings(), c.recipe.train.model_dump(mode="json")]
                + [[chosen, r.train.model_dump(mode="json")] for chosen, r in c.choices]
                for c in every
            ],
            "folds": [[fold.train, fold.test] for fold in self.folds],
            "seeds": self.seeds,
            "sizes": self.spec.sizes,
            "tuned by": self.spec.metric if self.spec.tune else None,
            "code": [code_hash(), torch.__version__],
        }
        text = json.dumps(parts, sort_keys=True, ensure_ascii=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def plan(recipe: Recipe, spec: CompareSpec) -> Design:
    """Read the data and lay the folds.

    Raises:
        DataError: the data cannot be read, or cannot be parted so.
        ConfigErrors, ConfigError: settings that are wrong, or exclude each other.
    """
    ways = [name for name in ("group", "time", "by") if getattr(spec, name)]
    if len(ways) > 1:
        raise ConfigError(
            "compare: there is one way to part the records",
            found=", ".join(f"{way}: {getattr(spec, way)}" for way in ways),
            mend=f"keep one of {', '.join(ways)}",
        )
    if spec.by and spec.folds:
        raise ConfigError(
            "compare.by: the column says which folds there are",
            found=f"folds: {spec.folds}",
            mend="leave --folds out",
        )
    if recipe.train.from_run is not None:
        raise ConfigError(
            "train.from: an earlier run may have learnt records that are tested here",
            found=f"from: {recipe.train.from_run}",
            mend="leave `from` out of the recipe",
        )
    task, text = recipe.task, parting.text_of(recipe.task)
    every = contenders(recipe, spec)
    asked = recipe.data.test
    named = asked is not None and not isinstance(asked, float)
    apart = named and not spec.folds and not ways
    aside = recipe.data.validation not in (None, 0.0) and bool(ways)
    data = recipe.data if apart else recipe.data.model_copy(update={"test": 0.0})
    if ways:  # rows drawn by text would be of the groups, or the time, that is tested
        data = data.model_copy(update={"validation": 0.0})
    with collector_off():
        splits = load_splits(
            data,
            task.fields,
            task.columns(),
            seed=recipe.train.seed,
            multi_label=task.several_labels(),
            check=task.check,
        )
    notes = list(splits.notes)
    if aside:
        notes.append(
            f"data.validation is not used with --{ways[0]}: what training is scored on is drawn "
            "inside each training part"
        )
    records = [*splits.train, *splits.test]
    groups = None
    if apart:
        made = [parting.one(splits.train, splits.test, text)]
        notes.append(f"tested on {len(splits.test)} records that data.test names")
        if lost := len(splits.train) - len(made[0].train):
            notes.append(f"rows of data.train that are tested, and so not trained on: {lost}")
    else:
        count = spec.folds or DEFAULT_FOLDS
        if named:
            notes.append("data.test is not used: the folds are parts of data.train")
        if spec.time:
            made = parting.ordered(records, count, _column(recipe, spec.time, records), text)
        elif spec.by:
            made = parting.given(records, _column(recipe, spec.by, records), text)
        else:
            groups = _column(recipe, spec.group, records) if spec.group else None
            made = parting.stratified(records, count, recipe.train.seed, groups, text)
        twice = len(records) - len({text(record) for record in records})
        if twice:
            notes.append(f"repeated texts ({twice} rows) are kept on one side of every fold")
    clusters = _clusters(records, groups, text)
    notes += _near(records, made)
    return Design(recipe, spec, records, splits.validation, every, made, clusters, notes)


def _column(recipe: Recipe, name: str, records: Sequence[Record]) -> list[Any]:
    """Return what a column says of every record.

    Raises:
        DataError: there is no such column, or a cell is empty.
    """
    task = recipe.task
    known = known_names(task.fields, task.columns())
    found: dict[Any, Any] = {}
    for table in read_tables(recipe.data.train, recipe.data, known, "train"):
        if name not in table.columns:
            near = nearest(name, table.columns)
            raise DataError(
                f"{table.file}: there is no column {name!r} to part the records by",
                found=f"columns: {', '.join(table.columns)}",
                mend=f"did you mean {near!r}?" if near else "name one of these",
            )
        cells = table.columns[name]
        found |= {table.place(i): cells[i] for i in range(len(table))}
    values = [found.get(record.place) for record in records]
    for record, value in zip(records, values, strict=True):
        if value is None or value != value or value == "":
            raise DataError(
                f"{record.place}: column {name!r} is empty, so that the record has no fold",
                mend="fill the cell, or remove the row",
            )
    return values


def _near(records: Sequence[Record], folds: Sequence[Fold]) -> list[str]:
    """Return what there is to say of rows that are tested, and nearly trained on."""
    read = [words(record) for record in records]
    found: dict[int, int] = {}
    for fold in folds:
        train, test = spread(fold.train), spread(fold.test)
        pairs, _ = alike([read[i] for i in train], [read[i] for i in test], WORK // len(folds))
        found |= {test[j]: train[i] for j, i in pairs.items()}
    if not found:
        return []
    tested, trained = next(iter(found.items()))
    return [
        f"rows that are tested, and trained on in nearly the same words: {len(found)} of "
        f"{len(records)} (such as {records[tested].place} and {records[trained].place}); scores "
        "say less of new texts"
    ]


def _clusters(
    records: Sequence[Record], groups: Sequence[Any] | None, text: parting.Text
) -> list[int] | None:
    """Return the number of the piece that each record is part of; None where all are single."""
    pieces = parting.pieces([text(record) for record in records], groups)
    if len(pieces) == len(records):
        return None
    number = {i: k for k, piece in enumerate(pieces) for i in piece}
    return [number[i] for i in range(len(records))]
