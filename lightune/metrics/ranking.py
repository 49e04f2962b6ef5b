"""Area under the ROC curve, for many weightings of the records at once.

The area is the share of (positive, negative) pairs that the scores put in the right order, ties
counting half (Mann and Whitney 1947). Records are sorted once; a weighting then costs one
cumulative sum over the negatives.

Undefined (NaN) where positives or negatives are missing. The macro average runs over the classes
for which the area is defined, unlike scikit-learn, which then gives NaN for all.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lightune.metrics.intervals import Weights

Area = Callable[[Weights], NDArray[np.float64]]
"""Weights `[records, resamples]` -> area `[resamples]`."""


def roc_auc(positive: NDArray[np.bool_], scores: NDArray[np.floating]) -> Area:
    """Return the area as a function of record weights.

    Args:
        positive: `[records]`, which records belong to the class.
        scores: `[records]`, higher means more likely positive.
    """
    yes, no = np.flatnonzero(positive), np.flatnonzero(~positive)
    no = no[np.argsort(scores[no], kind="stable")]
    below = np.searchsorted(scores[no], scores[yes], side="left")
    upto = np.searchsorted(scores[no], scores[yes], side="right")
    ties = not np.array_equal(below, upto)

    def area(weights: Weights) -> NDArray[np.float64]:
        negatives = np.zeros((len(no) + 1, weights.shape[1]))
        np.cumsum(weights[no], axis=0, out=negatives[1:])
        beaten = negatives[below]
        if ties:
            beaten = (beaten + negatives[upto]) / 2
        positives = weights[yes]
        pairs = positives.sum(axis=0) * negatives[-1]
        right = np.einsum("pb,pb->b", positives, beaten)
        return np.divide(right, pairs, out=np.full_like(right, np.nan), where=pairs > 0)

    return area


def mean_area(areas: Sequence[Area]) -> Area:
    """Return the mean of the areas that are defined."""

    def mean(weights: Weights) -> NDArray[np.float64]:
        total, count = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
        for area in areas:
            value = area(weights)
            defined = np.isfinite(value)
            total[defined] += value[defined]
            count += defined
        return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)

    return mean
