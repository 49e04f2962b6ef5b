"""The variance of cross-validated means: the formulas written out, and what must not move it."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from lightune.compare.evidence import LEAST_OF_FOLDS, ONE_SEED, SEVERAL_SEEDS, Fold, weigh


def folds_of(right, fold, steady=False):
    """Folds from `[seeds, records]` of ones and zeros (or differences of them)."""
    found = []
    for k in np.unique(fold):
        members = np.flatnonzero(fold == k)
        part = right[:, members]
        means = part.mean(axis=1)
        influence = part - means[:, None]
        found.append(Fold.of_seeds(means, influence, members, len(members), steady))
    return found


def sample(seeds=3, records=120, count=5, rng_seed=0, chance=0.0):
    rng = np.random.default_rng(rng_seed)
    fold = rng.permutation(records) % count
    rate = 0.7 + chance * rng.standard_normal((seeds, count))[:, fold]
    return (rng.random((seeds, records)) < rate).astype(float), fold


def test_one_fold_is_the_standard_error_of_a_mean():
    right, fold = sample(seeds=1, count=1)
    found = weigh(folds_of(right, fold))
    assert found.value == pytest.approx(right.mean())
    assert found.error == pytest.approx(stats.sem(right[0]))


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("chance", [0.0, 0.1])
def test_the_mixture_is_what_the_docstring_says(seeds, chance):
    right, fold = sample(seeds=seeds, chance=chance)
    n, k = len(fold), 5
    found = weigh(folds_of(right, fold))
    means = np.array([[row[fold == j].mean() for j in range(k)] for row in right])
    within = right.mean(axis=0) - means.mean(axis=0)[fold]
    records = (within**2).sum() / n**2 * n / (n - k)
    runs = 0.0
    for j in range(k) if seeds > 1 else ():
        part = right[:, fold == j]
        noise = part - part.mean(axis=1, keepdims=True) - part.mean(0) + part.mean()
        size = part.shape[1]
        spread = means[:, j].var(ddof=1) - (noise**2).sum() / (seeds - 1) / size**2
        runs += (size / n) ** 2 * spread / seeds
    known = records + max(runs, 0)
    folds = means.mean(axis=0).var(ddof=1) / k
    a = SEVERAL_SEEDS if seeds > 1 else ONE_SEED
    mixed = (1 - a) * known + a * 2.25 * folds
    wanted = max(mixed, known, LEAST_OF_FOLDS * folds)
    assert found.error**2 == pytest.approx(wanted, rel=1e-9)
    assert found.value == pytest.approx(right.mean())


def test_chance_of_training_is_seen_through_seeds():
    calm, fold = sample(seeds=4, records=2000)
    wild, same_fold = sample(seeds=4, records=2000, chance=0.1)
    assert weigh(folds_of(wild, same_fold)).error > 2 * weigh(folds_of(calm, fold)).error


def test_repeating_a_seed_is_no_evidence():
    right, fold = sample(seeds=1)
    once = weigh(folds_of(right, fold, steady=True))
    again = weigh(folds_of(np.repeat(right, 3, axis=0), fold, steady=True))
    assert again.error == pytest.approx(once.error)


def test_five_lucky_records_are_five():
    apart = np.zeros((1, 1000))
    apart[0, :5] = 1  # one in each fold
    fold = np.arange(1000) % 5
    found = weigh(folds_of(apart, fold))
    assert found.degrees < 6
    assert found.p_value() > 0.05  # McNemar: 2 / 2**5 = 0.0625


def test_a_shared_test_set_is_not_counted_twice():
    rng = np.random.default_rng(1)
    right = (rng.random(200) < 0.7).astype(float)
    units = np.arange(200)
    one = Fold.of_seeds(right[None].mean(1), (right - right.mean())[None], units, 200, True)
    alone, five = weigh([one]), weigh([one] * 5)
    assert five.error == pytest.approx(alone.error)


def test_one_text_in_two_folds_does_not_make_their_test_sets_one():
    right, fold = sample()
    apart = folds_of(right, fold)
    units = apart[1].units.copy()
    units[0] = apart[0].units[0]
    joined = [apart[0], replace(apart[1], units=np.sort(units)), *apart[2:]]
    assert weigh(joined).error == pytest.approx(weigh(apart).error, rel=0.05)


def test_clusters_count_as_one():
    right, fold = sample(seeds=1, count=1)
    doubled = np.repeat(right, 2, axis=1)
    u = (doubled - doubled.mean())[0]
    n = len(u)
    apart = weigh([Fold.of_seeds(doubled.mean(1), u[None], np.arange(n), n, True)])
    summed = u.reshape(-1, 2).sum(axis=1)
    together = weigh([Fold.of_seeds(doubled.mean(1), summed[None], np.arange(n // 2), n, True)])
    assert together.error == pytest.approx(weigh(folds_of(right, fold)).error)
    assert apart.error < 0.75 * together.error


def test_nothing_that_varies_has_no_error_and_no_p_value_below_one():
    fold = np.arange(50) % 5
    found = weigh(folds_of(np.zeros((2, 50)), fold))
    assert (found.value, found.error, found.p_value()) == (0.0, 0.0, 1.0)


def test_interval_and_p_value_agree():
    right, fold = sample(chance=0.05)
    found = weigh(folds_of(right - 0.65, fold))
    level = 1 - found.p_value()
    low, high = found.interval(level)
    assert min(abs(low), abs(high)) == pytest.approx(0, abs=1e-9)


def test_unpaired_seeds_add_their_chance():
    right, fold = sample(seeds=3, chance=0.1)
    one = folds_of(right, fold)[0]
    both = one.minus(one)
    assert both.value == 0
    assert both.runs == pytest.approx(2 * one.runs)
    assert both.runs_degrees == 4
