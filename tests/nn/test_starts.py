"""Start values against their definitions, and the layer that subtracts them against autograd."""

import pytest
import torch
from torch import nn

from lightune.nn.starts import StartedLinear, olora, pissa
from tests.nn.wrapped import (
    KINDS,
    assert_own_backward_is_autograds,
    assert_starts_as_its_base,
    frozen,
    gradients,
    weight_of,
)

SHAPES = [(24, 16), (16, 24), (20, 20)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pissa_is_the_truncated_singular_value_decomposition(shape):
    torch.manual_seed(0)
    W, scale = torch.randn(shape), 2.5
    A, B = pissa(W, 5, scale)
    U, S, V = torch.linalg.svd(W.double(), full_matrices=False)
    product = (U[:, :5] * S[:5]) @ V[:5]
    torch.testing.assert_close(scale * B @ A, product.float(), rtol=1e-5, atol=1e-5)
    # A and B share the singular values evenly, as equations 2 and 3 say.
    torch.testing.assert_close(A.square().sum(1), (S[:5] / scale).float(), rtol=1e-5, atol=0)
    torch.testing.assert_close(B.square().sum(0), (S[:5] / scale).float(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_olora_is_the_truncated_qr_decomposition(shape):
    torch.manual_seed(0)
    W = torch.randn(shape)
    A, B = olora(W, 5)
    Q, R = torch.linalg.qr(W.double())
    torch.testing.assert_close(B, Q[:, :5].float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(A, R[:5].float(), rtol=1e-5, atol=1e-5)


def test_a_weight_of_lower_rank_gives_finite_values():
    W = torch.zeros(12, 10)
    assert all(torch.isfinite(t).all() for t in pissa(W, 3, 1.0))
    W[2] = 1.0
    A, B = pissa(W, 3, 1.0)
    torch.testing.assert_close(B @ A, W, rtol=0, atol=1e-5)


@pytest.mark.parametrize("start", ["pissa", "olora"])
@pytest.mark.parametrize("kind", KINDS)
class TestTheLayer:
    @pytest.fixture(autouse=True)
    def layer(self, kind, start):
        torch.manual_seed(0)
        self.layer = StartedLinear(frozen(kind), 4, 1.5, 0.0, start)
        self.x = torch.randn(2, 5, 16, requires_grad=True)

    def moved(self) -> None:
        with torch.no_grad():
            for factor in (self.layer.A, self.layer.B):
                factor.add_(0.3 * torch.randn_like(factor))

    def formula(self) -> torch.Tensor:
        layer = self.layer
        y = self.x @ (weight_of(layer) - 1.5 * layer.B0 @ layer.A0 + 1.5 * layer.B @ layer.A).T
        return y if layer.bias is None else y + layer.bias

    def test_starts_as_the_layer_it_wraps_bit_for_bit_in_every_format(self):
        assert_starts_as_its_base(self.layer, self.x)
        assert self.layer.A.abs().max() > 0.1

    def test_output_gradients_and_delta_are_the_formula(self):
        self.moved()
        y, expected = self.layer(self.x), self.formula()
        torch.testing.assert_close(y, expected)
        ours, theirs = (gradients(self.layer, self.x, out) for out in (y, expected))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        change = 1.5 * (self.layer.B @ self.layer.A - self.layer.B0 @ self.layer.A0)
        torch.testing.assert_close(self.layer.delta(), change)

    def test_own_backward_equals_autograd_with_dropout_too(self):
        self.moved()
        assert_own_backward_is_autograds(self.layer, self.x, 0.3)


def test_bfloat16_keeps_small_changes_that_two_separate_products_lose():
    torch.manual_seed(0)
    base = nn.Linear(64, 64).requires_grad_(False)
    layer = StartedLinear(base, 8, 2.0, 0.0, "pissa")
    with torch.no_grad():
        for factor in (layer.A, layer.B):
            factor.add_(1e-3 * factor.abs().mean() * torch.randn_like(factor))
    x = torch.randn(32, 64)
    change = x @ layer.delta().T

    @torch.no_grad()
    def error(computed: torch.Tensor) -> float:
        return float((computed.float() - change).norm() / change.norm())

    # no base under it: what is measured is the change alone
    base.to(torch.bfloat16).weight.data.zero_()
    base.bias.data.zero_()
    low = x.bfloat16()
    assert error(layer(low)) < 0.01
    A, B, A0, B0 = (t.bfloat16() for t in (layer.A, layer.B, layer.A0, layer.B0))
    apart = 2.0 * ((low @ A.T) @ B.T - (low @ A0.T) @ B0.T)
    assert error(apart) > 0.5
