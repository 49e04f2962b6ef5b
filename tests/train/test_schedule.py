"""Schedules against Transformers' own, step by step."""

import pytest
import torch
from transformers import get_scheduler

from lightune.train.schedule import SCHEDULES, factor, warmup_steps

NAMES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


@pytest.mark.parametrize("total", [1, 7, 50])
@pytest.mark.parametrize("warmup", [0, 1, 5, 60])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_equals_transformers(schedule, warmup, total):
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    oracle = get_scheduler(NAMES[schedule], optimizer, warmup, total)
    for step in range(total):
        assert factor(schedule, step, warmup, total) == pytest.approx(
            oracle.get_last_lr()[0], abs=1e-12
        )
        optimizer.step()
        oracle.step()


@pytest.mark.parametrize(
    ("warmup", "total", "steps"),
    [(0, 100, 0), (500, 100, 500), (1, 100, 1), (0.06, 100, 6), (0.06, 101, 7), (0.5, 3, 2)],
)
def test_warmup_is_a_count_or_a_share(warmup, total, steps):
    assert warmup_steps(warmup, total) == steps
