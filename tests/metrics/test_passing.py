"""pass@k: the oracle is its meaning, the share of all ways to draw k of n programs."""

from itertools import combinations

import pytest

from lightune.metrics.passing import pass_at


@pytest.mark.parametrize("written", [1, 2, 5, 7])
def test_of_all_draws_of_k_so_many_hold_one_that_passes(written):
    for passed in range(written + 1):
        for k in range(1, written + 1):
            draws = list(combinations(range(written), k))
            good = sum(min(draw) < passed for draw in draws)
            assert pass_at(k, written, passed) == pytest.approx(good / len(draws))


def test_many_programs_do_not_overflow():
    assert pass_at(100, 200, 1) == pytest.approx(0.5)
    assert pass_at(1, 10_000, 37) == pytest.approx(37 / 10_000)


@pytest.mark.parametrize(("k", "written", "passed"), [(2, 1, 0), (0, 1, 0), (1, 1, 2), (1, 1, -1)])
def test_what_does_not_fit(k, written, passed):
    with pytest.raises(ValueError, match="do not fit"):
        pass_at(k, written, passed)
