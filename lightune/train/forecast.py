"""How much memory and time a training will take, from a few measured steps.

Time:       batches of a few shapes, spread over the run's real list of batches, are passed forward
            and backward, each several times; `shape_times.py` makes the whole run of them. Added
            are the optimiser's steps, timed on copies of some weights, and scoring, timed on a few
            batches of prediction.
Memory:     the most that was held until now, or, if that is more,
            what was held at most while those steps and predictions ran, the longest among them
            + 8 bytes for each trainable weight: AdamW's two moments
            + 4 bytes for each trainable weight where the best weights are kept.
            The peak is counted anew from the first measured step on, as the system counts it for
            the process; batches of other shapes run before the longest, as they will in the run,
            because what they leave behind in the allocator adds to it.
Invariants: weights, buffers, gradients, modes and random state are as before; nothing is learned.
Cost:       SHAPES * (1 + ROUNDS) steps; `brief` takes three shapes, twice each.
Not here:   the plan (`engine/`), whether the forecast fits the machine (`batch_fit.py`).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lightune.engine.batches import by_length
from lightune.engine.plan import Plan, threads_of
from lightune.evaluate.predict import PREDICTION_BATCH
from lightune.nn import dropout
from lightune.tasks.base import Task
from lightune.train.loop import (
    FLOAT32,
    Collate,
    epoch_steps,
    own_random,
    planned_steps,
    to_device,
)
from lightune.train.memory import peak_rss_mb, reset_peak
from lightune.train.shape_times import Shape, ShapeTimes, fit_times, representative
from lightune.train.spec import TrainSpec
from lightune.types import Example

ADAM_BYTES, BEST_BYTES = 8, 4
"""Per trainable weight: two float32 moments; one float32 copy."""

SHAPES, ROUNDS = 6, 2
"""Batch shapes that are measured, and how often after the first time."""

OPTIMIZER_SAMPLE = 1 << 21
"""Weights at most whose optimiser step is timed: copies of all would count as memory held."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a training will need.

    Attributes:
        steps: optimiser steps.
        seconds: of training, scoring on the validation records included.
        test_seconds: of predicting the test records afterwards.
        peak_memory_mb: of this process, or of the GPU where the model is on one.
        trainable_parameters, total_parameters: counted in single weights.
    """

    steps: int
    seconds: float
    test_seconds: float
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
    masters: Sequence[tuple[nn.Parameter, nn.Parameter]] = (),
    plan: Plan = FLOAT32,
    validation: Sequence[Example] = (),
    test: Sequence[Example] = (),
    predict: Callable[[Sequence[Example]], object] | None = None,
    set_mode: Callable[[nn.Module], Any] = nn.Module.train,
    brief: bool = False,
) -> Forecast:
    """Run a few steps without learning from them, and say what all of them will take.

    Args: those of `loop.fit`, and
        validation, test: the examples that are scored while training, and after it.
        predict: what scores them, but for comparing with the truth; None leaves scoring out.
        brief: measure less, for a forecast beside the training itself.
    """
    before = peak_mb(plan.device)
    steps = planned_steps(len(train), spec)
    batches = _batches(train, spec, steps)
    shapes = [shape_of(train, batch) for batch in batches]
    example_of = dict(zip(shapes, batches, strict=True))
    step = Step(model, task, task_state, train, trainable, collate, masters, plan)
    shown, rounds = (3, 1) if brief else (SHAPES, ROUNDS)
    with as_in_training(model, spec, plan, set_mode):
        restart_peak(plan.device)
        chosen = representative(shapes, shown)
        training = _measured(lambda s: step(example_of[s]), chosen, rounds, plan)
        optimizer_s = _optimizer_seconds(trainable, spec, plan)
        scoring = {
            name: _predicting(examples, predict, brief, plan)
            for name, examples in (("validation", validation), ("test", test))
            if examples and predict
        }
        peak = peak_mb(plan.device)
    count = sum(weight.numel() for weight in trainable.values())
    scorings = _scorings(len(train), spec, steps) if validation else 0
    kept = BEST_BYTES * count if scorings and spec.evaluation.best else 0
    return Forecast(
        steps=steps,
        seconds=training.total(shapes)
        + steps * optimizer_s
        + scorings * scoring.get("validation", 0.0),
        test_seconds=scoring.get("test", 0.0),
        peak_memory_mb=max(before, peak + (ADAM_BYTES * count + kept) / 1e6),
        trainable_parameters=count,
        total_parameters=sum(weight.numel() for weight in model.parameters()),
    )


@dataclass(frozen=True, slots=True)
class Step:
    """One batch forward and backward as in `loop.fit`, and its gradients thrown away."""

    model: nn.Module
    task: Task
    task_state: dict[str, Any]
    train: Sequence[Example]
    trainable: Mapping[str, nn.Parameter]
    collate: Collate
    masters: Sequence[tuple[nn.Parameter, nn.Parameter]]
    plan: Plan

    def __call__(self, batch: Sequence[int]) -> None:
        """Run the examples at these positions of `train`."""
        moved = to_device(self.collate([self.train[i] for i in batch]), self.plan.device)
        outputs = self.task.forward(self.model, moved, self.task_state)
        loss = self.task.loss(outputs, moved, self.task_state)
        del outputs
        loss.backward()
        loss.item()
        for master, image in self.masters:  # as `Optimizer.backward` does
            if image.grad is not None:
                master.grad, image.grad = image.grad.to(torch.float32), None
        for weight in (*self.model.parameters(), *self.trainable.values()):
            weight.grad = None


@contextmanager
def as_in_training(
    model: nn.Module, spec: TrainSpec, plan: Plan, set_mode: Callable[[nn.Module], Any]
) -> Iterator[None]:
    """Put the model into train mode with the run's dropout; everything as before afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    with own_random(plan.device), threads_of(plan):
        dropout.reset(spec.seed, pooled=plan.dropout == "pooled")
        set_mode(model)
        try:
            yield
        finally:
            dropout.clear()
            for module, training in modes:
                module.training = training
            for buffer, value in buffers:
                buffer.data.copy_(value)
            for weight in model.parameters():
                weight.grad = None


