"""Scores of estimated numbers, from record weights (see `intervals.py`).

r2         share of the variance explained, 1 - sum of squared errors / that around the mean;
           as in scikit-learn, 1 or 0 where the truth does not vary
pearson    correlation of the numbers; undefined where all of either are equal
spearman   the same of their ranks, ties sharing the mean of theirs
rmse, mae  root of the mean squared error, and mean absolute error, in the labels' own unit
"""

import numpy as np
from numpy.typing import NDArray

from lightune.metrics.intervals import Statistic, Weights

Numbers = NDArray[np.float64]
_SMALLEST = 1e-12


def scores(truth: Numbers, guess: Numbers) -> Statistic:
    """Return the statistic of all five.

    Args:
        truth, guess: `[records]`.
    """
    error = truth - guess

    def statistic(weights: Weights) -> dict[str, Numbers]:
        total = weights.sum(0)
        squared = error**2 @ weights
        spread = _spread(truth[:, None], weights)
        varies = spread > _SMALLEST**2 * (truth**2 @ weights)  # but for rounding
        explained = 1 - np.divide(squared, spread, out=np.ones_like(squared), where=varies)
        return {
            "r2": np.where(varies, explained, (squared <= _SMALLEST).astype(float)),
            "pearson": _correlation(truth[:, None], guess[:, None], weights),
            "spearman": _correlation(midranks(truth, weights), midranks(guess, weights), weights),
            "rmse": np.sqrt(squared / total),
            "mae": np.abs(error) @ weights / total,
        }

    return statistic


def midranks(values: Numbers, weights: Weights) -> Numbers:
    """Return each value's rank `[records, resamples]` among values that count `weights` times."""
    _, inverse = np.unique(values, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    starts = np.flatnonzero(np.diff(inverse[order], prepend=-1))
    counts = np.add.reduceat(weights[order], starts, axis=0)
    ranks: Numbers = np.cumsum(counts, axis=0) - counts / 2 + 0.5
    return ranks[inverse]


def _spread(values: Numbers, weights: Weights) -> Numbers:
    """Return the weighted sum of squares around the mean `[resamples]`."""
    mean = (values * weights).sum(0) / weights.sum(0)
    return np.asarray((weights * (values - mean) ** 2).sum(0))


def _correlation(one: Numbers, other: Numbers, weights: Weights) -> Numbers:
    total = weights.sum(0)
    a = one - (one * weights).sum(0) / total
    b = other - (other * weights).sum(0) / total
    squares = (weights * a**2).sum(0), (weights * b**2).sum(0)
    # numbers that are equal but for rounding do not vary
    floors = (_SMALLEST**2 * (weights * x**2).sum(0) for x in (one, other))
    varies = np.logical_and(*(s > f for s, f in zip(squares, floors, strict=True)))
    both = np.sqrt(squares[0] * squares[1])
    found = np.full(total.shape, np.nan)
    return np.divide((weights * a * b).sum(0), both, out=found, where=varies & (both > 0))
