"""Attention by the kernel in `csrc/attention.c`, as a function of autograd.

    P = softmax(scale Q K^T + mask)        O = (P * factors) V

Why:        no score matrix is kept: the backward pass forms P again from two numbers a row
            (Dao 2023, arXiv:2307.08691, algorithm 2), which costs less here than reading it.
Shapes:     width of a head a multiple of 16, up to 256; key heads may be shared by query heads.
Not here:   when it is used (`attention.py`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightune.nn import native
from lightune.nn.native import AttentionArguments, Kernels, View

WIDEST = 256


def takes(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> bool:
    """Whether the kernel computes this; see `attention.py` for the shapes."""
    width = q.shape[-1]
    return (
        native.kernels() is not None
        and all(t.dtype is torch.bfloat16 and t.device.type == "cpu" for t in (q, k, v))
        and all(t.stride(-1) == 1 and t.shape[-1] == width for t in (q, k, v))
        and width % 16 == 0
        and width <= WIDEST
        and (
            mask is None or (mask.dtype in (torch.bfloat16, torch.float32) and mask.stride(-1) == 1)
        )
    )


class NativeAttention(torch.autograd.Function):
    """Q `[batch, heads, queries, width]`, K and V `[batch, key heads, keys, width]`; mask None or
    `[batch or 1, heads or 1, queries or 1, keys]`. `pool` is None or has dropout factors, those
    of each head `[queries, keys]` from where `starts`, `[batch * heads]`, says. Returns `[batch,
    queries, heads, width]`."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        scale: float,
        pool: Tensor | None,
        starts: Tensor | None,
    ) -> Tensor:
        out, stats = attend(_loaded(), q, k, v, mask, scale, pool, starts)
        ctx.save_for_backward(q, k, v, mask, pool, starts, stats)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask, pool, starts, stats = ctx.saved_tensors
        grads = slopes(_loaded(), grad, q, k, v, mask, ctx.scale, pool, starts, stats)
        return (*grads, None, None, None, None)


def _loaded() -> Kernels:
    found = native.kernels()
    if found is None:
        raise RuntimeError("the kernels are not loaded")
    return found


def attend(
    kernels: Kernels, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float,
    pool: Tensor | None, starts: Tensor | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the attention's output, and the largest score and 1 / sum of each row."""
    batch, heads, queries, width = q.shape
    out = torch.empty(batch, queries, heads, width, dtype=torch.bfloat16)
    stats = torch.empty(batch, heads, queries, 2)
    arguments = _arguments(q, k, v, mask, scale, pool, starts, stats)
    arguments.out = out.data_ptr()
    kernels.attention(arguments)
    return out, stats


def slopes(
    kernels: Kernels, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None,
    scale: float, pool: Tensor | None, starts: Tensor | None, stats: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of q, k and v, shaped as they are; `grad` is that of the output."""
    if grad.stride(-1) != 1:
        grad = grad.contiguous()
    arguments = _arguments(q, k, v, mask, scale, pool, starts, stats)
    arguments.grad = _view(grad.transpose(1, 2))
    # laid out position by position, as the projections that come next read them
    grads = [t.new_empty(t.shape[0], t.shape[2], t.shape[1], t.shape[3]) for t in (q, k, v)]
    arguments.grad_q, arguments.grad_k, arguments.grad_v = (g.data_ptr() for g in grads)
    kernels.attention_backward(arguments)
    grad_q, grad_k, grad_v = (g.transpose(1, 2) for g in grads)
    return grad_q, grad_k, grad_v


def _arguments(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, pool: Tensor | None,
    starts: Tensor | None, stats: Tensor,
) -> AttentionArguments:  # fmt: skip
    batch, heads, queries, width = q.shape
    made = AttentionArguments(q=_view(q), k=_view(k), v=_view(v), stats=stats.data_ptr())
    if mask is not None:
        spread = mask.expand(batch, heads, queries, k.shape[2])
        made.mask = spread.data_ptr()
        made.mask_batch, made.mask_head, made.mask_row, _ = spread.stride()
        made.mask_float = int(mask.dtype is torch.float32)
    if pool is not None and starts is not None:
        made.drop, made.drop_starts = pool.data_ptr(), starts.data_ptr()
    made.batch, made.heads, made.queries, made.width = batch, heads, queries, width
    made.key_heads, made.keys, made.scale = k.shape[1], k.shape[2], scale
    return made


def _view(t: Tensor) -> View:
    return View(t.data_ptr(), *t.stride()[:3])


def differs(kernels: Kernels, generator: torch.Generator) -> bool:
    """Whether the kernel and PyTorch disagree on a small trial with grouped heads and a mask."""

    def draw(heads: int, length: int) -> Tensor:
        drawn = torch.randn(2, length, heads, 32, generator=generator)
        return drawn.bfloat16().transpose(1, 2)

    q, k, v, grad = draw(4, 21), draw(2, 21), draw(2, 21), draw(4, 21).transpose(1, 2)
    low = torch.finfo(torch.bfloat16).min
    mask = torch.full((21, 21), low).triu(1).bfloat16().expand(2, 1, 21, 21)
    factors = torch.rand(2, 4, 21, 21, generator=generator).bfloat16()
    starts = torch.arange(8) * 21 * 21
    out, stats = attend(kernels, q, k, v, mask, 0.2, factors, starts)
    found = slopes(kernels, grad, q, k, v, mask, 0.2, factors, starts, stats)
    exact = [t.double().requires_grad_() for t in (q, k, v)]
    key, value = (t.repeat_interleave(2, dim=1) for t in exact[1:])
    scores = exact[0] @ key.transpose(-1, -2) * 0.2 + mask.double()
    expected = ((scores.softmax(-1) * factors.double()) @ value).transpose(1, 2)
    expected.backward(grad.double())
    return not native.close([out, *found], [expected, *(t.grad for t in exact)])
