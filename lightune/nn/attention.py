"""Attention as plain products, registered with Transformers under the name `lightune`; by the
kernel in C (`native_attention.py`) under `lightune_native`; and with trained keys and values in
front, around these kernels or PyTorch's.

    P = softmax(scale * Q K^T + mask)      O = dropout(P) V

Why:        on CPUs with bfloat16 units, PyTorch's fused attention in bfloat16 is several times
            slower than two matrix products and a softmax (benchmarks/bench_attention.py), and the
            plain form under autograd keeps three score-sized tensors. Here scores are formed in
            place, a slice of the batch at a time so that they stay in the processor's cache, and
            only P is kept for the backward pass; long inputs keep nothing and form P again.
Masks:      Transformers makes the additive mask (its `eager_mask`), registered under the same
            name; without that no mask at all would be passed.
Prefixes:   a module that holds a prefix (`SLOT`) gets its keys and values prepended; mask and
            position bias are padded with zeros, so that every query sees it, causal or not. These
            kernels have names of their own, and models without a prefix never run their code.
Dropout:    by `nn/dropout.py`, so it costs one multiplication.
Errors:     none of its own; models that do not take a registered attention (DeBERTa) keep theirs.
Not here:   the choice between this and PyTorch's `sdpa` (`engine/plan.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask

from lightune.errors import ModelError
from lightune.nn.dropout import factors as dropout_factors
from lightune.nn.dropout import places as dropout_places
from lightune.nn.native_attention import NativeAttention, takes

NAME, NATIVE = "lightune", "lightune_native"

SLICE_ELEMENTS = 1 << 19
"""Score elements formed at a time: 1 MB in bfloat16, what stays in a core's second-level cache."""

UNKNOWN_HERE = ("s_aux", "sinks", "block_indices", "indexer_scores")
"""Arguments of some models that change what attention computes."""

KEEP_ELEMENTS = 1 << 25
"""Layers whose scores have more elements than this keep no P; the backward pass forms it again."""


def _slices(batch: int, per_row: int) -> list[slice]:
    rows = max(1, SLICE_ELEMENTS // max(1, per_row))
    return [slice(i, min(i + rows, batch)) for i in range(0, batch, rows)]


def _probabilities(q: Tensor, k: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Return softmax(scale * Q K^T + mask) of some rows, `[rows, heads, queries, keys]`."""
    scores = torch.matmul(q, k.transpose(-1, -2)).mul_(scale)
    if mask is not None:
        scores.add_(mask)
    return torch.softmax(scores, dim=-1, out=scores)


class PlainAttention(torch.autograd.Function):
    """Q, K, V `[batch, heads, seq, width]`; mask None or `[batch or 1, heads or 1, queries, keys]`.

    `factors` are the dropout factors of P, `[batch, heads, queries, keys]`, or None.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        scale: float,
        factors: Tensor | None,
    ) -> Tensor:
        batch, heads, queries, keys = q.shape[0], q.shape[1], q.shape[2], k.shape[2]
        out = torch.empty(batch, queries, heads, v.shape[-1], dtype=q.dtype, device=q.device)
        keep = batch * heads * queries * keys <= KEEP_ELEMENTS and any(ctx.needs_input_grad[:3])
        kept = q.new_empty(batch, heads, queries, keys) if keep else None
        for part in _slices(batch, heads * queries * keys):
            p = _probabilities(q[part], k[part], _rows(mask, part), scale)
            if kept is not None:
                kept[part] = p
            if factors is not None:
                p = p.mul_(factors[part])
            out[part] = torch.matmul(p, v[part]).transpose(1, 2)
        ctx.save_for_backward(q, k, v, mask, factors, kept)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask, factors, kept = ctx.saved_tensors
        grad = grad.transpose(1, 2)  # [batch, heads, queries, width]
        batch, heads, queries, keys = q.shape[0], q.shape[1], q.shape[2], k.shape[2]
        grads = [t.new_empty(t.transpose(1, 2).shape) for t in (q, k, v)]
        grad_q, grad_k, grad_v = (g.transpose(1, 2) for g in grads)
        for part in _slices(batch, heads * queries * keys):
            p = (
                kept[part]
                if kept is not None
                else _probabilities(q[part], k[part], _rows(mask, part), ctx.scale)
            )
            dropped = p if factors is None else p * factors[part]
            grad_v[part] = torch.matmul(dropped.transpose(-1, -2), grad[part])
            grad_p = torch.matmul(grad[part], v[part].transpose(-1, -2))
            if factors is not None:
                grad_p.mul_(factors[part])
            grad_s = torch._softmax_backward_data(grad_p, p, -1, p.dtype).mul_(ctx.scale)
            grad_q[part] = torch.matmul(grad_s, k[part])
            grad_k[part] = torch.matmul(grad_s.transpose(-1, -2), q[part])
        return grad_q, grad_k, grad_v, None, None, None


def _rows(mask: Tensor | None, part: slice) -> Tensor | None:
    return mask if mask is None or mask.shape[0] == 1 else mask[part]


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    position_bias: Tensor | None = None,
    softcap: float | None = None,
    native: bool = False,
    **further: Any,
) -> tuple[Tensor, None]:
    """Transformers' attention interface: query `[batch, heads, queries, width]`, key and value
    `[batch, key heads, keys, width]` -> `[batch, queries, heads, width]`.

    Grouped keys (fewer key heads than query heads) are repeated. A trained position bias (T5 under
    `full`) or a soft cap (Gemma 2) goes through autograd. `native` takes the kernel in C for what
    it computes.

    Raises:
        ModelError: the model passes something that changes the mathematics and is not known here.
    """
    for name in UNKNOWN_HERE:
        if further.get(name) is not None:
            raise ModelError(
                f"train.engine.attention: {type(module).__name__} needs an attention with {name!r}",
                found=f"the kernel {NAME!r}, which has none",
                mend="`engine: {attention: off}` keeps the model's own",
            )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    mask = attention_mask if attention_mask is None else attention_mask[..., : key.shape[2]]
    if position_bias is not None:
        mask = position_bias if mask is None else mask + position_bias
    shape = (*query.shape[:3], key.shape[2])
    by_autograd = softcap is not None or (mask is not None and mask.requires_grad)
    if native and not by_autograd and takes(query, key, value, mask):
        pool, starts = None, None
        if dropout:
            pool, starts = dropout_places(shape[0] * shape[1], shape[2] * shape[3], dropout, query)
        return NativeAttention.apply(query, key, value, mask, scale, pool, starts), None
    kept = dropout_factors(shape, dropout, query) if dropout else None
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (t.repeat_interleave(groups, dim=1) for t in (key, value))
    if by_autograd:
        return _by_autograd(query, key, value, mask, scale, softcap, kept), None
    return PlainAttention.apply(query, key, value, mask, scale, kept), None


