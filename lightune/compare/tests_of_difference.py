"""Tests of a difference between two contenders, and the family they belong to. Arrays only.

    corrected_t      over folds: Nadeau and Bengio 2003, "Inference for the generalization error"
    mcnemar          over records that one of the two has right: McNemar 1947, exact binomial
    bootstrap_p      over resamples of records, seeds averaged: Efron and Tibshirani 1993
    randomisation_p  over exchanges of the two outputs of records: Noreen 1989, for corpus metrics
    holm             all p-values of a family: Holm 1979
    equivalence_p    two one-sided tests: Schuirmann 1987
    detectable       the smallest true difference found in four of five such comparisons

Invariants: every p-value is two-sided and in [0, 1]; `equivalence_p` is of "they differ by the
            margin or more", so a small one says that they are equivalent.
Not here:   the standard error of a difference (`evidence.py`).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

Floats = NDArray[np.float64]
POWER = 0.8
ALPHA = 0.05


def corrected_t(differences: Floats, test_share: float) -> tuple[float, float]:
    """Return t and p of the corrected resampled t-test.

    The variance of the mean of J differences is taken as (1/J + n_test/n_train) of theirs: the
    training sets of folds overlap, so that more folds are not as much more evidence.

    Args:
        differences: `[folds]`, at least two; seeds averaged within each fold.
        test_share: n_test / n_train; 1 / (folds - 1) in cross-validation on all records, more
            where a part of them is trained on.
    """
    count = len(differences)
    variance = float(differences.var(ddof=1))
    mean = float(differences.mean())
    if variance <= 0:
        return (0.0, 1.0) if mean == 0 else (float(np.copysign(np.inf, mean)), 0.0)
    t = mean / float(np.sqrt((1 / count + test_share) * variance))
    return t, float(2 * stats.t.sf(abs(t), count - 1))


def mcnemar(first_only: int, second_only: int) -> float:
    """Return the exact p-value of McNemar's test.

    Args:
        first_only: records that the first contender has right and the second wrong.
        second_only: the other way round.
    """
    if first_only + second_only == 0:
        return 1.0
    return float(stats.binomtest(first_only, first_only + second_only, 0.5).pvalue)


def bootstrap_p(resampled: Floats) -> float:
    """Return twice the smaller share of resampled differences on one side of 0.

    Args:
        resampled: `[resamples]`; one is added to each side, so that no p-value is 0.
    """
    below, above = int((resampled <= 0).sum()), int((resampled >= 0).sum())
    return min(1.0, 2 * (1 + min(below, above)) / (1 + len(resampled)))


def randomisation_p(observed: float, exchanged: Floats) -> float:
    """Return the share of exchanges that differ at least as much as what was observed.

    Args:
        exchanged: `[exchanges]`, the difference after the outputs of a random half of the records
            changed hands; what was observed counts as one of them.
    """
    as_far = int((np.abs(exchanged) >= abs(observed) * (1 - 1e-12)).sum())
    return (1 + as_far) / (1 + len(exchanged))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted so that all claims of a family hold together at a level.

    The i-th smallest of m is multiplied by m - i + 1, and none is below a smaller one's.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted.tolist()


def equivalence_p(value: float, error: float, degrees: float, margin: float) -> float:
    """Return the larger p-value of the two one-sided tests of |true value| >= margin.

    Args:
        value, error, degrees: of the difference.
        margin: above 0.
    """
    if error <= 0:
        return 0.0 if abs(value) < margin else 1.0
    below = stats.t.sf((value + margin) / error, degrees)
    above = stats.t.cdf((value - margin) / error, degrees)
    return float(max(below, above))


def power(true: float, error: float, degrees: float, alpha: float = ALPHA) -> float:
    """Return the probability that a two-sided test at `alpha` finds a true difference."""
    if error <= 0:
        return 1.0 if true else 0.0
    critical = stats.t.ppf(1 - alpha / 2, degrees)
    far = abs(true) / error
    wrong_way = stats.nct.cdf(-critical, degrees, far)  # NaN where too small for SciPy's series
    return float(stats.nct.sf(critical, degrees, far) + np.nan_to_num(wrong_way))


def detectable(error: float, degrees: float, alpha: float = ALPHA) -> float:
    """Return the smallest true difference that is found with a probability of 80 %.

    Args:
        error: standard error of the difference.
        alpha: of the one test: that of the family over its number of tests.
    """
    if error <= 0:
        return 0.0
    critical = float(stats.t.ppf(1 - alpha / 2, degrees))
    high = 2 * critical + 6
    return error * float(
        optimize.brentq(lambda far: power(far, 1.0, degrees, alpha) - POWER, 0.0, high, xtol=1e-6)
    )
