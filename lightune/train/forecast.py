"""How much memory and time a training will take, from a few measured steps.

Memory:     resident now (code and frozen weights)
            + what the forward and backward pass of the longest batch adds at its peak: measured
            + 8 bytes for each trainable weight: AdamW's two moments
            + 4 bytes for each trainable weight where the best weights are kept.
Time:       forward and backward are timed at a small, a middle and the largest batch; between
            them the time is taken as linear in padded tokens (rows * length), and summed over
            all batches of the run. Added are the optimiser's steps, timed on copies, and scoring,
            timed as a forward pass.
Invariants: weights, gradients, modes and random state are as before; nothing is learned.
Not here:   the plan (`engine/`), whether the forecast fits the machine (the caller compares).
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightune.engine.batches import by_length
from lightune.engine.plan import Plan
from lightune.evaluate.predict import PREDICTION_BATCH
from lightune.tasks.base import Task
from lightune.train.loop import (
    FLOAT32,
    Collate,
    epoch_steps,
    in_evaluation_mode,
    own_random,
    planned_steps,
    to_device,
)
from lightune.train.memory import peak_rss_mb, reset_peak
from lightune.train.spec import TrainSpec
from lightune.types import Example

ADAM_BYTES, BEST_BYTES = 8, 4
"""Per trainable weight: two float32 moments; one float32 copy."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a training will need.

    Attributes:
        steps: optimiser steps.
        seconds: of training and scoring together; loading and the final evaluation come on top.
        peak_memory_mb: of this process, or of the GPU where the model is on one.
        trainable_parameters, total_parameters: counted in single weights.
    """

    steps: int
    seconds: float
    peak_memory_mb: float
    trainable_parameters: int
    total_parameters: int


def forecast(
    model: nn.Module,
    task: Task,
    task_state: dict[str, Any],
    train: Sequence[Example],
    *,
    spec: TrainSpec,
    trainable: Mapping[str, nn.Parameter],
    collate: Collate,
    plan: Plan = FLOAT32,
    validation: Sequence[Example] = (),
    set_mode: Callable[[nn.Module], Any] = nn.Module.train,
) -> Forecast:
    """Run a few steps without learning from them, and say what all of them will take.

    Args: those of `loop.fit`; `validation` are the examples that its `evaluate` scores.
    """
    steps = planned_steps(len(train), spec)
    batches = _batches(train, spec, steps)
    sizes = [_padded_tokens(train, batch) for batch in batches]
    ranked = sorted(range(len(batches)), key=sizes.__getitem__)
    chosen = sorted({ranked[-1], ranked[len(ranked) // 2], ranked[0]}, key=sizes.__getitem__)

    def loss_of(batch: Sequence[int]) -> Tensor:
        moved = to_device(collate([train[i] for i in batch]), plan.device)
        return task.loss(model(**moved.inputs), moved, task_state)

    def train_on(batch: Sequence[int]) -> None:
        loss_of(batch).backward()
        for weight in model.parameters():
            weight.grad = None

    modes = [(module, module.training) for module in model.modules()]
    with own_random(plan.device):
        set_mode(model)
        longest = batches[chosen[-1]]
        _reset_peak(plan.device)
        train_on(longest)  # the first pass also warms up: kernels are built, buffers allocated
        peak = _peak_mb(plan.device)
        timed = [(sizes[i], _seconds(partial(train_on, batches[i]))) for i in chosen]
        middle = batches[ranked[len(ranked) // 2]]
        with torch.no_grad():
            forward = in_evaluation_mode(model, lambda: _seconds(lambda: loss_of(middle)))
    for module, training in modes:
        module.training = training

    count = sum(weight.numel() for weight in trainable.values())
    scorings = _scorings(len(train), spec, steps) if validation else 0
    kept = BEST_BYTES * count if scorings and spec.evaluation.best else 0
    scoring = [_padded_tokens(validation, batch) for batch in _prediction_batches(validation)]
    per_token = forward / _padded_tokens(train, middle)
    return Forecast(
        steps=steps,
        seconds=sum(interpolate(timed, size) for size in sizes)
        + steps * _optimizer_seconds(trainable)
        + scorings * sum(scoring) * per_token,
        peak_memory_mb=peak + (ADAM_BYTES * count + kept) / 1e6,
        trainable_parameters=count,
        total_parameters=sum(weight.numel() for weight in model.parameters()),
    )


def interpolate(points: Sequence[tuple[float, float]], x: float) -> float:
    """Return the value at `x` of the straight lines through `points`, sorted by their x.

    Beyond the ends it goes on in proportion to x from the nearest point.
    """
    xs = [point[0] for point in points]
    right = bisect_left(xs, x)
    if right == 0 or right == len(points):
        x0, y0 = points[0] if right == 0 else points[-1]
        return y0 * x / x0
    (x0, y0), (x1, y1) = points[right - 1], points[right]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def _batches(train: Sequence[Example], spec: TrainSpec, steps: int) -> list[list[int]]:
    """Return every batch of the run."""
    parts: list[list[list[int]]] = []
    epoch = 0
    while len(parts) < steps:
        parts.extend(epoch_steps(train, spec, epoch))
        epoch += 1
    return [batch for step in parts[:steps] for batch in step]


def _prediction_batches(examples: Sequence[Example]) -> list[list[int]]:
    return by_length([len(example) for example in examples], PREDICTION_BATCH)


def _padded_tokens(examples: Sequence[Example], batch: Sequence[int]) -> int:
    return len(batch) * (-(-max(len(examples[i]) for i in batch) // 8) * 8)


def _scorings(examples: int, spec: TrainSpec, steps: int) -> int:
    every = spec.evaluation.every
    if every is None:
        return 0
    if every == "epoch":
        every = planned_steps(examples, spec.model_copy(update={"epochs": 1.0, "max_steps": None}))
    return -(-steps // every)


def _seconds(work: Callable[[], object], rounds: int = 2) -> float:
    """Return the shortest time of `work`: the machine's other work only ever adds."""
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    return min(times)


def _optimizer_seconds(trainable: Mapping[str, nn.Parameter]) -> float:
    """Return the seconds of one AdamW step, on copies."""
    copies = [nn.Parameter(weight.detach().clone()) for weight in trainable.values()]
    for weight in copies:
        weight.grad = torch.zeros_like(weight)
    adamw = torch.optim.AdamW(copies, fused=True)
    adamw.step()
    return _seconds(adamw.step)


def _reset_peak(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    else:
        reset_peak()


def _peak_mb(device: str) -> float:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 1e6
    return peak_rss_mb()
