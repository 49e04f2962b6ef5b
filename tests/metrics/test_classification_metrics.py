"""Every metric against scikit-learn on random data; calibration error against its formula."""

import math

import numpy as np
import pytest
from sklearn import metrics as oracle

from lightune.metrics import classification as ours
from lightune.metrics.intervals import point


def sample(classes, records, seed, ties=False):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, records)
    logits = rng.normal(size=(records, classes))
    logits[np.arange(records), truth] += 1.0
    if ties:
        logits = np.round(logits)
    shares = np.exp(logits)
    shares /= shares.sum(axis=1, keepdims=True)
    return truth, shares.argmax(axis=1), shares


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("classes", "records"), [(2, 50), (3, 200), (11, 300)])
@pytest.mark.parametrize("seed", range(3))
def test_single_label_metrics_are_scikit_learns(classes, records, seed, ties):
    truth, guess, shares = sample(classes, records, seed, ties)
    found = point(ours.single_label(truth, guess, shares, classes), records)
    area = (
        oracle.roc_auc_score(truth, shares[:, 1])
        if classes == 2
        else oracle.roc_auc_score(truth, shares, multi_class="ovr", average="macro")
    )
    expected = {
        "accuracy": oracle.accuracy_score(truth, guess),
        "macro_f1": oracle.f1_score(truth, guess, average="macro"),
        "weighted_f1": oracle.f1_score(truth, guess, average="weighted"),
        "matthews": oracle.matthews_corrcoef(truth, guess),
        "roc_auc": area,
        "calibration_error": formula_of_guo(truth == guess, shares),
    }
    assert found == pytest.approx(expected, abs=1e-12)
    assert list(found) == list(expected)


def formula_of_guo(correct, shares):
    """Equation 3 of arXiv:1706.04599, bin by bin."""
    confidence, total = shares.max(axis=1), 0.0
    for m in range(1, 16):
        chosen = (confidence > (m - 1) / 15) & (confidence <= m / 15)
        if chosen.any():
            gap = abs(correct[chosen].mean() - confidence[chosen].mean())
            total += chosen.sum() / len(correct) * gap
    return total


@pytest.mark.parametrize(
    ("confidence", "correct", "expected"),
    [
        ([1.0, 1.0], [True, True], 0.0),
        ([1.0, 1.0], [True, False], 0.5),
        ([0.9, 0.6], [True, False], 0.5 * 0.1 + 0.5 * 0.6),
        # 10/15 closes the tenth bin, so 0.65 is with it; 0.67 opens the next one
        ([10 / 15, 0.65, 0.67], [True, False, True], abs(1 - 10 / 15 - 0.65) / 3 + 0.33 / 3),
    ],
)
def test_calibration_error_by_hand(confidence, correct, expected):
    shares = np.array([[c, 1 - c] for c in confidence])
    assert ours.calibration_error(np.array(correct), shares) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_multi_label_metrics_are_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    truth = rng.random((150, 5)) < 0.3
    shares = np.clip(truth * 0.4 + rng.random((150, 5)) * 0.7, 0, 1)
    guess = shares >= 0.5
    expected = {
        "micro_f1": oracle.f1_score(truth, guess, average="micro"),
        "macro_f1": oracle.f1_score(truth, guess, average="macro"),
        "weighted_f1": oracle.f1_score(truth, guess, average="weighted"),
        "subset_accuracy": oracle.accuracy_score(truth, guess),
        "hamming_loss": oracle.hamming_loss(truth, guess),
        "roc_auc": oracle.roc_auc_score(truth, shares, average="macro"),
    }
    found = point(ours.multi_label(truth, guess, shares), 150)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_per_class_and_matrix_are_scikit_learns(seed):
    truth, guess, _ = sample(4, 60, seed)
    guess[guess == 3] = 0
    matrix = ours.confusion_matrix(truth, guess, 4)
    assert matrix.tolist() == oracle.confusion_matrix(truth, guess, labels=range(4)).tolist()
    rows = ours.per_class(np.diag(matrix), matrix.sum(1), matrix.sum(0))
    expected = oracle.precision_recall_fscore_support(
        truth, guess, labels=range(4), zero_division=np.nan
    )
    for i, row in enumerate(rows):
        for name, column in zip(("precision", "recall", "f1", "support"), expected, strict=True):
            if math.isnan(column[i]):
                assert row[name] is None
            else:
                assert row[name] == pytest.approx(column[i])
    assert rows[3]["precision"] is None
    assert rows[3]["f1"] == 0


class TestUndefined:
    """Absent, never NaN and never a made-up 0."""

    def test_one_class_in_truth(self):
        truth, guess = np.zeros(4, int), np.array([0, 0, 1, 0])
        found = point(ours.single_label(truth, guess, np.full((4, 2), 0.5), 2), 4)
        assert not {"matthews", "roc_auc"} & set(found)
        assert found["accuracy"] == 0.75

    def test_one_class_predicted_tells_nothing(self):
        truth, guess = np.array([0, 1, 1, 2]), np.ones(4, int)
        found = point(ours.single_label(truth, guess, None, 3), 4)
        assert found["matthews"] == 0 == oracle.matthews_corrcoef(truth, guess)
        assert "roc_auc" not in found
        assert "calibration_error" not in found

    def test_class_that_never_occurs_is_left_out_of_averages(self):
        truth, guess, shares = sample(3, 80, 0)
        wide = np.hstack([shares, np.zeros((80, 1))])
        with_it = point(ours.single_label(truth, guess, wide, 4), 80)
        assert with_it == point(ours.single_label(truth, guess, shares, 3), 80)

    def test_multi_label_without_any_label(self):
        none = np.zeros((3, 2), bool)
        found = point(ours.multi_label(none, none, none.astype(float)), 3)
        assert found == {"subset_accuracy": 1, "hamming_loss": 0}
