"""The kernels in C compute what PyTorch computes, and their absence is told, not felt."""

import copy

import pytest
import torch
from torch import nn

from lightune.nn import dropout, native
from lightune.nn.attention import NATIVE, attention, register
from lightune.nn.dora import DoRALinear
from lightune.nn.gelu import NativeGELU, swap_gelu
from lightune.nn.lowrank import LowRankLinear
from lightune.nn.native_attention import NativeAttention
from lightune.nn.starts import StartedLinear
from tests.nn.wrapped import ROUNDING, off


@pytest.mark.parametrize(
    ("rows", "width_in", "width_out", "rank"),
    [(37, 64, 96, 8), (4, 32, 32, 1), (1, 96, 32, 5), (50, 32, 64, 33), (16, 384, 1536, 16)],
)
def test_lowrank_layer_is_its_formula(kernels, rows, width_in, width_out, rank):
    torch.manual_seed(0)
    base = nn.Linear(width_in, width_out).bfloat16().requires_grad_(False)
    layer = LowRankLinear(base, rank, scale=2.0)
    layer.native = True
    nn.init.normal_(layer.B)
    x = torch.randn(rows, width_in).bfloat16().requires_grad_()
    grad = torch.randn(rows, width_out).bfloat16()
    y = layer(x)
    assert y.grad_fn.next_functions[0][0].kernels is kernels  # behind the view
    y.backward(grad)

    exact = [t.detach().double().requires_grad_() for t in (x, layer.A, layer.B)]
    weight, bias = base.weight.double(), base.bias.double()
    expected = exact[0] @ weight.T + bias + 2 * exact[0] @ exact[1].T @ exact[2].T
    expected.backward(grad.double())
    assert off(y, expected) < ROUNDING
    for found, wanted in zip((x.grad, layer.A.grad, layer.B.grad), exact, strict=True):
        assert off(found, wanted.grad) < ROUNDING


