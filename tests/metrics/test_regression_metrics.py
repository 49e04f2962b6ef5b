"""Scores of estimated numbers: scipy and scikit-learn are the oracles."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from lightune.metrics.intervals import bootstrap, point
from lightune.metrics.regression import midranks, scores

RNG = np.random.default_rng(3)
WIDE = RNG.normal(size=40) * 1e6 + 1e9
CASES = {
    "numbers": (RNG.normal(size=50), RNG.normal(size=50)),
    "ties": (RNG.integers(0, 4, 60).astype(float), RNG.integers(0, 3, 60) / 7),
    "far from zero": (WIDE, WIDE + RNG.normal(size=40) * 1e5),
    "perfect": (np.array([1.0, 2, 5]), np.array([1.0, 2, 5])),
    "opposite": (np.array([1.0, 2, 5]), np.array([3.0, 2, -1])),
}


def by_libraries(truth, guess):
    return {
        "pearson": stats.pearsonr(truth, guess).statistic,
        "spearman": stats.spearmanr(truth, guess).statistic,
        "r2": r2_score(truth, guess),
        "rmse": root_mean_squared_error(truth, guess),
        "mae": mean_absolute_error(truth, guess),
    }


@pytest.mark.parametrize("name", CASES)
def test_equal_scipys_and_scikit_learns(name):
    truth, guess = CASES[name]
    found, expected = point(scores(truth, guess), len(truth)), by_libraries(truth, guess)
    assert found.keys() == expected.keys()
    for metric, value in expected.items():
        assert found[metric] == pytest.approx(value, rel=1e-9, abs=1e-9), metric


def test_weights_are_repetitions():
    truth, guess = CASES["ties"]
    counts = RNG.integers(0, 4, (60, 5))
    found = scores(truth, guess)(counts.astype(float))
    for column in range(5):
        rows = np.repeat(np.arange(60), counts[:, column])
        for metric, value in by_libraries(truth[rows], guess[rows]).items():
            assert found[metric][column] == pytest.approx(value), metric


def test_ranks_share_the_mean_of_ties():
    values = np.array([2.0, 1, 2, 3, 2])
    assert midranks(values, np.ones((5, 1)))[:, 0].tolist() == stats.rankdata(values).tolist()


def test_the_interval_is_scipys_percentiles():
    truth, guess = CASES["numbers"]
    ours = bootstrap(scores(truth, guess), 50, resamples=4000).scores["rmse"]
    theirs = stats.bootstrap(
        ((truth - guess) ** 2,),
        lambda squares, axis: np.sqrt(squares.mean(axis)),
        method="percentile",
        n_resamples=4000,
        rng=1,
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=0.02)


@pytest.mark.parametrize(
    ("truth", "guess", "absent", "r2"),
    [
        ([1, 2, 3], [2, 2, 2], {"pearson", "spearman"}, 0.0),
        ([0.1] * 3, [0.1, 0.2, 0.3], {"pearson", "spearman"}, 0.0),
        ([0.1] * 3, [0.1] * 3, {"pearson", "spearman"}, 1.0),
    ],
)
def test_numbers_that_do_not_vary(truth, guess, absent, r2):
    found = point(scores(np.array(truth, float), np.array(guess, float)), 3)
    assert absent.isdisjoint(found)
    assert found["r2"] == pytest.approx(r2)


def test_numbers_far_from_zero_vary():
    truth = np.array([1.0, 2, 3, 4]) + 1e7
    found = point(scores(truth, truth + 0.5), 4)
    assert found["r2"] == pytest.approx(r2_score(truth, truth + 0.5))
    assert next(iter(found)) == "r2"
