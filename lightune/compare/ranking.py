"""Who stands before whom, where contenders were not all tried on the same folds.

Why:        a contender that was dropped after two easy folds has a better mean than one that went
            on to the hard ones, and is not better for it.
How:        a fold has its own difficulty, a contender its own level, and a value is their sum
            (least squares, folds by their records; the two-way layout with empty cells). Where
            nothing is missing, levels are the means.
Invariants: who is shown to be worse than any other neither leads nor stands first, and stands below
            all that went the whole way if it did not.
Not here:   who is shown to be worse than whom (`judge.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from lightune.compare.cells import Cell, by_fold
from lightune.compare.findings import Pair

DIGITS = 11
"""Levels that differ by less than rounding leaves are the same."""


def levels(cells: Mapping[str, Sequence[Cell]], means: Mapping[str, float]) -> dict[str, float]:
    """Return what each contender's mean would be on all folds.

    Args:
        means: over the folds that each was tried on.
    """
    tried = {contender: by_fold(mine) for contender, mine in cells.items()}
    folds = sorted({fold for mine in tried.values() for fold in mine})
    if all(len(mine) == len(folds) for mine in tried.values()):
        return dict(means)
    rows, values, sizes = [], [], {}
    for i, mine in enumerate(tried.values()):
        for fold, seeds in mine.items():
            row = np.zeros(len(tried) + len(folds))
            row[[i, len(tried) + folds.index(fold)]] = 1.0
            sizes[fold] = next(iter(seeds.values())).records
            root = np.sqrt(sizes[fold])
            rows.append(root * row)
            values.append(root * np.mean([cell.value for cell in seeds.values()]))
    found = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]
    weights = np.array([sizes[fold] for fold in folds], dtype=np.float64)
    usual = float(weights @ found[len(tried) :] / weights.sum())
    return {c: round(float(found[i]) + usual, DIGITS) for i, c in enumerate(tried)}


def ranked(
    order: Sequence[str],
    pairs: Sequence[Pair],
    folds: Mapping[str, int],
    dropped: Collection[str] = (),
) -> tuple[list[str], list[str]]:
    """Return the contenders, the best first, and those of them that lead.

    Args:
        order: by their levels.
        folds: that each was tried on.
        dropped: shown to be worse by an earlier look, and tried no more.
    """
    beaten = {pair.other for pair in pairs if pair.verdict == "better"} | set(dropped)
    most = max(folds.values())
    below = [c for c in order if c in beaten and (c in dropped or folds[c] < most)]
    rest = [c for c in order if c not in below]
    leaders = [c for c in rest if c not in beaten] or [*rest, *below][:1]
    return [leaders[0], *(c for c in [*rest, *below] if c != leaders[0])], leaders
