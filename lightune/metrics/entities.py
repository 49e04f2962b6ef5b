"""Scores of tagged texts by whole entities, as seqeval defines them (its default, lenient mode).

An entity is a run of words and its type; it is right if a predicted one has the same words and the
same type. Precision, recall and F1 are over all entities of all types (micro average), `macro_f1`
is the mean over the types that occur in truth or prediction.

Tags:       `B-PER` begins an entity, `I-PER` goes on, `E-PER` ends it, `S-PER` is one of a single
            word, `O` is outside; a bare `B` has the type `_`. Where tags do not fit (an `I-PER`
            behind `O`, or behind another type), an entity begins, as in the CoNLL-2000 script.
Undefined:  precision without predicted entities, and recall without expected ones, are 0 as in
            seqeval. Where there are neither, all are NaN here and absent in the results.
Not here:   other prefixes (`tasks/tagging.py`), names of types.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from lightune.metrics.intervals import Statistic, Weights

OUTSIDE = "O"
BARE = "_"
"""The type of a tag that is a prefix alone."""

Entity = tuple[str, int, int]
"""Type, first word, and the word behind the last."""


def entities(tags: Sequence[str]) -> list[Entity]:
    """Return the entities of one text, in order."""
    found: list[Entity] = []
    before, type_before, start = OUTSIDE, "", 0
    for i, tag in enumerate([*tags, OUTSIDE]):
        prefix, kind = tag[:1], tag[1:].split("-", maxsplit=1)[-1] or BARE
        if _ends(before, prefix, type_before, kind):
            found.append((type_before, start, i))
        if _starts(before, prefix, type_before, kind):
            start = i
        before, type_before = prefix, kind
    return found


def _ends(before: str, prefix: str, type_before: str, kind: str) -> bool:
    if before == OUTSIDE:
        return False
    return before in "ES" or (before in "BI" and prefix in "BSO") or type_before != kind


def _starts(before: str, prefix: str, type_before: str, kind: str) -> bool:
    if prefix == OUTSIDE:
        return False
    return prefix in "BS" or (prefix in "EI" and before in "ESO") or type_before != kind


def by_entity(
    hits: NDArray[np.int64], expected: NDArray[np.int64], predicted: NDArray[np.int64]
) -> Statistic:
    """Return f1, precision, recall and macro_f1.

    Args:
        hits: `[types, records]`, entities of each type that were found in each record.
        expected: the same of those that there are.
        predicted: the same of those that were predicted.
    """
    matrices = [sparse.csr_matrix(m.astype(np.float64)) for m in (hits, expected, predicted)]

    def statistic(weights: Weights) -> dict[str, NDArray[np.float64]]:
        hit, true, guessed = (matrix @ weights for matrix in matrices)
        each = _share(2 * hit, true + guessed, np.nan)
        defined = np.isfinite(each)
        hit, true, guessed = hit.sum(axis=0), true.sum(axis=0), guessed.sum(axis=0)
        none = np.where(true + guessed > 0, 0.0, np.nan)
        return {
            "f1": _share(2 * hit, true + guessed, none),
            "precision": _share(hit, guessed, none),
            "recall": _share(hit, true, none),
            "macro_f1": _share(np.where(defined, each, 0.0).sum(0), defined.sum(0), np.nan),
        }

    return statistic


def _share(
    part: NDArray[np.float64], whole: NDArray[np.float64], none: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """Divide; `none` where there is nothing to divide by."""
    out = np.array(np.broadcast_to(none, np.shape(part)), dtype=np.float64)
    return np.divide(part, whole, out=out, where=np.asarray(whole) > 0)
