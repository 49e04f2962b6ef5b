"""The plain attention against PyTorch's own, forward and backward, and inside real models."""

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel

from lightune.nn import attention, dropout

SHAPES = [(2, 3, 8, 8, 16), (5, 4, 33, 33, 8), (3, 2, 1, 20, 16)]  # batch heads queries keys width


@pytest.fixture(params=["whole", "sliced", "recomputed"], autouse=True)
def memory(request, monkeypatch):
    """Every test runs with one slice, with many, and with nothing kept for the backward pass."""
    if request.param != "whole":
        monkeypatch.setattr(attention, "SLICE_ELEMENTS", 50)
    if request.param == "recomputed":
        monkeypatch.setattr(attention, "KEEP_ELEMENTS", 0)


def inputs(shape, dtype=torch.float64):
    torch.manual_seed(0)
    batch, heads, queries, keys, width = shape
    q = torch.randn(batch, queries, heads, width, dtype=dtype).transpose(1, 2).requires_grad_()
    k, v = (
        torch.randn(batch, keys, heads, width, dtype=dtype).transpose(1, 2).requires_grad_()
        for _ in range(2)
    )
    return q, k, v


def results(y, q, k, v):
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    return [y, *torch.autograd.grad((y * weights).sum(), [q, k, v])]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_equals_torch(shape, masked):
    q, k, v = inputs(shape)
    batch, _, queries, keys, _ = shape
    mask = None
    if masked:
        mask = torch.zeros(batch, 1, queries, keys, dtype=q.dtype)
        mask[1:, :, :, -2:] = torch.finfo(q.dtype).min
    ours = attention.PlainAttention.apply(q, k, v, mask, 0.3, None)
    theirs = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.3)
    torch.testing.assert_close(results(ours, q, k, v), results(theirs.transpose(1, 2), q, k, v))


def test_dropout_equals_autograd():
    q, k, v = inputs(SHAPES[1])
    dropout.reset(0)
    factors = dropout.factors((5, 4, 33, 33), 0.3, q)
    ours = attention.PlainAttention.apply(q, k, v, None, 0.3, factors)
    theirs = attention._by_autograd(q, k, v, None, 0.3, None, factors)
    torch.testing.assert_close(results(ours, q, k, v), results(theirs, q, k, v))


MODELS = {
    "bidirectional": lambda: BertModel(
        BertConfig(
            vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=32,
        )
    ),
    "causal, grouped keys": lambda: LlamaModel(
        LlamaConfig(
            vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, intermediate_size=32,
        )
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_it_takes_effect_in_models_with_their_masks(name, monkeypatch):
    attention.register()
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    ids = torch.randint(0, 50, (3, 9))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    expected = model(input_ids=ids, attention_mask=mask).last_hidden_state
    calls = []
    plain = attention.PlainAttention.apply
    monkeypatch.setattr(attention.PlainAttention, "apply", lambda *a: calls.append(1) or plain(*a))
    model.set_attn_implementation(attention.NAME)
    ours = model(input_ids=ids, attention_mask=mask).last_hidden_state
    assert len(calls) == 2
    torch.testing.assert_close(ours[mask.bool()], expected[mask.bool()])


def test_cached_generation_step_equals_the_whole_input():
    attention.register()
    torch.manual_seed(0)
    model = MODELS["causal, grouped keys"]().eval()
    model.set_attn_implementation(attention.NAME)
    ids = torch.randint(0, 50, (2, 7))
    whole = model(input_ids=ids).last_hidden_state[:, -1]
    cache = model(input_ids=ids[:, :-1], use_cache=True).past_key_values
    step = model(input_ids=ids[:, -1:], past_key_values=cache).last_hidden_state[:, -1]
    torch.testing.assert_close(whole, step)
