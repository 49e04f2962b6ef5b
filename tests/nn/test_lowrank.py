"""The low-rank layer against the formula written out, under autograd."""

import copy

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from lightune.nn import dropout
from lightune.nn.lowrank import LowRankLinear


def make(kind: str) -> nn.Module:
    torch.manual_seed(0)
    base = {
        "linear": lambda: nn.Linear(16, 24),
        "no bias": lambda: nn.Linear(16, 24, bias=False),
        "Conv1D": lambda: Conv1D(24, 16),
    }[kind]()
    layer = LowRankLinear(base.requires_grad_(False), rank=4, scale=1.5)
    nn.init.normal_(layer.B)
    return layer


def gradients(layer: LowRankLinear, x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(y.square().sum(), [x, layer.A, layer.B]))


@pytest.mark.parametrize("kind", ["linear", "no bias", "Conv1D"])
class TestAgainstTheFormula:
    def formula(self, layer: LowRankLinear, x: torch.Tensor) -> torch.Tensor:
        weight = layer.weight.T if isinstance(layer.base, Conv1D) else layer.weight
        y = x @ (weight + 1.5 * layer.B @ layer.A).T
        return y if layer.bias is None else y + layer.bias

    def test_output(self, kind):
        layer, x = make(kind), torch.randn(2, 5, 16)
        torch.testing.assert_close(layer(x), self.formula(layer, x))

    def test_gradients(self, kind):
        layer, x = make(kind), torch.randn(2, 5, 16, requires_grad=True)
        ours = gradients(layer, x, layer(x))
        theirs = gradients(layer, x, self.formula(layer, x))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)

    def test_own_backward_equals_autograd(self, kind):
        layer, x = make(kind), torch.randn(2, 5, 16, requires_grad=True)
        ours = gradients(layer, x, layer(x))
        layer.own_backward = False
        torch.testing.assert_close(ours, gradients(layer, x, layer(x)), rtol=1e-4, atol=1e-4)

    def test_gradients_with_dropout_equal_autograd(self, kind):
        layer, x = make(kind), torch.randn(2, 5, 16, requires_grad=True)
        layer.dropout = 0.3
        results = []
        for own in (True, False):
            layer.own_backward = own
            dropout.reset(0)
            torch.manual_seed(1)
            y = layer(x)
            results.append([y, *gradients(layer, x, y)])
        torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)

    def test_starts_as_the_layer_it_wraps(self, kind):
        layer = make(kind)
        fresh = LowRankLinear(layer.base, rank=4, scale=1.5)
        x = torch.randn(3, 16)
        assert torch.equal(fresh(x), layer.base(x))


def test_frozen_weight_gets_no_gradient_and_float32_gradients_come_from_bfloat16():
    layer = make("linear")
    layer.base.to(torch.bfloat16)
    reference = copy.deepcopy(layer).float()
    x = torch.randn(64, 16).bfloat16()
    layer(x).float().square().sum().backward()
    reference(x.float()).square().sum().backward()
    assert layer.base.weight.grad is None
    assert layer.A.grad.dtype == torch.float32
    relative = (layer.A.grad - reference.A.grad).norm() / reference.A.grad.norm()
    assert relative < 0.02
