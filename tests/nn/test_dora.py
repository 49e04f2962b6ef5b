"""The DoRA layer against equation 5 written out, under autograd."""

import pytest
import torch
from torch import nn

from lightune.nn.dora import DoRALinear
from tests.nn.wrapped import (
    KINDS,
    assert_own_backward_is_autograds,
    assert_starts_as_its_base,
    frozen,
    gradients,
    weight_of,
)


@pytest.mark.parametrize("kind", KINDS)
class TestAgainstEquation5:
    @pytest.fixture(autouse=True)
    def layer(self, kind):
        torch.manual_seed(0)
        self.layer = DoRALinear(frozen(kind), 4, 1.5)
        self.x = torch.randn(2, 5, 16, requires_grad=True)

    def moved(self) -> None:
        with torch.no_grad():
            self.layer.A.add_(0.3 * torch.randn_like(self.layer.A))
            self.layer.B.add_(0.3 * torch.randn_like(self.layer.B))
            self.layer.magnitude.mul_(torch.empty(24).uniform_(0.7, 1.3))

    def formula(self) -> torch.Tensor:
        layer = self.layer
        whole = weight_of(layer) + 1.5 * layer.B @ layer.A
        norm = whole.norm(dim=1).detach()
        y = self.x @ (layer.magnitude / norm * whole.T)
        return y if layer.bias is None else y + layer.bias

    def test_starts_as_the_layer_it_wraps_bit_for_bit_in_every_format(self):
        norms = weight_of(self.layer).norm(dim=1)
        torch.testing.assert_close(self.layer.magnitude.detach(), norms)
        assert_starts_as_its_base(self.layer, self.x)

    def test_output_and_gradients(self):
        self.moved()
        y, expected = self.layer(self.x), self.formula()
        torch.testing.assert_close(y, expected)
        ours, theirs = (gradients(self.layer, self.x, out) for out in (y, expected))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)

    def test_delta_makes_the_merged_weight(self):
        self.moved()
        merged = weight_of(self.layer) + self.layer.delta()
        y = nn.functional.linear(self.x, merged, self.layer.bias)
        torch.testing.assert_close(y, self.formula())

    def test_own_backward_equals_autograd_with_dropout_too(self):
        self.moved()
        assert_own_backward_is_autograds(self.layer, self.x, 0.3)


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
