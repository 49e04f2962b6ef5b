"""The arithmetic of ratios, shares and verdicts, against values worked out by hand."""

import figures
import pytest


def row(side, seconds, examples=10, memory=100.0, **more):
    return {"key": {"side": side}, "seconds": seconds, "examples": examples,
            "peak_memory_mb": memory, **more}  # fmt: skip


def test_ratio_is_their_time_per_example_by_ours():
    theirs = [row("peer", 8.0), row("peer", 4.0), row("peer", 6.0)]
    ours = [row("us", 4.0, examples=20), row("us", 2.0, examples=20)]
    assert figures.ratio(theirs, ours) == pytest.approx(0.6 / 0.15)


def test_memory_ratio_is_ours_by_theirs():
    assert figures.memory_ratio([row("p", 1, memory=800)], [row("u", 1, memory=600)]) == 0.75


def test_fastest_is_by_median_time_per_example_not_by_total_time():
    rows = [row("a", 10, 10), row("b", 30, 60), row("b", 30, 60), row("b", 300, 60)]
    assert figures.fastest(rows) == "b"
    assert figures.fastest([]) is None


@pytest.mark.parametrize(
    ("linear", "adapted", "rate", "gflops"), [(10**6, 10**6, 1000, 4.0), (10**6, 0, 1000, 2.0)]
)
def test_effective_rate_counts_forward_and_the_gradients_of_inputs(linear, adapted, rate, gflops):
    assert figures.gflops(linear, adapted, rate) == pytest.approx(gflops)


def test_share_counts_every_epochs_tokens_and_the_higher_ceiling():
    one = row("us", 2.0, 20, examples_per_epoch=10, tokens=500, linear=10**6, adapted=10**6,
              ceiling_gflops={"float32": 1.0, "bfloat16": 4.0})  # fmt: skip
    assert figures.share(one) == pytest.approx(4e6 * 2 * 500 / 2.0 / 1e9 / 4.0)


@pytest.mark.parametrize(
    ("measured", "target", "more", "told"),
    [
        (2.5, 2.0, True, "met"),
        (1.5, 2.0, True, "missed by 25%"),
        (0.7, 0.8, False, "met"),
        (1.2, 0.8, False, "missed by 50%"),
        (None, 2.0, True, "not run (≥ 2)"),
        (3.0, None, True, "no target"),
        (None, None, True, "no target"),
    ],
)
def test_verdict(measured, target, more, told):
    assert told in figures.verdict(measured, target, more)