VARIANTS = {
    "started": lambda base: StartedLinear(base, 8, 2.0, 0.0, "pissa"),
    "dora": lambda base: DoRALinear(base, 8, 2.0),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_layers_made_of_the_lowrank_one_use_its_kernel(kernels, variant):
    torch.manual_seed(0)
    layer = VARIANTS[variant](nn.Linear(64, 96).requires_grad_(False))
    with torch.no_grad():
        for trained in (layer.A, layer.B):
            trained.add_(0.1 * torch.randn_like(trained))
    exact = copy.deepcopy(layer).double()
    layer.base.bfloat16()
    exact.base.load_state_dict(layer.base.state_dict())  # the same weights, rounded
    layer.native = True
    x, grad = torch.randn(37, 64).bfloat16(), torch.randn(37, 96).bfloat16()
    results = []
    for one, dtype in ((layer, torch.bfloat16), (exact, torch.float64)):
        at = x.detach().clone().to(dtype).requires_grad_()
        y = one(at)
        y.backward(grad.to(dtype))
        results.append([y, at.grad, *(p.grad for p in one.parameters() if p.requires_grad)])
    used = []
    node = [results[0][0].grad_fn]
    while node:
        one = node.pop()
        used.append(getattr(one, "kernels", None) is kernels)
        node += [before for before, _ in one.next_functions if before is not None]
    assert any(used)
    for found, wanted in zip(*results, strict=True):
        assert off(found, wanted) < ROUNDING


@pytest.mark.parametrize("case", ["float32", "odd width", "dropout", "not asked for"])
def test_lowrank_goes_by_pytorch_where_the_kernel_does_not_fit(kernels, case):
    width = 33 if case == "odd width" else 32
    base = nn.Linear(width, 32).requires_grad_(False)
    layer = LowRankLinear(base, 4, 1.0, dropout=0.5 if case == "dropout" else 0.0)
    layer.native = case != "not asked for"
    dtype = torch.float32 if case == "float32" else torch.bfloat16
    base.to(dtype)
    y = layer(torch.randn(3, width, dtype=dtype))
    assert y.grad_fn.next_functions[0][0].kernels is None


def reference(q, k, v, mask, scale, factors):
    groups = q.shape[1] // k.shape[1]
    k, v = (t.repeat_interleave(groups, dim=1) for t in (k, v))
    scores = q @ k.transpose(-1, -2) * scale
    p = (scores if mask is None else scores + mask.double()).softmax(-1)
    return ((p if factors is None else p * factors.double()) @ v).transpose(1, 2)


LOW = torch.finfo(torch.bfloat16).min
CASES = {
    "padded": (3, 4, 4, 16, 16, 32, False),
    "padded, odd length, dropout": (2, 4, 4, 13, 13, 32, True),
    "causal, grouped heads": (2, 6, 2, 70, 70, 64, False),
    "causal, dropout": (1, 4, 2, 33, 33, 16, True),
    "padded left": (2, 4, 4, 24, 24, 32, True),
    "no mask, other keys than queries": (1, 4, 4, 5, 90, 48, False),
    "float32 mask for each head": (2, 4, 2, 9, 31, 32, False),
    "long": (1, 2, 2, 200, 200, 32, True),
}


def mask_of(name, batch, heads, queries, keys):
    if name.startswith("no mask"):
        return None
    if name.startswith("float32"):
        return torch.randn(batch, heads, queries, keys)
    mask = torch.zeros(batch, 1, queries, keys)
    if name.startswith(("causal", "padded left")):
        mask += torch.full((queries, keys), LOW).triu(1)
    if name == "padded left":
        mask[0, ..., :4] = LOW  # the first rows see nothing at all
    elif name.startswith("padded"):
        mask = mask[:, :, :1]
        mask[0, ..., keys - 5 :] = LOW
    return mask.clamp(min=LOW).bfloat16()


@pytest.mark.parametrize("name", CASES)
def test_attention_is_its_formula(kernels, name):
    batch, heads, key_heads, queries, keys, width, drops = CASES[name]
    torch.manual_seed(0)

    def draw(positions, count):  # as a projection lies in memory
        return torch.randn(batch, positions, count, width).bfloat16().transpose(1, 2)

    inputs = [draw(queries, heads), draw(keys, key_heads), draw(keys, key_heads)]
    inputs = [t.requires_grad_() for t in inputs]
    mask = mask_of(name, batch, heads, queries, keys)
    factors = pool = starts = None
    if drops:  # those of a head begin anywhere in the pool
        size = queries * keys
        pool = torch.empty(3 * size).bernoulli_(0.9).div_(0.9).bfloat16()
        starts = torch.randint(2 * size, (batch * heads,))
        parts = [pool[s : s + size] for s in starts.tolist()]
        factors = torch.stack(parts).view(batch, heads, queries, keys)
    grad = torch.randn(batch, queries, heads, width).bfloat16()
    out = NativeAttention.apply(*inputs, mask, 0.3, pool, starts)
    grads = torch.autograd.grad(out, inputs, grad)

    exact = [t.detach().double().requires_grad_() for t in inputs]
    expected = reference(*exact, mask, 0.3, factors)
    assert off(out, expected) < ROUNDING
    wanted = torch.autograd.grad(expected, exact, grad.double())
    for found, exact_grad in zip(grads, wanted, strict=True):
        assert off(found, exact_grad) < ROUNDING


def test_the_registered_attention_takes_the_kernel_for_what_it_computes(kernels):
    register()
    q = torch.randn(1, 2, 4, 32).bfloat16().requires_grad_()
    module = nn.Module()
    for native_wanted, width, taken in ((True, 32, True), (False, 32, False), (True, 24, False)):
        part = q[..., :width]
        out, _ = attention(module, part, part, part, None, native=native_wanted)
        assert ("Native" in type(out.grad_fn).__name__) is taken
    assert NATIVE == "lightune_native"


def test_dropout_of_attention_is_what_its_places_say(kernels):
    dropout.reset(0)
    like = torch.zeros(1, dtype=torch.bfloat16)
    pool, starts = dropout.places(6, 100, 0.25, like)
    kept = torch.cat([pool[s : s + 100] for s in starts.tolist()])
    assert set(kept.float().unique().tolist()) == {0.0, float(torch.tensor(1 / 0.75).bfloat16())}
    assert 0.6 < float((kept > 0).float().mean()) < 0.9
    assert len(set(starts.tolist())) > 1
    dropout.reset(0, pooled=False)
    drawn, starts = dropout.places(6, 100, 0.25, like)
    assert (len(drawn), starts.tolist()) == (600, [0, 100, 200, 300, 400, 500])
    dropout.reset(0)


def test_gelu_of_every_bfloat16_number(kernels):
    every = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    x = every[every.isfinite()].clone()
    x = x[: len(x) // 16 * 16].requires_grad_()
    y = NativeGELU()(x)
    y.sum().backward()
    exact = x.detach().double().requires_grad_()
    expected = nn.functional.gelu(exact)
    expected.sum().backward()
    largest = exact.detach().abs().clamp(min=1e-3)
    assert float(((y.double() - expected) / largest).abs().max().detach()) < 0.005
    assert float((x.grad.double() - exact.grad).abs().max()) < 0.01


def test_what_is_not_finite_stays_so(kernels):
    bad = torch.tensor([float("nan"), float("inf")] * 8).bfloat16()
    assert torch.equal(NativeGELU()(bad).isfinite(), nn.functional.gelu(bad).isfinite())
    q = torch.randn(1, 1, 4, 16).bfloat16()
    q[0, 0, 1, 3] = float("nan")
    ones = torch.ones(1, 1, 4, 16).bfloat16()
    out = NativeAttention.apply(q, ones, ones, None, 1.0, None, None)
    assert out.isnan().any(-1).view(-1).tolist() == [False, True, False, False]


def test_bits_do_not_depend_on_the_threads(kernels):
    torch.manual_seed(0)
    layer = LowRankLinear(nn.Linear(64, 64).bfloat16().requires_grad_(False), 8, 1.0)
    layer.native = True
    nn.init.normal_(layer.B)
    q = torch.randn(3, 4, 37, 32).bfloat16().requires_grad_()
    before, results = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        out = NativeAttention.apply(q, q, q, None, 0.2, None, None)
        y = layer(out.reshape(-1, 64))
        results.append([y, *torch.autograd.grad(y.float().sum(), (q, layer.A, layer.B))])
    torch.set_num_threads(before)
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_swaps_exact_gelu_only():
    model = nn.Sequential(nn.GELU(), nn.GELU(approximate="tanh"), nn.ReLU())
    swap_gelu(model)
    assert [type(m).__name__ for m in model] == ["NativeGELU", "GELU", "ReLU"]
    x = torch.randn(3, 5)
    assert torch.equal(model[0](x), nn.functional.gelu(x))


@pytest.fixture
def fresh(monkeypatch):
    """No kernels are loaded yet."""
    monkeypatch.setattr(native, "_kernels", None)
    monkeypatch.setattr(native, "_missing", "not asked for yet")


def test_says_what_is_missing(fresh, monkeypatch, tmp_path, kernels):
    monkeypatch.setattr(native, "_kernels", None)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    assert native.load(tmp_path) is None
    assert "no C compiler" in native.missing()
    assert not list(tmp_path.iterdir())


def test_a_failing_compiler_is_told(fresh, monkeypatch, tmp_path, kernels):
    monkeypatch.setattr(native, "_kernels", None)
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\n[ $1 = --version ] && exit 0\necho out of order >&2; exit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    assert native.load(tmp_path / "cache") is None
    assert "out of order" in native.missing()
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_damaged_library_is_built_again(fresh, monkeypatch, tmp_path, kernels):
    monkeypatch.setattr(native, "_kernels", None)
    built = native._built(tmp_path)
    built.write_bytes(b"not a library")
    assert native.load(tmp_path) is not None


@pytest.mark.parametrize("name", ["gelu", "lowrank_forward", "attention"])
def test_a_kernel_that_computes_something_else_is_not_used(name, kernels, monkeypatch):
    wrong = copy.copy(kernels)
    right = getattr(kernels, name)

    def broken(*arguments):
        result = right(*arguments)
        return result if result is None else result * 1.1

    if name == "attention":
        monkeypatch.setattr(wrong, name, lambda arguments: None, raising=False)
    else:
        monkeypatch.setattr(wrong, name, broken, raising=False)
    assert "something else" in native._wrong(wrong)
