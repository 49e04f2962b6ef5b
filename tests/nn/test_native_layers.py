"""The gate and the RMS normalisation in C: their formulas, and which layers they stand in for."""

import copy

import pytest
import torch
from torch import nn
from transformers.activations import SiLUActivation

from lightune.models.tiny_kinds import KINDS
from lightune.nn.gate import NativeGated, gated, swap_gated
from lightune.nn.lowrank import LowRankLinear
from lightune.nn.rms_norm import NativeRMSNorm, swap_rms_norm
from tests.nn.wrapped import ROUNDING, off


@pytest.mark.parametrize("shape", [(1, 16), (3, 5, 48), (2, 576)], ids=str)
def test_rms_norm_is_its_formula(kernels, shape):
    torch.manual_seed(0)
    weight = nn.Parameter((1 + torch.randn(shape[-1])).bfloat16(), requires_grad=False)
    x = (3 * torch.randn(shape)).bfloat16().requires_grad_()
    grad = torch.randn(shape).bfloat16()
    y = NativeRMSNorm(weight, 1e-3)(x)
    assert y.grad_fn.kernels is kernels
    y.backward(grad)
    exact = x.detach().double().requires_grad_()
    expected = weight.double() * exact / (exact.square().mean(-1, keepdim=True) + 1e-3).sqrt()
    expected.backward(grad.double())
    assert off(y, expected) < ROUNDING
    assert off(x.grad, exact.grad) < ROUNDING


def test_gate_of_every_bfloat16_number(kernels):
    every = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    every = every[every.isfinite() & (every.abs() < 1e18)]  # beyond it products overflow
    g = every[: len(every) // 16 * 16].clone().requires_grad_()
    u = torch.linspace(-2, 3, len(g)).bfloat16().requires_grad_()
    y = gated(g, u)
    assert y.grad_fn.kernels is kernels
    y.sum().backward()
    exact = [t.detach().double().requires_grad_() for t in (g, u)]
    expected = exact[0] * exact[0].sigmoid() * exact[1]
    expected.sum().backward()
    for found, wanted in ((y, expected), (g.grad, exact[0].grad), (u.grad, exact[1].grad)):
        largest = wanted.detach().abs().clamp(min=1e-3)
        assert float(((found.double() - wanted) / largest).abs().max().detach()) < 0.01


def test_what_is_not_finite_stays_so(kernels):
    bad = torch.ones(2, 16).bfloat16()
    bad[1, 3] = float("nan")
    normal = NativeRMSNorm(nn.Parameter(torch.ones(16).bfloat16(), requires_grad=False), 1e-5)
    assert normal(bad).isnan().any(-1).tolist() == [False, True]
    for g, u in ((bad, torch.ones_like(bad)), (torch.ones_like(bad), bad)):
        assert torch.equal(gated(g, u).isnan(), bad.isnan())


@pytest.mark.parametrize(
    "change",
    [lambda x: x.float(), lambda x: x[..., :24].contiguous(), lambda x: x.transpose(0, 1)],
    ids=["float32", "odd width", "not contiguous"],
)
def test_pytorch_where_the_kernels_do_not_fit(kernels, change):
    x = change(torch.randn(3, 3, 32).bfloat16())
    weight = nn.Parameter(torch.rand(x.shape[-1]).to(x.dtype), requires_grad=False)
    fits = x.is_contiguous() and x.dtype is torch.bfloat16
    expected = weight * x * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-5)
    assert off(NativeRMSNorm(weight, 1e-5)(x), expected.double()) < ROUNDING
    assert off(gated(x, x), (nn.functional.silu(x.double()) * x.double())) < ROUNDING
    assert not fits or x.shape[-1] % 16


SWAPPED = {
    # kind: RMS normalisations and gated layers that are replaced, of two blocks
    "llama-lm": [5, 2],
    "qwen2": [5, 2],
    "gemma": [0, 0],  # normalises by 1 + weight, and has another activation
    "t5-seq2seq": [12, 0],
    "bert": [0, 0],
}


@pytest.mark.parametrize("kind", SWAPPED)
def test_layers_of_other_formulas_stay(kind):
    model = KINDS[kind].build()
    plain, names = copy.deepcopy(model), list(model.state_dict())
    swap_rms_norm(model)
    swap_gated(model)
    kinds = [type(module) for module in model.modules()]
    assert [kinds.count(NativeRMSNorm), kinds.count(NativeGated)] == SWAPPED[kind]
    assert list(model.state_dict()) == names
    inputs = KINDS[kind].inputs(model, [[5, 9, 7], [11, 6]])
    assert torch.allclose(model(**inputs)[0], plain(**inputs)[0], atol=1e-5)


def test_trained_and_hooked_layers_stay():
    model = KINDS["llama-lm"].build()
    first, second = model.model.layers
    first.input_layernorm.weight.requires_grad_()
    second.input_layernorm.register_forward_hook(lambda *_: None)
    first.mlp.register_forward_pre_hook(lambda *_: None)
    kept = [first.input_layernorm, second.input_layernorm, first.mlp]
    swap_rms_norm(model)
    swap_gated(model)
    assert [first.input_layernorm, second.input_layernorm, first.mlp] == kept
    assert isinstance(model.model.norm, NativeRMSNorm)
    assert isinstance(second.mlp, NativeGated)


def test_a_gated_layer_keeps_what_a_method_put_around_its_parts(kernels):
    layer = nn.Module()
    layer.gate_proj, layer.up_proj, layer.down_proj = (
        LowRankLinear(nn.Linear(32, 32).requires_grad_(False), 4, 1.0, dropout=0.5)
        for _ in range(3)
    )
    layer.act_fn = SiLUActivation()
    layer.forward = lambda x: layer.down_proj(layer.act_fn(layer.gate_proj(x)) * layer.up_proj(x))
    model = nn.Sequential(layer)
    swap_gated(model)
    assert isinstance(model[0], NativeGated)
    assert model[0].gate_proj is layer.gate_proj
    assert all(m.training for m in model.modules())
