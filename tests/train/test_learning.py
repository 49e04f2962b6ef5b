"""What tells whether a training learns, each on numbers made for it."""

import random

import pytest
import torch

from lightune.train.learning import (
    RECORDS,
    TOKENS,
    Norms,
    Probe,
    chosen,
    guessing,
    no_gradient,
    unreached,
    verdict,
)
from lightune.types import Example

DRAW = random.Random(0)
START = [0.69 + 0.1 * DRAW.gauss(0, 1) for _ in range(16)]


def moved(drop, noise=0.0):
    """Return the losses after each fell by `drop` of itself, and some noise."""
    draw = random.Random(1)
    return [loss * (1 - drop) + noise * draw.gauss(0, 1) for loss in START]


@pytest.mark.parametrize(
    ("now", "checks"),
    [
        (START, ["loss_still"]),
        (moved(0.001), ["loss_still"]),
        (moved(-0.001), ["loss_still"]),
        (moved(0.02), []),
        (moved(0.9), []),
        (moved(0.0, noise=0.3), []),  # as noisy as that, nothing can be said
        (moved(-0.05), []),
        (moved(-0.5), ["loss_rose"]),
        (moved(-3.0, noise=0.5), ["loss_rose"]),
        ([float("nan")] * 16, []),
        ([float("nan")] * 4 + START[4:], ["loss_still"]),
    ],
)
def test_a_loss_that_stays_or_rises_beyond_its_noise(now, checks):
    assert [w.check for w in verdict(START, now, "at the end")] == checks


def test_a_learnt_record_or_none_says_nothing():
    assert verdict([], [], "") == []
    assert verdict([0.5], [0.5], "") == []
    assert verdict([1e-5, 2e-5, 1e-5], [5e-5, 6e-5, 5e-5], "") == []


def test_clean_drops_are_never_called_still():
    """By simulation: drops of 3 % and more under per-record noise of every size."""
    draw = random.Random(2)
    for _ in range(2000):
        drop, noise = draw.uniform(0.03, 0.9), draw.uniform(0, 0.5)
        start = [draw.uniform(0.1, 3) for _ in range(16)]
        now = [x * (1 - drop) + x * noise * draw.gauss(0, 1) * drop for x in start]
        assert "loss_still" not in [w.check for w in verdict(start, now, "")]
        assert "loss_rose" not in [w.check for w in verdict(start, now, "")]


def example(index, length=10):
    return Example(index, {"input_ids": [1] * length}, target=0)


def test_the_same_records_are_measured_each_time():
    seen = []

    def measure(one):
        seen.append(one.index)
        return 1.0 if len(seen) <= RECORDS else 0.5

    probe = Probe(measure, [example(i) for i in range(1000)])
    assert probe.look("half-way") == []
    assert seen[:RECORDS] == seen[RECORDS:]
    assert len(set(seen)) == RECORDS
    assert max(seen) > 900


def test_long_records_are_fewer():
    kept = chosen([example(i, TOKENS // 5) for i in range(100)])
    assert len(kept) == 5
    assert len(chosen([example(i, 10 * TOKENS) for i in range(100)])) == 4
    assert len(chosen([example(0)])) == 1


def test_weights_that_only_zeros_reached():
    moments = {
        "reached": {"exp_avg_sq": torch.tensor([0.0, 1e-20])},
        "zero": {"exp_avg_sq": torch.zeros(3)},
    }
    paths = unreached(["reached", "zero", "never"], moments)
    assert paths == ["zero", "never"]
    told = no_gradient(paths, 3, 20)
    assert told.check == "no_gradient"
    assert "2 of 3" in told.problem
    assert "zero, never" in told.found
    assert no_gradient([], 3, 20) is None


def told(norms, losses):
    watch = Norms()
    found = [watch.look({"grad_norm": n, "loss": x}) for n, x in zip(norms, losses, strict=True)]
    return [number for number, warned in enumerate(found) if warned]


FLAT = [1.0] * 12


@pytest.mark.parametrize(
    ("norms", "losses", "warned"),
    [
        ([1, 1, 1, 9, 99, 999, 9999, 9999, 9999], [*FLAT[:3], *([2.0] * 6)], True),
        ([1, 1, 1, 9, 99, 999, 9999, 9999, 9999], [*FLAT[:3], *([0.5] * 6)], False),  # it learns
        ([1, 1, 1, 1, 1, 1, 9999, 1, 1], FLAT[:9], False),  # one outlier
        ([1, 1, 1, 50, 50, 50, 50], FLAT[:7], False),
        ([9, 1, 0.1, 0.01, 0.001, 0.001], FLAT[:6], False),
        ([1, 9999], FLAT[:2], False),
    ],
)
def test_norms_that_explode(norms, losses, warned):
    assert bool(told(norms, losses)) is warned


def test_lines_of_scores_are_no_norms():
    assert Norms().look({"step": 3, "validation_macro_f1": 0.5}) is None


def metrics(value, low, high, name="matthews"):
    return {name: {"value": value, "low": low, "high": high}}


@pytest.mark.parametrize(
    ("found", "records", "steps", "warned"),
    [
        (metrics(0.02, -0.07, 0.11), 300, 100, True),
        (metrics(-0.3, -0.5, -0.1), 300, 100, True),
        (metrics(0.0, 0.0, 0.0), 300, 100, True),
        (metrics(0.0, None, None), 300, 100, True),
        (metrics(None, None, None, "pearson"), 300, 100, True),
        (metrics(0.15, 0.05, 0.25), 300, 100, False),
        (metrics(0.3, -0.05, 0.6), 50, 100, False),  # too few records to tell
        (metrics(0.02, None, None), 300, 100, False),
        (metrics(0.02, -0.2, 0.2), 20, 100, False),
        (metrics(0.02, -0.2, 0.2), 300, 10, False),
        (metrics(0.02, -0.2, 0.2, "rouge_l"), 300, 100, False),
        ({}, 0, 100, False),
    ],
)
def test_answers_that_are_guesses(found, records, steps, warned):
    assert bool(guessing(found, records, steps)) is warned
