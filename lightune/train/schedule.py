"""How the learning rate goes from its peak to the end: pure functions of the step. No torch.

    warm-up      step / warmup                                           step < warmup
    linear       (total - step) / (total - warmup)                       afterwards
    cosine       (1 + cos(pi * (step - warmup) / (total - warmup))) / 2  afterwards
    constant     1                                                       afterwards

Invariants: equal to Transformers' schedules of the same names, step by step; `step` counts the
            optimiser steps already done, so the first step of a warm-up has the rate zero.
"""

import math
from collections.abc import Callable


def linear(progress: float) -> float:
    return 1.0 - progress


def cosine(progress: float) -> float:
    return (1.0 + math.cos(math.pi * progress)) / 2


def constant(progress: float) -> float:
    return 1.0


SCHEDULES: dict[str, Callable[[float], float]] = {
    "linear": linear,
    "cosine": cosine,
    "constant": constant,
}
"""Share of the way from the end of the warm-up to the last step -> factor on the peak rate."""


def factor(schedule: str, step: int, warmup: int, total: int) -> float:
    """Return what the peak learning rate is multiplied by at `step`.

    Args:
        schedule: a key of `SCHEDULES`.
        step: optimiser steps already done, below total.
        warmup: steps of the warm-up.
        total: steps of the whole run.
    """
    if step < warmup:
        return step / warmup
    return SCHEDULES[schedule]((step - warmup) / (total - warmup))


def warmup_steps(warmup: float, total: int) -> int:
    """Return the warm-up in steps: a whole number counts steps, a fraction is a share of `total`.

    A share is rounded up, as Transformers does, but one step at least is left after it.
    """
    return int(warmup) if warmup >= 1 else min(math.ceil(warmup * total), max(total - 1, 0))
