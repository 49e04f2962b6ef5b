"""95 % bootstrap intervals over records, for many metrics at once and without a loop over them.

Why:        a score of a test set is a sample. The interval says how far it may move on another
            test set of the same size and kind.
How:        a `Statistic` computes its metrics from record weights `[records, resamples]`. A
            resample with replacement is a column of counts, so one call gives every metric of
            hundreds of resamples, as sparse products and cumulative sums. Percentile method
            (Efron 1979); `scipy.stats.bootstrap(method="percentile")` is the tests' oracle.
Invariants: equal seed, data and number of resamples give equal intervals, bit for bit. An
            interval always holds its value: calibration error is biased upward under resampling,
            so its percentiles alone may miss the value, and the nearer end is moved to it.
Cost:       records * resamples weights, made in pieces of at most 16 MB.
Said:       resamples for which a metric is undefined are left out and counted in the notes. Where
            every resample agrees (no error in the test set) the bootstrap is blind, and an
            interval without width would claim certainty: shares of records then get the exact
            binomial interval (Clopper and Pearson 1934), other metrics get none.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightune.types import Score

Weights = NDArray[np.float64]
"""`[records, resamples]`: how often each record counts in each resample."""

Statistic = Callable[[Weights], dict[str, NDArray[np.float64]]]
"""Weights -> `{metric: [resamples]}`, NaN where the metric is undefined."""

LEVEL = 0.95
RESAMPLES = 1000
FEWEST = 200
_WORK = 500_000_000
_PIECE = 2_000_000


@dataclass(frozen=True, slots=True)
class Intervals:
    """Values with their intervals, and what a reader must know about them.

    Attributes:
        scores: metric -> value and interval; a metric undefined on the data itself is absent.
        notes: sentences on undefined resamples and on intervals that could not be made.
        resamples: how many were drawn.
    """

    scores: dict[str, Score]
    notes: list[str]
    resamples: int


def point(statistic: Statistic, records: int) -> dict[str, float]:
    """Return the metrics of the data itself; undefined ones are absent."""
    values = statistic(np.ones((records, 1)))
    return {name: float(value[0]) for name, value in values.items() if np.isfinite(value[0])}


def resamples_for(records: int, classes: int = 1) -> int:
    """Return 1,000, or fewer (never below 200) where that would take more than a few seconds."""
    return int(np.clip(_WORK // max(records * classes, 1), FEWEST, RESAMPLES))


def bootstrap(
    statistic: Statistic,
    records: int,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    shares: Collection[str] = (),
) -> Intervals:
    """Return every metric of `statistic` with its 95 % interval.

    Args:
        records: number of records, at least one.
        resamples: number of resamples with replacement, each of `records` records.
        shares: metrics that are a share of records (accuracy), which have an exact interval
            where the bootstrap is blind.
    """
    values = point(statistic, records)
    drawn: dict[str, list[NDArray[np.float64]]] = {name: [] for name in values}
    for weights in _resampled(records, resamples, seed):
        result = statistic(weights)
        for name, piece in drawn.items():
            piece.append(result[name])
    scores: dict[str, Score] = {}
    notes: list[str] = []
    blind: list[str] = []
    for name, value in values.items():
        draws = np.concatenate(drawn[name]) if drawn[name] else np.empty(0)
        defined = draws[np.isfinite(draws)]
        missing = len(draws) - len(defined)
        if missing:
            left = "no interval is given" if missing > len(defined) else "they are left out"
            notes.append(f"{name} is undefined in {missing} of {len(draws)} resamples; {left}")
        if missing > len(defined) or not len(defined):
            scores[name] = Score(value)
        elif np.ptp(defined) < 1e-12 and name in shares:
            scores[name] = Score(value, *_exact(value, records))
        elif np.ptp(defined) < 1e-12:
            blind.append(name)
            scores[name] = Score(value)
        else:
            low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            scores[name] = Score(value, min(float(low), value), max(float(high), value))
    if blind:
        notes.append(f"all resamples agree on {', '.join(blind)}: no interval can be given")
    return Intervals(scores, notes, resamples)


def _resampled(records: int, resamples: int, seed: int) -> Iterator[Weights]:
    """Yield weights `[records, piece]` until `resamples` columns were given."""
    rng = np.random.default_rng(seed)
    width = max(1, _PIECE // records)
    for start in range(0, resamples, width):
        columns = min(width, resamples - start)
        cells = rng.integers(0, records, size=(records, columns)) * columns
        cells += np.arange(columns)
        counts = np.bincount(cells.ravel(), minlength=records * columns)
        yield counts.reshape(records, columns).astype(np.float64)


def _exact(value: float, records: int) -> tuple[float, float]:
    """Return the Clopper–Pearson interval of a share that is 0 or 1; any other has no width."""
    tail = ((1 - LEVEL) / 2) ** (1 / records)
    if value >= 1:
        return tail, 1.0
    if value <= 0:
        return 0.0, 1 - tail
    return value, value
