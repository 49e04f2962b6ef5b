"""The bottleneck's forward and backward pass against the formula written out and autograd."""

import pytest
import torch
from torch import nn

from lightune.nn.bottleneck import (
    Bottleneck,
    BottleneckLinear,
    BottleneckNorm,
    ParallelLinear,
    Slot,
    Tap,
)

ACTIVATIONS = {
    "relu": lambda z: z.clamp(min=0),
    "gelu": lambda z: z * 0.5 * (1 + torch.erf(z / 2**0.5)),
    "silu": lambda z: z / (1 + torch.exp(-z)),
    "tanh": lambda z: (torch.exp(z) - torch.exp(-z)) / (torch.exp(z) + torch.exp(-z)),
}
WIDTH, INNER = 6, 4


def random(**settings) -> Bottleneck:
    torch.manual_seed(0)
    adapter = Bottleneck(WIDTH, INNER, **settings)
    for parameter in adapter.parameters():
        nn.init.normal_(parameter, std=0.5)
    return adapter


def formula(adapter: Bottleneck, x, scale):
    z = x @ adapter.down.T + adapter.down_bias
    return scale * (ACTIVATIONS[adapter.activation](z) @ adapter.up.T + adapter.up_bias)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("scale", [1.0, 4.0, "learned", "channel"])
def test_the_network_is_the_formula(activation, scale):
    adapter = random(activation=activation, scale=scale)
    x, residual = torch.randn(2, 3, WIDTH), torch.randn(2, 3, WIDTH)
    factor = adapter.scale if isinstance(scale, str) else scale
    torch.testing.assert_close(adapter(x), x + formula(adapter, x, factor))
    torch.testing.assert_close(adapter(x, residual), residual + formula(adapter, x, factor))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("scale", [1.0, 4.0, "learned", "channel"])
@pytest.mark.parametrize("onto", ["x", "residual"])
def test_its_own_backward_equals_autograd(activation, scale, onto):
    adapter = random(activation=activation, scale=scale)
    inputs = [torch.randn(5, WIDTH) for _ in range(1 if onto == "x" else 2)]
    found = []
    for own in (True, False):
        adapter.own_backward = own
        leaves = [i.clone().requires_grad_() for i in inputs]
        y = adapter(*leaves)
        weights = [*leaves, *adapter.parameters()]
        found.append([y, *torch.autograd.grad(y.sin().sum(), weights)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_gradients_come_in_float32_when_the_model_computes_in_bfloat16():
    adapter = random(activation="gelu")
    x = torch.randn(5, WIDTH).bfloat16().requires_grad_()
    y = adapter(x)
    y.float().sum().backward()
    assert y.dtype == x.grad.dtype == torch.bfloat16
    assert all(p.grad.dtype == torch.float32 for p in adapter.parameters())
    exact = random(activation="gelu")
    exact(x.detach().float()).sum().backward()
    for ours, theirs in zip(adapter.parameters(), exact.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0.05, atol=0.05)


def test_no_gradient_is_made_for_an_input_that_needs_none():
    adapter = random()
    x = torch.randn(5, WIDTH)
    adapter(x).sum().backward()
    assert x.grad is None
    assert adapter.down.grad is not None


def test_less_is_kept_for_the_backward_pass_than_autograd_keeps():
    kept = {}
    for own in (True, False):
        adapter = random(activation="gelu", scale=4.0)
        adapter.own_backward = own
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t
        ):
            adapter(torch.randn(1000, WIDTH, requires_grad=True))
        kept[own] = sum(size for size in sizes if size >= 1000)
    assert kept[True] == 1000 * (WIDTH + INNER)
    assert kept[False] > kept[True]


def test_each_place_is_its_formula():
    adapter = random(activation="silu")
    linear, norm = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)
    nn.init.normal_(norm.weight)
    x = torch.randn(2, 3, WIDTH)
    h = linear(x)
    behind = BottleneckLinear(linear, adapter)
    torch.testing.assert_close(behind(x), h + formula(adapter, h, 1))
    around = BottleneckNorm(norm, adapter)
    torch.testing.assert_close(around(x), norm(x + formula(adapter, norm(x), 1)))
    slot = Slot()
    first, last = Tap(nn.Linear(WIDTH, WIDTH), slot), ParallelLinear(linear, adapter, slot)
    middle = torch.relu(first(x))
    torch.testing.assert_close(last(middle), linear(middle) + formula(adapter, x, 1))
    assert slot.tensor is None, "the input must not be kept beyond the pass"
    for wrapper in (behind, around, first, last):
        assert wrapper.weight is wrapper.base.weight
        assert wrapper.bias is wrapper.base.bias


def test_dropout_is_of_the_adapter_alone_and_off_in_evaluation():
    adapter = random(dropout=0.5)
    x = torch.randn(400, WIDTH)
    assert torch.equal(adapter.eval()(x), adapter(x))
    torch.manual_seed(0)
    change = adapter.train()(x) - x
    exact = formula(adapter, x, 1)
    dropped = change.abs() < 1e-6
    assert 0.4 < dropped.float().mean() < 0.6
    torch.testing.assert_close(change[~dropped], 2 * exact[~dropped], rtol=1e-4, atol=1e-5)


def test_starts():
    torch.manual_seed(0)
    plain = Bottleneck(512, 64)
    assert not plain.up.any()
    assert not plain.up_bias.any()
    assert plain.down.abs().max() <= 512**-0.5
    bert = Bottleneck(512, 64, start="bert")
    for weight in (bert.down, bert.up):
        torch.testing.assert_close(weight.std().item(), 0.02, rtol=0.05, atol=0)
    assert not bert.up_bias.any()
