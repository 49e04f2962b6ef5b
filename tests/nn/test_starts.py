"""Start values against their definitions, and the layer that subtracts them against autograd."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from lightune.nn import dropout
from lightune.nn.starts import StartedLinear, olora, pissa

SHAPES = [(24, 16), (16, 24), (20, 20)]
BASES = {
    "linear": lambda: nn.Linear(16, 24),
    "no bias": lambda: nn.Linear(16, 24, bias=False),
    "Conv1D": lambda: Conv1D(24, 16),
}


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
@pytest.mark.parametrize("kind", BASES)
class TestTheLayer:
    @pytest.fixture(autouse=True)
    def layer(self, kind, start):
        torch.manual_seed(0)
        self.base = BASES[kind]().requires_grad_(False)
        self.layer = StartedLinear(self.base, 4, 1.5, 0.0, start)
        self.x = torch.randn(2, 5, 16, requires_grad=True)

    def moved(self) -> None:
        with torch.no_grad():
            for factor in (self.layer.A, self.layer.B):
                factor.add_(0.3 * torch.randn_like(factor))

    def formula(self) -> torch.Tensor:
        layer = self.layer
        weight = layer.weight.T if isinstance(layer.base, Conv1D) else layer.weight
        y = self.x @ (weight - 1.5 * layer.B0 @ layer.A0 + 1.5 * layer.B @ layer.A).T
        return y if layer.bias is None else y + layer.bias

    def gradients(self, y: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.autograd.grad(y.square().sum(), [self.x, self.layer.A, self.layer.B]))

    def test_starts_as_the_layer_it_wraps_bit_for_bit_in_every_format(self):
        assert torch.equal(self.layer(self.x), self.base(self.x))
        self.base.to(torch.bfloat16)
        x = self.x.bfloat16()
        assert torch.equal(self.layer(x), self.base(x))
        assert self.layer.A.abs().max() > 0.1

    def test_output_gradients_and_delta_are_the_formula(self):
        self.moved()
        torch.testing.assert_close(self.layer(self.x), self.formula())
        ours, theirs = self.gradients(self.layer(self.x)), self.gradients(self.formula())
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        change = 1.5 * (self.layer.B @ self.layer.A - self.layer.B0 @ self.layer.A0)
        torch.testing.assert_close(self.layer.delta(), change)

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
        torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


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
