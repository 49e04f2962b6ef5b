"""What cross-validation says of a mean or a difference: estimate, standard error, degrees.

Why:        scores of folds are not independent: their training sets overlap. A t-test over folds
            that forgets this, or a bootstrap over records that forgets the chance of training,
            calls too many differences real.
Parts:      of the variance of the mean over folds:
              records   which records were tested: the sum of squared influences of the units
              runs      the chance of training: how seeds differ, less what records explain of it
              folds     how fold means differ; holds the other two and what else a training set
                        does, but only as exactly as a handful of folds can say
How:        with V = records + runs, and c = (2K - 1)/(K - 1), Nadeau and Bengio's (2003) factor
            for what fold means share, the variance taken is a mixture, (1 - a) V + a c folds, and
            at least V and 0.7 folds. a is 0.15 where seeds were repeated, and 0.5 where the
            chance of training is seen in the folds alone. Degrees of freedom as Satterthwaite
            (1946); those of records are the number of units that carry the sum, so that five
            lucky records are five, not a thousand. The constants were chosen by simulation: real
            learners, equal by construction, see tests/proof/false_alarms.py.
Invariants: pure functions of arrays; no chance. A shared test set (folds of which each tests what
            another does, by half or more) adds the variance of folds to that of records instead.
Not here:   what is tested about a difference (`tests_of_difference.py`), which outcomes make a
            fold (`cells.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
LEVEL = 0.95
SEVERAL_SEEDS, ONE_SEED = 0.15, 0.5
"""The folds' share of the variance."""
LEAST_OF_FOLDS = 0.7
ROUNDING = 1e-11
"""Less than this is what rounding leaves, on metrics up to 100."""


@dataclass(frozen=True, slots=True)
class Fold:
    """One fold's value, the mean over seeds, and what moves it.

    Attributes:
        value: the metric, or the difference of two contenders' metrics.
        records: test records.
        units: `[units]`, the numbers of what was drawn: records, or clusters of them.
        influence: `[units]`, how far each unit moves `records * value`; they sum to 0.
        runs: variance of `value` from the chance of training; may come out negative.
        runs_degrees: of freedom of `runs`; 0 where nothing is known of it.
        steady: `runs` is known, or known to be none.
    """

    value: float
    records: int
    units: NDArray[np.int64]
    influence: Floats
    runs: float
    runs_degrees: int
    steady: bool

    @classmethod
    def of_seeds(
        cls, values: Floats, influence: Floats, units: NDArray[np.int64], records: int, steady: bool
    ) -> Fold:
        """Average over seeds.

        Args:
            values: `[seeds]`.
            influence: `[seeds, units]`.
            steady: training has no chance in it, so that one seed says all.
        """
        seeds = len(values)
        runs, mean = 0.0, influence.mean(axis=0)
        if seeds > 1:
            noise = ((influence - mean) ** 2).sum() / (seeds - 1) / records**2
            runs = float(values.var(ddof=1) - noise) / seeds
        known = steady or seeds > 1
        return cls(float(values.mean()), records, units, mean, runs, seeds - 1, known)

    def minus(self, other: Fold) -> Fold:
        """Return the fold of a difference between trainings that have no seeds in common."""
        return Fold(
            self.value - other.value,
            self.records,
            self.units,
            self.influence - other.influence,
            self.runs + other.runs,
            self.runs_degrees + other.runs_degrees,
            self.steady and other.steady,
        )


@dataclass(frozen=True, slots=True)
class Evidence:
    """An estimate and how exactly it is known.

    Attributes:
        value: weighted mean over folds, by their records.
        error: standard error; 0 where nothing varied.
        degrees: of freedom of `error`.
    """

    value: float
    error: float
    degrees: float

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the two-sided interval of Student's t."""
        half = float(stats.t.ppf((1 + level) / 2, self.degrees)) * self.error
        return self.value - half, self.value + half

    def p_value(self) -> float:
        """Return the two-sided p-value of "it is 0"."""
        if self.error <= 0:
            return 1.0 if self.value == 0 else 0.0
        return float(2 * stats.t.sf(abs(self.value) / self.error, self.degrees))


def weigh(folds: Sequence[Fold]) -> Evidence:
    """Return what one or several folds say together."""
    sizes = np.array([fold.records for fold in folds], dtype=np.float64)
    shares = sizes / sizes.sum()
    values = np.array([fold.value for fold in folds])
    value = float(shares @ values)
    units, place = np.unique(np.concatenate([fold.units for fold in folds]), return_inverse=True)
    pieces = [f.influence * s / n for f, s, n in zip(folds, shares, sizes, strict=True)]
    moved = np.bincount(place, weights=np.concatenate(pieces), minlength=len(units))
    disjoint = 2 * len(units) > sum(len(fold.units) for fold in folds)
    means = len(folds) if disjoint else 1
    squares = float((moved**2).sum())
    records = squares * len(units) / max(len(units) - means, 1)
    carried = squares**2 / float((moved**4).sum()) if squares > 0 else 1.0
    runs = max(float(shares**2 @ [fold.runs for fold in folds]), 0.0)
    seeds = max(sum(fold.runs_degrees for fold in folds), 1)
    noise = records**2 / max(carried, 1.0) + runs**2 / seeds
    known = records + runs
    if len(folds) == 1:
        return _evidence(value, known, noise)
    count = len(folds)
    between = float(shares**2 @ (values - value) ** 2) * count / (count - 1)
    if not disjoint:
        more = max(between, runs)
        return _evidence(value, records + more, records**2 / carried + more**2 / (count - 1))
    share = SEVERAL_SEEDS if all(fold.steady for fold in folds) else ONE_SEED
    factor = (2 * count - 1) / (count - 1)
    kept = (1 - share) * known
    more = max(share * factor * between, LEAST_OF_FOLDS * between - kept)
    if kept + more <= known:
        return _evidence(value, known, noise)
    return _evidence(value, kept + more, (1 - share) ** 2 * noise + more**2 / (count - 1))


def _evidence(value: float, variance: float, noise: float) -> Evidence:
    """Return the evidence with Satterthwaite's degrees of freedom, at least one.

    Args:
        noise: the sum of each part of the variance squared, over its own degrees of freedom.
    """
    error = float(np.sqrt(variance))
    if error < ROUNDING:
        return Evidence(0.0 if abs(value) < ROUNDING else value, 0.0, 1.0)
    return Evidence(value, error, max(variance**2 / noise, 1.0))
