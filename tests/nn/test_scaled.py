"""The scaled layer against its formula, under autograd."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from lightune.nn.scaled import ScaledLinear

BASES = {
    "linear": lambda: nn.Linear(16, 24),
    "no bias": lambda: nn.Linear(16, 24, bias=False),
    "Conv1D": lambda: Conv1D(24, 16),
}


@pytest.mark.parametrize("side", ["input", "output"])
@pytest.mark.parametrize("kind", BASES)
class TestAgainstTheFormula:
    @pytest.fixture(autouse=True)
    def layer(self, kind, side):
        torch.manual_seed(0)
        self.base = BASES[kind]().requires_grad_(False)
        self.layer = ScaledLinear(self.base, side)
        self.x = torch.randn(2, 5, 16, requires_grad=True)

    def formula(self) -> torch.Tensor:
        factors = self.layer.factors
        if self.layer.side == "input":
            return self.base(factors * self.x)
        return factors * self.base(self.x)

    def test_starts_as_the_layer_it_wraps_bit_for_bit_in_every_format(self):
        assert torch.equal(self.layer(self.x), self.base(self.x))
        self.base.to(torch.bfloat16)
        x = self.x.bfloat16()
        assert torch.equal(self.layer(x), self.base(x))

    def test_output_gradients_and_merged_weights(self, side):
        nn.init.normal_(self.layer.factors)
        torch.testing.assert_close(self.layer(self.x), self.formula())
        at = [self.x, self.layer.factors]
        ours = torch.autograd.grad(self.layer(self.x).square().sum(), at)
        theirs = torch.autograd.grad(self.formula().square().sum(), at)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        weight = self.base.weight.T if isinstance(self.base, Conv1D) else self.base.weight
        bias = self.base.bias
        if bias is not None and side == "output":
            bias = bias + self.layer.bias_delta()
        merged = nn.functional.linear(self.x, weight + self.layer.delta(), bias)
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
