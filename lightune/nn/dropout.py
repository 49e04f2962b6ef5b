"""Dropout whose random numbers are cheap on a CPU.

Why:    torch draws one Mersenne-twister number per element on one core; on short texts that is a
        fifth of a training step and more. Here a pool of factors (0 or 1 / (1 - p)) is drawn
        once and refilled now and then, and each call multiplies by a window of it that begins at
        a random place. The factors of one call are independent of each other; two calls share
        some of theirs, shifted by a random amount, until the pool is refilled.
Seeds:  both the pool and the places come from torch's global generator, so a run's seed covers
        them, and `torch.random.fork_rng` keeps them apart.
Off:    `nn/dropout.py` is used where the engine swaps it in; `train.engine.dropout: torch` keeps
        PyTorch's own.
"""

from typing import Any

import torch
from torch import Tensor, nn

POOL = 1 << 22
"""Factors in a pool: 4 million, 8 MB in bfloat16."""

REFILL_AFTER = 256
"""A pool is drawn anew once it has served this many times its size."""


class _Pool:
    """Dropout factors of one probability and dtype."""

    def __init__(self, p: float, dtype: torch.dtype) -> None:
        self.p, self.dtype = p, dtype
        self.factors = torch.empty(0, dtype=dtype)
        self.served = 0

    def window(self, count: int) -> Tensor:
        """Return `count` factors, a view of the pool."""
        if count * 2 > len(self.factors) or self.served > REFILL_AFTER * len(self.factors):
            size = max(POOL, 2 * count)
            keep = torch.empty(size, dtype=torch.float32).bernoulli_(1 - self.p)
            self.factors = keep.div_(1 - self.p).to(self.dtype)
            self.served = 0
        start = int(torch.randint(len(self.factors) - count + 1, ()))
        self.served += count
        return self.factors[start : start + count]


_pools: dict[tuple[float, torch.dtype], _Pool] = {}


def reset() -> None:
    """Forget every pool: a run starts from its seed, whatever ran before in this process."""
    _pools.clear()


def factors(count: int, p: float, dtype: torch.dtype) -> Tensor:
    """Return `count` dropout factors, 0 with probability `p` and else 1 / (1 - p)."""
    key = (p, dtype)
    if key not in _pools:
        _pools[key] = _Pool(p, dtype)
    return _pools[key].window(count)


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


def swap_dropout(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Put `PooledDropout` where the model has `nn.Dropout`; return what was there, by path."""
    found: list[tuple[str, Any]] = [
        (path, module) for path, module in model.named_modules() if type(module) is nn.Dropout
    ]
    for path, module in found:
        replacement = PooledDropout(module.p)
        replacement.train(module.training)
        model.set_submodule(path, replacement)
    return found
