"""All that a training needs to go on from where it stands.

Why:        a stopped run must continue bit for bit.
Holds:      counters and tensors only, so that it fits into JSON and safetensors; no pickle.
Invariants: no random state is among it. The order of the examples is a pure function of the seed
            and the epoch (`engine/batches.py`), what dropout draws is one of the seed and the
            step (`step_seed`).
Not here:   files (a checkpoint writes and reads this).
"""

from dataclasses import dataclass, field, replace

from torch import Tensor

from lightune.train.optimizer import Optimizer


@dataclass(frozen=True, slots=True)
class Best:
    """The best evaluation so far.

    Attributes:
        step: optimiser steps done then.
        value: of the task's deciding metric.
        metrics: everything that was measured.
        weights: `{path: float32 copy}` of the trained weights then; empty where they are not kept.
    """

    step: int
    value: float
    metrics: dict[str, float]
    weights: dict[str, Tensor]


@dataclass(slots=True)
class LoopState:
    """Where a training stands, between two optimiser steps.

    Attributes:
        step: optimiser steps done.
        epoch: passes completed.
        position: optimiser steps done in the present pass.
        stale: evaluations in a row without a better one.
        skipped: steps whose gradients overflowed in fp16.
        best: see `Best`; None before the first evaluation.
        weights, moments: the trained weights and AdamW's state by path; empty while the loop
            runs, filled by `capture`.
        loss_scale: the fp16 scaler's state; empty for other formats.
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    stale: int = 0
    skipped: int = 0
    best: Best | None = None
    weights: dict[str, Tensor] = field(default_factory=dict)
    moments: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    loss_scale: dict[str, float] = field(default_factory=dict)


def capture(state: LoopState, optimizer: Optimizer, copy: bool = True) -> LoopState:
    """Return the complete state.

    Args:
        copy: later steps do not change it; False holds the training's own tensors, for a reader
            that is done before the next step.
    """
    return replace(
        state,
        weights=optimizer.copy_weights() if copy else dict(optimizer.trainable),
        moments=optimizer.copy_moments() if copy else optimizer.moments(),
        loss_scale=optimizer.scaler.state_dict(),
    )


def restore(saved: LoopState, optimizer: Optimizer) -> LoopState:
    """Put `saved` into the optimiser and the model; return the state to go on from."""
    optimizer.set_weights(saved.weights)
    optimizer.set_moments(saved.moments)
    if saved.loss_scale:
        optimizer.scaler.load_state_dict(saved.loss_scale)
    return replace(saved, weights={}, moments={}, loss_scale={})


def step_seed(seed: int, step: int) -> int:
    """Return the seed of the random numbers that one step draws (dropout)."""
    return seed * 1_000_003 + step
