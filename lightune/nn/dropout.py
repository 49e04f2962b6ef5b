"""Dropout whose random numbers are cheap on a CPU.

Why:        torch draws one Mersenne-twister number per element on one core; on short texts that is
            a fifth of a training step and more. Here a pool of factors (0 or 1 / (1 - p)) is drawn
            once, and each call multiplies by a window of it that begins at a random place.
Departs:    the factors of one call are independent of each other, as in PyTorch; two calls share
            some of theirs, shifted by a random amount, where their windows overlap.
Seeds:      the pool is a function of the seed given to `reset`, the places come from torch's
            global generator. So no call before a run, and no resume, changes a run.
Off:        `train.engine.dropout: torch` keeps PyTorch's own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

POOL = 1 << 22
"""Factors in the smallest pool: 4 million, 8 MB in bfloat16."""

_pools: dict[tuple[float, torch.dtype, int], Tensor] = {}
_seed = 0


def reset(seed: int) -> None:
    """Draw the pools of the run that begins now from `seed`."""
    global _seed
    _seed = seed
    _pools.clear()


def factors(count: int, p: float, dtype: torch.dtype) -> Tensor:
    """Return `count` dropout factors, 0 with probability `p` and else 1 / (1 - p).

    They are a view of the pool: do not write to them.
    """
    size = POOL
    while size < 2 * count:
        size *= 2
    key = (p, dtype, size)
    if key not in _pools:
        generator = torch.Generator().manual_seed(_seed)
        keep = torch.empty(size).bernoulli_(1 - p, generator=generator)
        _pools[key] = keep.div_(1 - p).to(dtype)
    start = int(torch.randint(size - count + 1, ()))
    return _pools[key][start : start + count]


def dropout(x: Tensor, p: float) -> Tensor:
    """Return x with a share `p` of its elements set to zero and the rest scaled up."""
    if x.device.type != "cpu":
        return nn.functional.dropout(x, p, training=True)
    return x * factors(x.numel(), p, x.dtype).view(x.shape)


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
