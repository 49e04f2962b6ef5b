"""The low-rank layer against the formula written out, under autograd."""

import copy

import pytest
import torch
from torch import nn

from lightune.nn.lowrank import LowRankLinear
from tests.nn.wrapped import (
    KINDS,
    assert_own_backward_is_autograds,
    assert_starts_as_its_base,
    frozen,
    gradients,
    weight_of,
)


def make(kind: str) -> LowRankLinear:
    torch.manual_seed(0)
    layer = LowRankLinear(frozen(kind), rank=4, scale=1.5)
    nn.init.normal_(layer.B)
    return layer


@pytest.mark.parametrize("kind", KINDS)
class TestAgainstTheFormula:
    def test_output_and_gradients(self, kind):
        layer, x = make(kind), torch.randn(2, 5, 16, requires_grad=True)
        y, expected = layer(x), x @ (weight_of(layer) + 1.5 * layer.B @ layer.A).T
        expected = expected if layer.bias is None else expected + layer.bias
        torch.testing.assert_close(y, expected)
        ours, theirs = (gradients(layer, x, out) for out in (y, expected))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("share", [0.0, 0.3])
    def test_own_backward_equals_autograd(self, kind, share):
        layer, x = make(kind), torch.randn(2, 5, 16, requires_grad=True)
        assert_own_backward_is_autograds(layer, x, share)

    def test_starts_as_the_layer_it_wraps(self, kind):
        fresh = LowRankLinear(make(kind).base, rank=4, scale=1.5)
        assert_starts_as_its_base(fresh, torch.randn(3, 16))


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
