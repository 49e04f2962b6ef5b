"""Each test of a difference against SciPy, or its formula written out."""

import itertools

import numpy as np
import pytest
from scipy import stats

from lightune.compare import tests_of_difference as tests


def test_corrected_t_is_students_with_another_variance():
    apart = np.array([0.01, 0.03, -0.01, 0.02, 0.02])
    t, p = tests.corrected_t(apart, 0.25)
    plain = stats.ttest_1samp(apart, 0.0)
    wanted = plain.statistic * np.sqrt((1 / 5) / (1 / 5 + 1 / 4))
    assert t == pytest.approx(wanted)
    assert p == pytest.approx(2 * stats.t.sf(wanted, 4))
    assert tests.corrected_t(apart, 0.0)[1] == pytest.approx(plain.pvalue)


def test_corrected_t_without_spread():
    assert tests.corrected_t(np.zeros(5), 0.25) == (0.0, 1.0)
    assert tests.corrected_t(np.full(5, -0.25), 0.25) == (-np.inf, 0.0)


@pytest.mark.parametrize(("one", "other"), [(5, 0), (0, 5), (12, 4), (7, 7), (0, 0)])
def test_mcnemar_is_the_binomial(one, other):
    if not one + other:
        assert tests.mcnemar(one, other) == 1
        return
    n, least = one + other, min(one, other)
    tail = sum(stats.binom.pmf(i, n, 0.5) for i in range(least + 1))
    assert tests.mcnemar(one, other) == pytest.approx(min(1, 2 * tail))


def test_bootstrap_p_is_that_of_scipy_in_the_middle():
    rng = np.random.default_rng(0)
    apart = rng.normal(0.2, 1.0, 200)
    counts = rng.multinomial(200, np.full(200, 1 / 200), size=20000)
    p = tests.bootstrap_p(counts @ apart / 200)
    assert p == pytest.approx(stats.ttest_1samp(apart, 0).pvalue, abs=0.01)
    assert tests.bootstrap_p(np.ones(999)) == pytest.approx(2 / 1000)
    assert tests.bootstrap_p(np.zeros(999)) == 1


def test_randomisation_p_is_exact_when_every_exchange_is_tried():
    apart = np.array([0.5, 0.2, -0.1, 0.4, 0.3, 0.6])
    signs = np.array(list(itertools.product((1, -1), repeat=6)))
    p = tests.randomisation_p(float(apart.mean()), (signs @ apart / 6)[1:])
    wanted = stats.permutation_test(
        (apart,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert p == pytest.approx(wanted.pvalue)


def test_holm_rejects_what_the_step_down_rejects():
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = rng.random(6) ** 3
        adjusted = tests.holm(values)
        for alpha in (0.01, 0.05, 0.2):
            still = True
            for step, i in enumerate(np.argsort(values)):
                still = still and values[i] * (6 - step) <= alpha
                assert (adjusted[i] <= alpha) == still
    assert tests.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert tests.holm([]) == []
    assert tests.holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize("mean", [0.0, 0.004, 0.02])
def test_equivalence_is_the_worse_of_two_one_sided_tests(mean):
    rng = np.random.default_rng(1)
    apart = rng.normal(0, 0.05, 400)
    apart += mean - apart.mean()
    p = tests.equivalence_p(mean, stats.sem(apart), 399, 0.01)
    low = stats.ttest_1samp(apart, -0.01, alternative="greater").pvalue
    high = stats.ttest_1samp(apart, 0.01, alternative="less").pvalue
    assert p == pytest.approx(max(low, high))
    low, high = stats.t.interval(0.9, 399, mean, stats.sem(apart))
    assert (p < 0.05) == (low > -0.01 and high < 0.01)


@pytest.mark.parametrize("degrees", [1, 4, 30, 1000])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 28])
def test_what_is_detectable_is_found_four_times_in_five(degrees, alpha):
    far = tests.detectable(0.02, degrees, alpha)
    assert tests.power(far, 0.02, degrees, alpha) == pytest.approx(0.8, abs=1e-4)
    assert tests.power(0.0, 0.02, degrees, alpha) == pytest.approx(alpha)
    assert tests.power(-far, 0.02, degrees, alpha) == pytest.approx(0.8, abs=1e-4)


def test_power_by_simulation():
    rng = np.random.default_rng(2)
    sets = rng.normal(0.5, 1.0, size=(20000, 9))
    t = sets.mean(1) / (sets.std(1, ddof=1) / 3)
    found = (np.abs(t) > stats.t.ppf(0.975, 8)).mean()
    assert tests.power(0.5, 1 / 3, 8) == pytest.approx(found, abs=0.01)


def test_without_spread():
    assert tests.detectable(0.0, 4) == 0
    assert tests.power(0.1, 0.0, 4) == 1
    assert tests.equivalence_p(0.0, 0.0, 4, 0.01) == 0
    assert tests.equivalence_p(0.02, 0.0, 4, 0.01) == 1