def _by_autograd(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    scale: float,
    softcap: float | None,
    factors: Tensor | None,
) -> Tensor:
    scores = torch.matmul(q, k.transpose(-1, -2)) * scale
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if mask is not None:
        scores = scores + mask
    p = torch.softmax(scores, dim=-1)
    return torch.matmul(p if factors is None else p * factors, v).transpose(1, 2)


SLOT = "lightune_prefix"
"""Attribute of an attention module: a function (key, value) -> prefix keys and values, each
`[key heads, length, width]`, or None for no prefix."""

PREFIXED = {
    NAME: "lightune_prefix",
    NATIVE: "lightune_prefix_native",
    "sdpa": "lightune_prefix_sdpa",
}
"""`{kernel: the same with prefixes}`."""


def _with_prefix(kernel: Callable[..., tuple[Tensor, Any]]) -> Callable[..., tuple[Tensor, Any]]:
    """Return `kernel` as a kernel that prepends a module's prefix."""

    def prefixed(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        position_bias: Tensor | None = None,
        **arguments: Any,
    ) -> tuple[Tensor, Any]:
        slot = vars(module).get(SLOT)
        prefix = slot(key, value) if slot else None
        if prefix is not None:
            keys, length = key.shape[2], prefix[0].shape[1]
            key, value = (
                torch.cat([p.to(t.dtype).expand(len(t), -1, -1, -1), t], dim=2)
                for p, t in zip(prefix, (key, value), strict=True)
            )
            if attention_mask is not None:
                visible = 1 if attention_mask.dtype is torch.bool else 0
                attention_mask = nn.functional.pad(
                    attention_mask[..., :keys], (length, 0), value=visible
                )
            if position_bias is not None:
                position_bias = nn.functional.pad(position_bias[..., :keys], (length, 0))
        if position_bias is not None:
            arguments["position_bias"] = position_bias
        return kernel(module, query, key, value, attention_mask, **arguments)

    return prefixed


def register() -> None:
    """Make the kernels known to Transformers, each with its mask function. Calling it again is
    free.

    The mask is always written out where tokens do not see all others: with a prefix, a kernel's
    own idea of "causal" would be off by the prefix's length.
    """
    native = partial(attention, native=True)
    kernels = {NAME: attention, NATIVE: native, "sdpa": sdpa_attention_forward}
    for name in (NAME, NATIVE):
        AttentionInterface.register(name, kernels[name])
        AttentionMaskInterface.register(name, eager_mask)
    for name, kernel in kernels.items():
        AttentionInterface.register(PREFIXED[name], _with_prefix(kernel))
        AttentionMaskInterface.register(PREFIXED[name], eager_mask)


def has_prefix(model: nn.Module) -> bool:
    """Whether any attention of the model holds a prefix."""
    return any(SLOT in vars(module) for module in model.modules())


def use(model: PreTrainedModel, kernel: str) -> bool:
    """Give the model a kernel, with prefixes where it holds any; return whether it took it.

    With prefixes, a model's own eager attention becomes `lightune`, which computes the same.
    """
    register()
    name = PREFIXED.get(kernel, PREFIXED[NAME]) if has_prefix(model) else kernel
    model.set_attn_implementation(name)
    return model.config._attn_implementation == name


def in_use(model: PreTrainedModel) -> str:
    """Return the name of the model's kernel, whether or not prefixes are around it."""
    name = str(model.config._attn_implementation)
    plain = {prefixed: kernel for kernel, prefixed in PREFIXED.items()}
    return plain.get(name, name)
