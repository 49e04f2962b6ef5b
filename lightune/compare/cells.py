"""Outcomes as arrays: the metric of every trial, and how far each test record moves it.

Why:        one way for all metrics. A task scores by a function of record weights; leaving a
            record out is a weight of 0, so the jackknife (Efron 1982) gives every record's
            influence on accuracy, F1, BLEU or a correlation alike, for a mean exactly.
Units:      what was drawn by chance: records, or clusters of them (one author's texts). A cell with
            more than 1,000 units is left out in 1,000 blocks of units.
Invariants: cells of the same fold have the same units in the same order, whoever the contender.
            Probabilities are dropped before scoring where the metric does not need them.
Errors:     `DataError` where a task cannot be judged so, or contenders were tested on different
            records in one fold.
Not here:   what the influences are for (`evidence.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightune.compare.outcome import Outcome
from lightune.errors import ConfigError, DataError, nearest
from lightune.metrics.intervals import Statistic, Weights
from lightune.tasks.base import Resampling, Scores, Task
from lightune.types import Prediction, Record, Score

MOST_UNITS = 1000
_PIECE = 2_000_000

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Weighted = Callable[[Weights], Floats]
"""Weights `[records, columns]` -> the metric of each column; NaN where undefined."""


@dataclass(frozen=True, slots=True)
class _Kept(Resampling):
    """Keeps the statistic that a task scores by, and draws nothing."""

    kept: list[tuple[Statistic, int]] = field(default_factory=list)

    def scores(
        self, statistic: Statistic, records: int, classes: int = 1, shares: Sequence[str] = ()
    ) -> tuple[dict[str, Score], dict[str, Any]]:
        self.kept.append((statistic, records))
        return Resampling.scores(replace(self, intervals=False), statistic, records)


@dataclass(frozen=True, slots=True)
class Cell:
    """One trial, scored.

    Attributes:
        value: the metric.
        rows: positions of its test records in all records, ascending.
        units: `[units]`, names of the units, ascending.
        place: `[records]`, the unit of each record, as a position in `units`. A task may score
            several rows as one record (translations of one source); then so is it here.
        influence: `[units]`, how far each moves `records * value`; they sum to 0.
        each: `[records]`, what the metric is the mean of; None where it is no mean.
        score: the metric by weights of the records.
        predictions: of `rows`.
        trained: how many records it was trained on.
    """

    fold: int
    seed: int
    value: float
    rows: Ints
    units: Ints
    place: Ints
    influence: Floats
    each: Floats | None
    score: Weighted
    predictions: list[Prediction]
    trained: int

    @property
    def records(self) -> int:
        """How many are scored."""
        return len(self.place)


class Scorer:
    """A task, what it learnt, and the metric that decides."""

    def __init__(
        self,
        task: Task,
        state: dict[str, Any],
        records: Sequence[Record],
        metric: str,
        clusters: Sequence[int] | None = None,
    ) -> None:
        self.task, self.state, self.records, self.metric = task, state, records, metric
        names = np.arange(len(records)) if clusters is None else np.asarray(clusters)
        self.clusters: Ints = names.astype(np.int64)
        self._bare: bool | None = None

    def cell(self, outcome: Outcome) -> Cell | None:
        """Return an outcome as a cell; None where its metric is undefined.

        Raises:
            ConfigError: the task has no such metric.
            DataError: the task does not score by record weights.
        """
        order = np.argsort([p.index for p in outcome.predictions], kind="stable")
        predictions = [outcome.predictions[i] for i in order]
        rows = np.array([p.index for p in predictions], dtype=np.int64)
        score, count = self.weighted(predictions, rows)
        value = float(score(np.ones((count, 1)))[0])
        if not np.isfinite(value):
            return None
        units, place = _blocks(self.clusters[rows] if count == len(rows) else rows[:count])
        influence = self._left_out(score, value, place, len(units))
        each = self._each(score, value, influence) if len(units) == count else None
        fold, seed, size = outcome.fold, outcome.seed, outcome.size
        return Cell(
            fold, seed, value, rows, units, place, influence, each, score, predictions, size
        )

    def weighted(self, predictions: Sequence[Prediction], rows: Ints) -> tuple[Weighted, int]:
        """Return the metric of these predictions by weights of records, and how many these are."""
        records = [self.records[i] for i in rows]
        bare = [replace(p, scores={}) for p in predictions]
        if self._bare is None:
            self._bare = self.metric in self._scored(bare, records)[0].metrics
        _, statistic, count = self._scored(bare if self._bare else predictions, records)
        return lambda weights: statistic(weights)[self.metric], count

    def joint(self, first: Cell, second: Cell) -> Weighted | None:
        """Return the metric by weights `[2 * records, columns]`: of the first cell's predictions,
        then the second's. None where the task does not score one record twice."""
        predictions = [*first.predictions, *second.predictions]
        if self._bare:
            predictions = [replace(p, scores={}) for p in predictions]
        records = [self.records[i] for i in (*first.rows, *second.rows)]
        for half in (records, [*records[: len(first.rows)], *self._renamed(second.rows)]):
            _, statistic, count = self._scored(predictions, half)
            if count == first.records + second.records:
                return lambda weights: statistic(weights)[self.metric]
        return None

    def _renamed(self, rows: Ints) -> list[Record]:
        """Return records that no task takes for the same as their originals, by their inputs."""
        inputs = [f.name for f in self.task.fields if f.kind == "text" and f.needed_to_predict]
        found = []
        for i in rows:
            values = dict(self.records[i].values)
            values |= {n: f"{values[n]}\u2063" for n in inputs if isinstance(values.get(n), str)}
            found.append(replace(self.records[i], values=values))
        return found

    def _scored(
        self, predictions: Sequence[Prediction], records: Sequence[Record]
    ) -> tuple[Scores, Statistic, int]:
        how = _Kept()
        scores = self.task.compare(predictions, records, self.state, how)
        if not how.kept:
            raise DataError(
                f"the task {self.task.name!r} cannot be judged record by record",
                found="its `compare` does not call `how.scores`",
                mend="score by a function of record weights, as the built-in tasks do",
            )
        statistic, count = how.kept[-1]
        names = statistic(np.ones((count, 1)))
        if self._bare is False and self.metric not in names:
            near = nearest(self.metric, names)
            raise ConfigError(
                f"the task {self.task.name!r} has no metric {self.metric!r}",
                found=f"metrics: {', '.join(names)}",
                mend=f"--metric {near or next(iter(names))}",
            )
        return scores, statistic, count

    def _left_out(self, score: Weighted, value: float, place: Ints, units: int) -> Floats:
        """Return the influence of each unit, by leaving it out."""
        count = len(place)
        sizes = np.bincount(place, minlength=units).astype(np.float64)
        if units < 2:
            return np.zeros(units)
        found = []
        for columns in _pieces(units, count):
            weights = (place[:, None] != np.arange(units)[None, columns]).astype(np.float64)
            without = score(weights)
            found.append((count - sizes[columns]) * (value - without))
        influence = np.nan_to_num(np.concatenate(found), posinf=0.0, neginf=0.0)
        return influence - influence.sum() * sizes / count

    def _each(self, score: Weighted, value: float, influence: Floats) -> Floats | None:
        """Return each record's own score if the metric is the mean of these."""
        count = len(influence)
        alone = np.concatenate(
            [score(np.eye(count)[:, columns]) for columns in _pieces(count, count)]
        )
        close = np.allclose(alone - value, influence, rtol=0, atol=1e-9 * max(1.0, abs(value)))
        return alone if close else None


