"""Bootstrap intervals against scipy's, against simulation, and where a bootstrap is blind."""

import time

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from lightune.metrics import classification
from lightune.metrics.intervals import FEWEST, RESAMPLES, bootstrap, resamples_for
from lightune.types import Score


def predictions(records, classes, seed=0, strength=1.0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, records)
    logits = rng.normal(size=(records, classes))
    logits[np.arange(records), truth] += strength
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return truth, shares.argmax(axis=1), shares


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("accuracy", lambda t, g, s: (t == g).mean()),
        ("macro_f1", lambda t, g, s: sklearn_metrics.f1_score(t, g, average="macro")),
        ("matthews", lambda t, g, s: sklearn_metrics.matthews_corrcoef(t, g)),
        ("roc_auc", lambda t, g, s: sklearn_metrics.roc_auc_score(t, s)),
    ],
)
def test_intervals_are_scipys(name, function):
    truth, guess, shares = predictions(150, 2)
    ours = bootstrap(
        classification.single_label(truth, guess, shares, 2), 150, resamples=4000, seed=1
    ).scores[name]
    theirs = stats.bootstrap(
        (truth, guess, shares[:, 1]),
        function,
        paired=True,
        vectorized=False,
        n_resamples=600,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.value == pytest.approx(function(truth, guess, shares[:, 1]))
    assert ours.low == pytest.approx(theirs.low, abs=0.12 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.12 * width)


def test_intervals_cover_the_truth():
    """Of 95 % intervals over 300 small test sets, about 95 % hold the accuracy of all data."""
    everything = predictions(200_000, 3)
    accuracy = (everything[0] == everything[1]).mean()
    macro = sklearn_metrics.f1_score(everything[0], everything[1], average="macro")
    hits = np.zeros(2)
    for seed in range(300):
        truth, guess, _ = predictions(200, 3, seed=seed + 10)
        scores = bootstrap(
            classification.single_label(truth, guess, None, 3), 200, resamples=400, seed=seed
        ).scores
        for i, (name, true) in enumerate((("accuracy", accuracy), ("macro_f1", macro))):
            hits[i] += scores[name].low <= true <= scores[name].high
    # three standard deviations of a share of 300
    assert (np.abs(hits / 300 - 0.95) < 0.038).all(), hits


def test_seed_decides_and_pieces_do_not_show():
    truth, guess, shares = predictions(5000, 3)
    statistic = classification.single_label(truth, guess, shares, 3)
    first, again, other = (bootstrap(statistic, 5000, seed=s) for s in (7, 7, 8))
    assert first == again
    assert first != other
    assert first.scores["accuracy"].value == other.scores["accuracy"].value


@pytest.mark.parametrize(("records", "classes"), [(872, 2), (7600, 4)])
def test_all_metrics_of_a_benchmark_take_under_two_seconds(records, classes):
    truth, guess, shares = predictions(records, classes)
    start = time.process_time()
    bootstrap(classification.single_label(truth, guess, shares, classes), records)
    assert time.process_time() - start < 2


def test_every_interval_holds_its_value():
    """Calibration error is biased upward under resampling: its percentiles may miss it."""
    for seed in range(20):
        truth, guess, shares = predictions(100, 4, seed)
        for score in bootstrap(
            classification.single_label(truth, guess, shares, 4), 100, resamples=100
        ).scores.values():
            assert score.low <= score.value <= score.high


class TestWhereTheBootstrapIsBlind:
    def test_no_error_gives_the_exact_interval_for_accuracy_and_none_for_others(self):
        truth = np.array([0, 1] * 10)
        shares = np.eye(2)[truth] * 0.8 + 0.1
        result = bootstrap(
            classification.single_label(truth, truth, shares, 2), 20, shares=("accuracy",)
        )
        accuracy = result.scores["accuracy"]
        exact = stats.binomtest(20, 20).proportion_ci(method="exact")
        assert (accuracy.low, accuracy.high) == pytest.approx((exact.low, exact.high))
        for name in ("macro_f1", "matthews", "roc_auc"):
            assert result.scores[name].value == 1
            assert result.scores[name].low is result.scores[name].high is None
        assert "macro_f1" in result.notes[-1]

    def test_no_hit_is_exact_as_well(self):
        truth = np.array([0, 1] * 5)
        result = bootstrap(
            classification.single_label(truth, 1 - truth, None, 2), 10, shares=("accuracy",)
        )
        exact = stats.binomtest(0, 10).proportion_ci(method="exact")
        found = result.scores["accuracy"]
        assert (found.low, found.high) == pytest.approx((exact.low, exact.high))

    def test_undefined_resamples_are_left_out_and_counted(self):
        truth = np.array([1] + [0] * 5)
        shares = np.array([[0.4, 0.6], *[[0.3, 0.7], *[[0.8, 0.2]] * 4]])
        result = bootstrap(
            classification.single_label(truth, shares.argmax(1), shares, 2), 6, resamples=1000
        )
        # the only positive record is missed by (5/6)^6 = 33 % of resamples
        note = next(note for note in result.notes if note.startswith("roc_auc"))
        assert 250 < int(note.split("in ")[1].split(" of")[0]) < 420
        assert result.scores["roc_auc"].low is not None
        assert all(np.isfinite(s.value) for s in result.scores.values())

    def test_mostly_undefined_gives_no_interval(self):
        # a number only where the first record was drawn exactly once: 39 % of resamples
        result = bootstrap(lambda w: {"odd": np.where(w[0] == 1, w[1], np.nan)}, 10)
        assert result.scores == {"odd": Score(1.0)}
        assert [n for n in result.notes if "no interval is given" in n] == result.notes != []


@pytest.mark.parametrize(
    ("records", "classes", "expected"),
    [(872, 2, RESAMPLES), (7600, 4, RESAMPLES), (10**7, 2, FEWEST), (0, 2, RESAMPLES)],
)
def test_large_data_gets_fewer_resamples_but_never_too_few(records, classes, expected):
    assert resamples_for(records, classes) == expected
