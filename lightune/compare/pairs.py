"""Two contenders side by side: the difference, what decides it, and what other tests say.

Why:        the folds that both were tried on are compared record by record. Where seeds are the
            same in both, trainings are paired too.
Decides:    the evidence over folds (`evidence.py`), by Holm over all pairs.
Beside it:  a bootstrap over units with seeds averaged; the corrected resampled t-test over folds;
            McNemar's test where the metric is a share of right records, and approximate
            randomisation where it is not, both on the first seed. They know nothing of the chance
            of training, or little of the records, and stand in the report to be compared with.
Invariants: equal seed and outcomes give equal numbers, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightune.compare import tests_of_difference as tests
from lightune.compare.cells import Cell, Weighted, by_fold
from lightune.compare.evidence import Evidence, Fold, weigh

RESAMPLES = 1000
_PIECE = 2_000_000
Floats = NDArray[np.float64]

Joint = Callable[[Cell, Cell], Weighted | None]
"""See `Scorer.joint`."""


@dataclass(frozen=True, slots=True)
class Lead:
    """The difference of two contenders, positive where the first is better.

    Attributes:
        folds: in common; where there are none, nothing is known.
        identical: every record counts the same in both.
        decidable: training was repeated, by folds or seeds, or has no chance in it: a difference
            of two single trainings may be theirs, and not that of the contenders.
    """

    evidence: Evidence | None
    folds: int
    identical: bool
    decidable: bool


def single(cells: Sequence[Cell], steady: bool) -> Evidence:
    """Return a contender's mean over folds."""
    return weigh([_fold(list(seeds.values()), steady) for seeds in by_fold(cells).values()])


def lead(one: Sequence[Cell], other: Sequence[Cell], steady: tuple[bool, bool], sign: int) -> Lead:
    """Compare on the folds in common.

    Args:
        steady: whether the training of each has no chance in it.
        sign: -1 where a lower metric is better.
    """
    first, second = by_fold(one), by_fold(other)
    found, identical = [], True
    for fold in sorted(first.keys() & second.keys()):
        a, b = first[fold], second[fold]
        shared = sorted(a.keys() & b.keys())
        identical &= a.keys() == b.keys() and all(_alike(a[s], b[s]) for s in shared)
        if len(shared) == max(len(a), len(b)):
            values = np.array([a[s].value - b[s].value for s in shared])
            influence = np.array([a[s].influence - b[s].influence for s in shared])
            cell = a[shared[0]]
            both = all(steady)
            found.append(
                Fold.of_seeds(sign * values, sign * influence, cell.units, cell.records, both)
            )
        else:
            apart = _fold([*a.values()], steady[0]).minus(_fold([*b.values()], steady[1]))
            found.append(apart if sign > 0 else _turned(apart))
    if not found:
        return Lead(None, 0, False, False)
    decidable = len(found) > 1 or found[0].steady
    return Lead(weigh(found), len(found), identical, decidable)


def bootstrap(cells: Sequence[Cell], seed: int) -> dict[int, Floats]:
    """Return `{fold: [resamples]}`, the metric with seeds averaged; NaN where undefined.

    The draws are those of the fold's units, so that contenders, and folds that share their test
    records, are resampled alike.
    """
    found = {}
    for fold, seeds in by_fold(cells).items():
        cell = next(iter(seeds.values()))
        rng = np.random.default_rng([seed, *cell.units[[0, -1]], len(cell.units)])
        draws = []
        for columns in _widths(cell.records):
            counts = rng.multinomial(
                len(cell.units), np.full(len(cell.units), 1 / len(cell.units)), size=columns
            ).T.astype(np.float64)
            weights = counts[cell.place]
            draws.append(np.mean([c.score(weights) for c in seeds.values()], axis=0))
        found[fold] = np.concatenate(draws)
    return found