def score_all(
    outcomes: Iterable[Outcome], scorer: Scorer
) -> tuple[dict[tuple[str, str], list[Cell]], dict[str, int]]:
    """Return `{(contender, size as asked for): its cells}` in order of appearance, and of how
    many trials of a contender the metric is undefined.

    Raises:
        ConfigError, DataError: see `Scorer.cell`; contenders differ in a fold's test records.
    """
    found: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    tested: dict[int, Ints] = {}
    undefined: dict[str, int] = defaultdict(int)
    for outcome in outcomes:
        cell = scorer.cell(outcome)
        if cell is None:
            undefined[outcome.contender] += 1
            continue
        if not np.array_equal(tested.setdefault(cell.fold, cell.rows), cell.rows):
            raise DataError(
                f"contenders were tested on different records in fold {cell.fold + 1}",
                found=f"{outcome.contender}: {len(cell.rows)} records, others "
                f"{len(tested[cell.fold])}",
                mend="run all contenders on the same folds: delete trials.jsonl and run again",
            )
        found[outcome.contender, size_of(outcome)].append(cell)
    return dict(found), dict(undefined)


def size_of(outcome: Outcome) -> str:
    """Return how many training records were asked for: `all`, `32`, `8/class`."""
    return str(outcome.settings.get("size") or "all")


def by_fold(cells: Iterable[Cell]) -> Mapping[int, dict[int, Cell]]:
    """Return `{fold: {seed: cell}}`."""
    found: dict[int, dict[int, Cell]] = defaultdict(dict)
    for cell in cells:
        found[cell.fold][cell.seed] = cell
    return {fold: dict(sorted(found[fold].items())) for fold in sorted(found)}


def _blocks(names: Ints) -> tuple[Ints, Ints]:
    """Return the units, at most 1,000 of them, and the unit of each record."""
    units, place = np.unique(names, return_inverse=True)
    if len(units) <= MOST_UNITS:
        return units, place
    block = np.arange(len(units)) * MOST_UNITS // len(units)
    first = np.searchsorted(block, np.arange(MOST_UNITS))
    return units[first], block[place]


def _pieces(columns: int, rows: int) -> list[slice]:
    """Return slices of columns that keep a weight matrix small."""
    width = max(1, _PIECE // max(rows, 1))
    return [slice(start, min(start + width, columns)) for start in range(0, columns, width)]