def shape_of(examples: Sequence[Example], batch: Sequence[int]) -> Shape:
    """Return rows and padded length of a batch, as `engine.batches.collate` pads it."""
    return len(batch), -(-max(len(examples[i]) for i in batch) // 8) * 8


def _measured(
    work: Callable[[Shape], object], chosen: Sequence[Shape], rounds: int, plan: Plan
) -> ShapeTimes:
    """Return the times of `work` on the chosen shapes; a round takes each of them once, so that a
    slow spell of the machine falls on all."""
    seconds: dict[Shape, list[float]] = {shape: [] for shape in chosen}
    for _ in range(1 + rounds):
        for shape in chosen:
            begun = time.perf_counter()
            work(shape)
            if plan.device.startswith("cuda"):
                torch.cuda.synchronize()
            seconds[shape].append(time.perf_counter() - begun)
    return fit_times(seconds)


def _predicting(
    examples: Sequence[Example],
    predict: Callable[[Sequence[Example]], object],
    brief: bool,
    plan: Plan,
) -> float:
    """Return the seconds of predicting `examples`."""
    batches = by_length([len(example) for example in examples], PREDICTION_BATCH)
    shapes = [shape_of(examples, batch) for batch in batches]
    example_of = dict(zip(shapes, batches, strict=True))

    def work(shape: Shape) -> None:
        predict([examples[i] for i in example_of[shape]])

    chosen = representative(shapes, 2 if brief else 4)
    return _measured(work, chosen, 1, plan).total(shapes)


def _batches(train: Sequence[Example], spec: TrainSpec, steps: int) -> list[list[int]]:
    """Return every batch of the run."""
    parts: list[list[list[int]]] = []
    epoch = 0
    while len(parts) < steps:
        parts.extend(epoch_steps(train, spec, epoch))
        epoch += 1
    return [batch for step in parts[:steps] for batch in step]


def _scorings(examples: int, spec: TrainSpec, steps: int) -> int:
    every = spec.evaluation.every
    if every is None:
        return 0
    if every == "epoch":
        every = planned_steps(examples, spec.model_copy(update={"epochs": 1.0, "max_steps": None}))
    return -(-steps // every)


def _optimizer_seconds(trainable: Mapping[str, nn.Parameter], spec: TrainSpec, plan: Plan) -> float:
    """Return the seconds of clipping and one AdamW step, timed on copies of the first weights."""
    copies: list[nn.Parameter] = []
    size = 0
    for weight in trainable.values():
        if copies and size + weight.numel() > OPTIMIZER_SAMPLE:
            continue
        copies.append(nn.Parameter(weight.detach().clone()))
        size += weight.numel()
    for weight in copies:
        weight.grad = torch.zeros_like(weight)
    adamw = torch.optim.AdamW(copies, fused=True)

    def step() -> None:
        grads = [weight.grad for weight in copies if weight.grad is not None]
        norm = nn.utils.get_total_norm(grads)
        if spec.optimizer.max_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(copies, spec.optimizer.max_grad_norm, norm)
        norm.item()
        adamw.step()

    times = []
    for _ in range(4):
        begun = time.perf_counter()
        step()
        if plan.device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    whole = sum(weight.numel() for weight in trainable.values())
    return sum(times[1:]) / len(times[1:]) * whole / size


def restart_peak(device: str) -> None:
    """Let `peak_mb` count from now."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    else:
        reset_peak()


def peak_mb(device: str) -> float:
    """Return the most memory held on the device; on the CPU, by this process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 1e6
    return peak_rss_mb()
