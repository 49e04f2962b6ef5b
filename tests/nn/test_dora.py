"""The DoRA layer against equation 5 written out, under autograd."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from lightune.nn import dropout
from lightune.nn.dora import DoRALinear

BASES = {
    "linear": lambda: nn.Linear(16, 24),
    "no bias": lambda: nn.Linear(16, 24, bias=False),
    "Conv1D": lambda: Conv1D(24, 16),
}


@pytest.mark.parametrize("kind", BASES)
class TestAgainstEquation5:
    @pytest.fixture(autouse=True)
    def layer(self, kind):
        torch.manual_seed(0)
        self.base = BASES[kind]().requires_grad_(False)
        if self.base.bias is not None:
            nn.init.normal_(self.base.bias)
        self.layer = DoRALinear(self.base, 4, 1.5)
        self.x = torch.randn(2, 5, 16, requires_grad=True)

    def moved(self) -> None:
        with torch.no_grad():
            self.layer.A.add_(0.3 * torch.randn_like(self.layer.A))
            self.layer.B.add_(0.3 * torch.randn_like(self.layer.B))
            self.layer.magnitude.mul_(torch.empty(24).uniform_(0.7, 1.3))

    @property
    def trained(self) -> list[nn.Parameter]:
        return [self.layer.A, self.layer.B, self.layer.magnitude]

    def formula(self) -> torch.Tensor:
        layer = self.layer
        weight = layer.weight.T if isinstance(layer.base, Conv1D) else layer.weight
        whole = weight + 1.5 * layer.B @ layer.A
        norm = whole.norm(dim=1).detach()
        y = self.x @ (layer.magnitude / norm * whole.T)
        return y if layer.bias is None else y + layer.bias

    def gradients(self, y: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.autograd.grad(y.square().sum(), [self.x, *self.trained]))

    def test_starts_as_the_layer_it_wraps_bit_for_bit_in_every_format(self):
        assert torch.equal(self.layer(self.x), self.base(self.x))
        weight = self.base.weight.T if isinstance(self.base, Conv1D) else self.base.weight
        torch.testing.assert_close(self.layer.magnitude.detach(), weight.norm(dim=1))
        self.base.to(torch.bfloat16)
        x = self.x.bfloat16()
        assert torch.equal(self.layer(x), self.base(x))

    def test_output_and_gradients(self):
        self.moved()
        torch.testing.assert_close(self.layer(self.x), self.formula())
        ours, theirs = self.gradients(self.layer(self.x)), self.gradients(self.formula())
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)

    def test_delta_makes_the_merged_weight(self):
        self.moved()
        weight = self.base.weight.T if isinstance(self.base, Conv1D) else self.base.weight
        y = nn.functional.linear(self.x, weight + self.layer.delta(), self.base.bias)
        torch.testing.assert_close(y, self.formula())

    def test_own_backward_equals_autograd_with_dropout_too(self):
        self.moved()
        self.layer.dropout = 0.3
        results = []
        for own in (True, False):
            self.layer.own_backward = own
            dropout.reset(0)
            torch.manual_seed(1)
            y = self.layer(self.x)
            results.append([y, *self.gradients(y)])
        torch.testing.assert_close(*results, rtol=1e-4, atol=1e-3)


def test_bfloat16_keeps_small_changes_of_the_magnitude():
    """A gain of 1.005 cast to bfloat16 would be 1.0078."""
    torch.manual_seed(0)
    layer = DoRALinear(nn.Linear(64, 64, bias=False).requires_grad_(False), 4, 2.0)
    with torch.no_grad():
        layer.magnitude.mul_(1.005)
    layer.base.to(torch.bfloat16)
    x = torch.randn(512, 64).bfloat16()
    before, after = layer.base(x).float(), layer(x).float()
    gain = float(((after * before).sum() / before.square().sum()).detach())
    assert gain == pytest.approx(1.005, abs=1e-3)
    layer(x).float().square().sum().backward()
    assert layer.magnitude.grad.dtype == torch.float32


def test_a_row_of_zeros_gives_finite_values_and_gradients():
    base = nn.Linear(8, 6).requires_grad_(False)
    with torch.no_grad():
        base.weight[2] = 0
    layer, x = DoRALinear(base, 2, 1.0), torch.randn(3, 8)
    nn.init.normal_(layer.B)
    layer(x).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in (layer.A, layer.B, layer.magnitude))
