"""The scaled layer against its formula, under autograd."""

import pytest
import torch
from torch import nn

from lightune.nn.scaled import ScaledLinear
from tests.nn.wrapped import KINDS, assert_starts_as_its_base, frozen, gradients, weight_of


@pytest.mark.parametrize("side", ["input", "output"])
@pytest.mark.parametrize("kind", KINDS)
class TestAgainstTheFormula:
    @pytest.fixture(autouse=True)
    def layer(self, kind, side):
        torch.manual_seed(0)
        self.base = frozen(kind)
        self.layer = ScaledLinear(self.base, side)
        self.x = torch.randn(2, 5, 16, requires_grad=True)

    def formula(self) -> torch.Tensor:
        factors = self.layer.factors
        if self.layer.side == "input":
            return self.base(factors * self.x)
        return factors * self.base(self.x)

    def test_starts_as_the_layer_it_wraps_bit_for_bit_in_every_format(self):
        assert_starts_as_its_base(self.layer, self.x)

    def test_output_gradients_and_merged_weights(self, side):
        nn.init.normal_(self.layer.factors)
        y, expected = self.layer(self.x), self.formula()
        torch.testing.assert_close(y, expected)
        ours, theirs = (gradients(self.layer, self.x, out) for out in (y, expected))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        bias = self.base.bias
        if bias is not None and side == "output":
            bias = bias + self.layer.bias_delta()
        merged = nn.functional.linear(self.x, weight_of(self.base) + self.layer.delta(), bias)
        torch.testing.assert_close(merged, self.formula())


def test_bfloat16_keeps_small_changes_of_a_factor():
    """A factor of 1.003 cast to bfloat16 would be 1.0."""
    torch.manual_seed(0)
    layer = ScaledLinear(nn.Linear(64, 4096, bias=False).requires_grad_(False), "output")
    with torch.no_grad():
        layer.factors.fill_(1.003)
    layer.base.to(torch.bfloat16)
    x = torch.randn(16, 64).bfloat16()
    with torch.no_grad():
        before, after = layer.base(x).float(), layer(x).float()
    assert float((after * before).sum() / before.square().sum()) == pytest.approx(1.003, abs=1e-3)
    layer(x).float().square().sum().backward()
    assert layer.factors.grad.dtype == torch.float32