def other_tests(
    one: Sequence[Cell],
    other: Sequence[Cell],
    drawn: tuple[dict[int, Floats], dict[int, Floats]],
    joint: Joint,
    seed: int,
) -> dict[str, float]:
    """Return the p-values of the tests that apply.

    Args:
        drawn: of each contender, see `bootstrap`.
    """
    first, second = by_fold(one), by_fold(other)
    folds = sorted(first.keys() & second.keys())
    if not folds:
        return {}
    sizes = np.array([next(iter(first[f].values())).records for f in folds], dtype=float)
    apart = np.array([_mean(first[f]) - _mean(second[f]) for f in folds])
    shares = sizes / sizes.sum()
    resampled = shares @ np.array([drawn[0][f] - drawn[1][f] for f in folds])
    resampled = resampled[np.isfinite(resampled)]
    found = {}
    if len(resampled):
        found["bootstrap"] = tests.bootstrap_p(resampled)
    if len(folds) > 1:
        tested = np.mean([_tested(first[f]) for f in folds])
        found["corrected_t"] = tests.corrected_t(apart, float(tested))[1]
    matched = [(first[f], second[f]) for f in folds]
    cells = [(a[s], b[s]) for a, b in matched for s in sorted(a.keys() & b.keys())[:1]]
    if not cells:
        return found
    each = [(a.each, b.each) for a, b in cells]
    if all(a is not None and b is not None and _are_right_or_wrong(a, b) for a, b in each):
        pairs = np.concatenate([a - b for a, b in each])  # type: ignore[operator]
        found["mcnemar"] = tests.mcnemar(int((pairs > 0.5).sum()), int((pairs < -0.5).sum()))
    else:
        randomised = _randomised(cells, joint, seed)
        found |= {} if randomised is None else {"randomisation": randomised}
    return found


def _randomised(cells: Sequence[tuple[Cell, Cell]], joint: Joint, seed: int) -> float | None:
    """Exchange the two outputs of random units, all folds at once, and score anew."""
    total = sum(a.records for a, _ in cells)
    observed = sum(a.records / total * (a.value - b.value) for a, b in cells)
    exchanged = np.zeros(RESAMPLES)
    for a, b in cells:
        rng = np.random.default_rng([seed, *a.units[[0, -1]], len(a.units)])
        keep = rng.integers(0, 2, size=(len(a.units), RESAMPLES))[a.place].astype(np.float64)
        if a.each is not None and b.each is not None:
            moved = (2 * keep - 1).T @ (a.each - b.each) / a.records
        else:
            score = joint(a, b)
            if score is None:
                return None
            pieces = []
            for columns in np.array_split(keep, max(1, 2 * keep.size // _PIECE), axis=1):
                both = [np.vstack([w, 1 - w]) for w in (columns, 1 - columns)]
                pieces.append(score(both[0]) - score(both[1]))
            moved = np.concatenate(pieces)
        exchanged += a.records / total * moved
    return tests.randomisation_p(float(observed), exchanged[np.isfinite(exchanged)])


def _fold(cells: Sequence[Cell], steady: bool) -> Fold:
    values = np.array([cell.value for cell in cells])
    influence = np.array([cell.influence for cell in cells])
    return Fold.of_seeds(values, influence, cells[0].units, cells[0].records, steady)


def _turned(fold: Fold) -> Fold:
    return Fold(
        -fold.value,
        fold.records,
        fold.units,
        -fold.influence,
        fold.runs,
        fold.runs_degrees,
        fold.steady,
    )


def _alike(one: Cell, other: Cell) -> bool:
    if one.each is not None and other.each is not None:
        return np.array_equal(one.each, other.each)
    return one.value == other.value and np.array_equal(one.influence, other.influence)


def _tested(seeds: dict[int, Cell]) -> float:
    """Return how many records a fold tests for each that it trains on."""
    cell = next(iter(seeds.values()))
    return len(cell.rows) / max(cell.trained, 1)


def _mean(seeds: dict[int, Cell]) -> float:
    return float(np.mean([cell.value for cell in seeds.values()]))


def _are_right_or_wrong(one: Floats, other: Floats) -> bool:
    return all(np.isin(values, (0.0, 1.0)).all() for values in (one, other))


def _widths(rows: int) -> list[int]:
    width = max(1, _PIECE // max(rows, 1))
    return [min(width, RESAMPLES - start) for start in range(0, RESAMPLES, width)]
