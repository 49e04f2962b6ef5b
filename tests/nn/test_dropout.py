"""Pooled dropout: the right share, the right scale, reproducible, and independent in one call."""

import torch
from torch import nn

from lightune.nn import dropout


def test_share_and_expectation():
    dropout.reset(0)
    torch.manual_seed(0)
    x = torch.ones(200, 500)
    y = dropout.dropout(x, 0.1)
    assert abs((y == 0).float().mean() - 0.1) < 0.005
    assert abs(y.mean() - 1) < 0.005
    kept = y[y > 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / 0.9))


def test_one_call_is_independent_across_rows():
    dropout.reset(0)
    torch.manual_seed(0)
    dropped = (dropout.dropout(torch.ones(64, 4096), 0.2) == 0).float()
    correlation = torch.corrcoef(dropped)
    off_diagonal = correlation[~torch.eye(64, dtype=torch.bool)]
    assert off_diagonal.abs().max() < 0.1
    assert off_diagonal.mean().abs() < 0.005


def test_calls_differ_and_a_seed_repeats_them():
    runs = []
    for _ in range(2):
        dropout.reset(0)
        torch.manual_seed(7)
        runs.append([dropout.dropout(torch.ones(50), 0.5) for _ in range(3)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    assert not torch.equal(runs[0][0], runs[0][1])


def test_the_pool_depends_on_the_seed_alone(monkeypatch):
    monkeypatch.setattr(dropout, "SMALLEST_POOL", 100)
    monkeypatch.setattr(dropout, "LARGEST_POOL", 400)
    drawn = []
    for earlier_calls in (0, 3):
        dropout.reset(5)
        for _ in range(earlier_calls):
            dropout.factors((30,), 0.5, torch.zeros(0))
        torch.manual_seed(1)
        drawn.append([dropout.factors((n,), 0.5, torch.zeros(0)) for n in (40, 400)])
    assert all(torch.equal(a, b) for a, b in zip(*drawn, strict=True))
    dropout.reset(6)
    torch.manual_seed(1)
    assert not torch.equal(drawn[0][1], dropout.factors((400,), 0.5, torch.zeros(0)))


def test_gradient_goes_where_the_input_went():
    dropout.reset(0)
    x = torch.ones(1000, requires_grad=True)
    y = dropout.dropout(x, 0.4)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_evaluation_changes_nothing_and_swapping_keeps_the_mode():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.3)).eval()
    dropout.swap_dropout(model)
    x = torch.randn(2, 4)
    assert isinstance(model[1], dropout.PooledDropout)
    assert torch.equal(model(x), model[0](x))
    assert not torch.equal(model.train()(torch.ones(2, 4)), model[0](torch.ones(2, 4)))


def test_large_calls_join_windows_and_keep_the_share(monkeypatch):
    monkeypatch.setattr(dropout, "SMALLEST_POOL", 1000)
    monkeypatch.setattr(dropout, "LARGEST_POOL", 2000)
    dropout.reset(0)
    torch.manual_seed(0)
    drawn = dropout.factors((50, 301), 0.25, torch.zeros(0))
    assert drawn.shape == (50, 301)
    assert abs((drawn == 0).float().mean() - 0.25) < 0.03
    assert sum(pool.numel() for pool in dropout._pools.values()) == 2000


def test_torchs_own_numbers_where_asked():
    x = torch.ones(100)
    dropout.reset(0, pooled=False)
    torch.manual_seed(3)
    ours = dropout.dropout(x, 0.5)
    torch.manual_seed(3)
    assert torch.equal(ours, nn.functional.dropout(x, 0.5))
    assert not dropout._pools
    dropout.reset(0)
