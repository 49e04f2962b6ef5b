"""Scores of a classifier as functions of record weights, and its per-class tables.

Why:        written once, each formula serves the score itself (all weights one) and its bootstrap
            interval (`intervals.py`). scikit-learn is the tests' oracle for every one of them.
Shapes:     single-label: truth and predicted `[records]` class numbers, probabilities
            `[records, classes]`. Multi-label: all three `[records, classes]`.
Undefined:  a metric that its data cannot define is NaN here and absent in the results, never 0:
            Matthews and ROC-AUC where the truth holds one class only. Macro F1 averages over the
            classes that occur in truth or prediction (scikit-learn's default for `labels=None`).
Not here:   names of classes (`tasks/`), drawing (`evaluate/`).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from lightune.metrics.intervals import Statistic, Weights
from lightune.metrics.ranking import mean_area, roc_auc

BINS = 15
"""Bins of the calibration error, as in Guo et al. 2017."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def single_label(
    truth: Ints, predicted: Ints, probabilities: NDArray[np.floating] | None, classes: int
) -> Statistic:
    """Return accuracy, macro_f1, weighted_f1, matthews, roc_auc and calibration_error.

    The last two need `probabilities`. ROC-AUC is that of class 1 for two classes, and the mean of
    one-versus-rest for more.
    """
    correct = truth == predicted
    hits, support, guesses = (
        _indicator(classes, truth, correct.astype(np.float64)),
        _indicator(classes, truth),
        _indicator(classes, predicted),
    )
    gaps = area = None
    if probabilities is not None:
        gaps = _calibration_gaps(correct, probabilities)
        chosen = range(1, 2) if classes == 2 else range(classes)
        area = mean_area([roc_auc(truth == c, probabilities[:, c]) for c in chosen])

    def statistic(weights: Weights) -> dict[str, Floats]:
        total = weights.sum(axis=0)
        hit, true, guessed = hits @ weights, support @ weights, guesses @ weights
        f1 = _ratio(2 * hit, true + guessed)
        right = hit.sum(axis=0)
        result = {
            "accuracy": right / total,
            "macro_f1": _mean_defined(f1),
            "weighted_f1": np.nansum(f1 * true, axis=0) / total,
            "matthews": _matthews(right, true, guessed, total),
        }
        if area is not None and gaps is not None:
            result["roc_auc"] = area(weights)
            result["calibration_error"] = np.abs(gaps @ weights).sum(axis=0) / total
        return result

    return statistic


def multi_label(
    truth: NDArray[np.bool_],
    predicted: NDArray[np.bool_],
    probabilities: NDArray[np.floating] | None,
) -> Statistic:
    """Return micro_f1, macro_f1, weighted_f1, subset_accuracy, hamming_loss and roc_auc (macro).

    Subset accuracy is the share of records whose whole set of labels is right; the Hamming loss
    is the share of single (record, label) decisions that are wrong.
    """
    classes = truth.shape[1]
    hits, support, guesses = (
        sparse.csr_matrix(m.T.astype(np.float64)) for m in (truth & predicted, truth, predicted)
    )
    exact = (truth == predicted).all(axis=1).astype(np.float64)
    area = None
    if probabilities is not None:
        area = mean_area([roc_auc(truth[:, c], probabilities[:, c]) for c in range(classes)])

    def statistic(weights: Weights) -> dict[str, Floats]:
        total = weights.sum(axis=0)
        hit, true, guessed = hits @ weights, support @ weights, guesses @ weights
        f1 = _ratio(2 * hit, true + guessed)
        wrong = (true + guessed - 2 * hit).sum(axis=0)
        result = {
            "micro_f1": _ratio(2 * hit.sum(axis=0), (true + guessed).sum(axis=0)),
            "macro_f1": _mean_defined(f1),
            "weighted_f1": _ratio(np.nansum(f1 * true, axis=0), true.sum(axis=0)),
            "subset_accuracy": exact @ weights / total,
            "hamming_loss": wrong / (total * classes),
        }
        if area is not None:
            result["roc_auc"] = area(weights)
        return result

    return statistic


def confusion_matrix(truth: Ints, predicted: Ints, classes: int) -> Ints:
    """Return counts `[truth, predicted]`."""
    cells = np.bincount(truth * classes + predicted, minlength=classes * classes)
    return cells.reshape(classes, classes)


def per_class(hit: Ints, support: Ints, predicted: Ints) -> list[dict[str, Any]]:
    """Return precision, recall, f1, support and predicted of every class, JSON-ready.

    A ratio with nothing beneath it is None: precision of a class never predicted, recall of a
    class without records.

    Args:
        hit: `[classes]`, records of the class that were predicted as such.
        support: `[classes]`, records of the class.
        predicted: `[classes]`, records predicted as the class.
    """
    columns = {
        "precision": _ratio(hit, predicted),
        "recall": _ratio(hit, support),
        "f1": _ratio(2 * hit, support + predicted),
    }
    rows: list[dict[str, Any]] = []
    for i in range(len(hit)):
        shares = {k: float(v[i]) if np.isfinite(v[i]) else None for k, v in columns.items()}
        rows.append({**shares, "support": int(support[i]), "predicted": int(predicted[i])})
    return rows


def calibration_error(correct: NDArray[np.bool_], probabilities: NDArray[np.floating]) -> float:
    """Return the expected calibration error (Guo et al. 2017, arXiv:1706.04599, equation 3).

    Records are put into 15 equal-width bins ((m-1)/15, m/15] by the highest of their class
    probabilities (their confidence): sum over bins of |bin|/n * |accuracy - mean confidence|.

    Args:
        correct: `[records]`.
        probabilities: `[records, classes]`.
    """
    sums = _calibration_gaps(correct, probabilities) @ np.ones(len(correct))
    return float(np.abs(sums).sum() / len(correct))


def _calibration_gaps(
    correct: NDArray[np.bool_], probabilities: NDArray[np.floating]
) -> sparse.csr_matrix:
    """Return `[bins, records]`: correct minus confidence, in the bin of each record."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return _indicator(BINS, bins, correct - confidence)


def _indicator(rows: int, row: Ints, values: Floats | None = None) -> sparse.csr_matrix:
    """Return `[rows, records]` with one value (default 1) per record, in its row."""
    values = np.ones(len(row)) if values is None else values
    return sparse.csr_matrix((values, (row, np.arange(len(row)))), shape=(rows, len(row)))


def _matthews(right: Floats, true: Floats, guessed: Floats, total: Floats) -> Floats:
    """Return the multi-class coefficient (Gorodkin 2004); 0 where all predictions are one class."""
    covariance = right * total - (true * guessed).sum(axis=0)
    spread_true = total**2 - (true**2).sum(axis=0)
    spread_guessed = total**2 - (guessed**2).sum(axis=0)
    constant = (spread_guessed <= 0) & (spread_true > 0)
    value = _ratio(covariance, np.sqrt(spread_true * spread_guessed))
    return np.where(constant, 0.0, value)


def _ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    """Divide; NaN where there is nothing to divide by."""
    out = np.full(np.shape(numerator), np.nan)
    return np.divide(numerator, denominator, out=out, where=np.asarray(denominator) > 0)


def _mean_defined(values: Floats) -> Floats:
    """Return the mean over the first axis of the values that are numbers; NaN where none is."""
    defined = np.isfinite(values)
    return _ratio(np.where(defined, values, 0.0).sum(axis=0), defined.sum(axis=0))
