"""Dropout whose random numbers are cheap on a CPU.

Why:        torch draws one Mersenne-twister number per element on one core; on short texts that is
            a fifth of a training step and more. Here a pool of factors (0 or 1 / (1 - p)) is drawn
            once, and each call multiplies by a window of it that begins at a random place.
Departs:    the factors of one call are independent of each other, as in PyTorch; two calls share
            some of theirs, shifted by a random amount, where their windows overlap.
Seeds:      the pool is a function of the seed given to `reset`, the places come from torch's
            global generator. So no call before a run, and no resume, changes a run.
Off:        `train.engine.dropout: torch` keeps PyTorch's own numbers, everywhere; so does a GPU.
Cost:       32 MB at most for each probability and format, until `clear`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

SMALLEST_POOL, LARGEST_POOL = 1 << 22, 1 << 24
"""Factors in a pool. Calls for more than half of the largest pool join several windows."""

_pools: dict[tuple[float, torch.dtype, int], Tensor] = {}
_seed = 0
_pooled = True


def reset(seed: int, pooled: bool = True) -> None:
    """Begin a run: draw its pools from `seed`, or draw every number anew where not `pooled`."""
    global _seed, _pooled
    _seed, _pooled = seed, pooled
    _pools.clear()


def clear() -> None:
    """Give the pools' memory back."""
    _pools.clear()


def factors(shape: Sequence[int], p: float, like: Tensor) -> Tensor:
    """Return dropout factors, 0 with probability `p` and else 1 / (1 - p).

    Args:
        shape: of the result.
        like: gives format and device.

    Returns:
        What may be a view of the pool: do not write to it.
    """
    if like.device.type != "cpu" or not _pooled:
        drawn = torch.empty(tuple(shape), device=like.device, dtype=torch.float32)
        return drawn.bernoulli_(1 - p).div_(1 - p).to(like.dtype)
    return _windows(math.prod(shape), p, like.dtype).view(tuple(shape))


def places(count: int, size: int, p: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return dropout factors for `count` parts of `size` elements, without writing them out.

    Returns:
        factors in one row, not to be written to, and where each part's begin, `[count]` in int64.
    """
    if _pooled and 2 * size <= LARGEST_POOL:
        pool = _pool(size, p, like.dtype)
        return pool, torch.randint(len(pool) - size + 1, (count,))
    return factors((count * size,), p, like), torch.arange(count) * size


def _pool(count: int, p: float, dtype: torch.dtype) -> Tensor:
    """Return the pool for calls of so many factors."""
    size = SMALLEST_POOL
    while size < min(2 * count, LARGEST_POOL):
        size *= 2
    key = (p, dtype, size)
    if key not in _pools:
        generator = torch.Generator().manual_seed(_seed)
        keep = torch.empty(size).bernoulli_(1 - p, generator=generator)
        _pools[key] = keep.div_(1 - p).to(dtype)
    return _pools[key]


def _windows(count: int, p: float, dtype: torch.dtype) -> Tensor:
    pool = _pool(count, p, dtype)
    size, length = len(pool), min(count, len(pool) // 2)
    starts = torch.randint(size - length + 1, (-(-count // length),)).tolist()
    if len(starts) == 1:
        return pool[starts[0] : starts[0] + count]
    return torch.cat([pool[start : start + length] for start in starts])[:count]


def dropout(x: Tensor, p: float) -> Tensor:
    """Return x with a share `p` of its elements set to zero and the rest scaled up."""
    if x.device.type != "cpu" or not _pooled:
        return nn.functional.dropout(x, p, training=True)
    return x * factors(x.shape, p, x)


class PooledDropout(nn.Module):
    """Stands in for `nn.Dropout`."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p) if self.training and self.p else x

    def extra_repr(self) -> str:
        return f"p={self.p:g}"


def swap_dropout(model: nn.Module) -> None:
    """Put `PooledDropout` where the model has `nn.Dropout`."""
    for path, module in list(model.named_modules()):
        if type(module) is nn.Dropout:
            replacement = PooledDropout(module.p)
            replacement.train(module.training)
            model.set_submodule(path, replacement)
