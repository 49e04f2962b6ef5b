"""The training loop: one plain function, read from top to bottom.

Why:        what happens in a step, and in which order, must be plain to see. `recipes/
            plain_loop.py` is the same loop without any abstraction; a test holds the two equal.
Invariants: every example is used exactly once per epoch. A step is the mean over all targets of
            its `accumulate` batches, so k batches of n give the same gradient as one of k * n,
            the last and smaller ones included. How often is logged, scored or captured changes
            no weight. A loss or gradient that is not finite never reaches the weights.
Random:     the order of the examples and what dropout draws are pure functions of the seed and
            the place in the run; the caller's own random state is as it was afterwards.
Errors:     `RunError`, as `guards.py` words it.
Not here:   where weights come from (`methods/`), number formats and kernels (`engine/`), files.
"""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lightune.engine.batches import epoch_batches
from lightune.engine.plan import Plan, threads_of
from lightune.engine.prefix_cache import PrefixCache, standing_in
from lightune.evaluate.predict import evaluating
from lightune.nn import dropout
from lightune.tasks.base import Task
from lightune.train import guards
from lightune.train.meter import Meter
from lightune.train.optimizer import Optimizer
from lightune.train.schedule import factor, warmup_steps
from lightune.train.signals import stop_on_signal
from lightune.train.spec import TrainSpec
from lightune.train.state import Best, LoopState, capture, restore, step_seed
from lightune.types import Batch, Example

T = TypeVar("T")
Collate = Callable[[Sequence[Example]], Batch]

FLOAT32 = Plan()
"""On the CPU, in float32."""


@dataclass(frozen=True, slots=True)
class FitResult:
    """What a training leaves beside the trained weights, which are in the model.

    Attributes:
        steps: optimiser steps done, those before a resume included.
        epochs: passes over the examples, with fraction.
        seconds: time of this call, evaluations included.
        examples_per_s: examples trained on per second, evaluations left out.
        best: the best evaluation; the model has its weights where `evaluation.best` says so.
        stopped: why it ended early: `early stopping`, or a signal's name; None if it did not.
        state: where a training that a signal stopped goes on from; else None.
        skipped: steps left out because gradients overflowed in fp16.
        without_gradient: trained weights that no gradient reached in the first step.
    """

    steps: int
    epochs: float
    seconds: float
    examples_per_s: float
    best: Best | None
    stopped: str | None
    state: LoopState | None
    skipped: int
    without_gradient: list[str]


def fit(
    model: nn.Module,
    task: Task,
    task_state: dict[str, Any],
    train: Sequence[Example],
    *,
    spec: TrainSpec,
    groups: Sequence[Mapping[str, Any]],
    trainable: Mapping[str, nn.Parameter],
    collate: Collate,
    masters: Sequence[tuple[nn.Parameter, nn.Parameter]] = (),
    plan: Plan = FLOAT32,
    evaluate: Callable[[], Mapping[str, float]] | None = None,
    on_log: Callable[[dict[str, float]], None] = lambda entry: None,
    on_step: Callable[[int, Callable[..., LoopState]], None] = lambda step, state: None,
    set_mode: Callable[[nn.Module], Any] = nn.Module.train,
    prefix_cache: PrefixCache | None = None,
    place: Callable[[int], str] = "record {}".format,
    resume: LoopState | None = None,
) -> FitResult:
    """Train the weights in `trainable`; leave the model in evaluation mode.

    Args:
        task, task_state: give the loss of a batch and the name of the deciding metric.
        groups: of the optimiser, with peak rates; together they hold all of `trainable`.
        trainable: `{path: float32 weight}`.
        collate: examples -> batch on the CPU, targets included.
        masters: pairs of a float32 weight and its low-precision image in the model.
        plan: where and in which number format the model computes.
        evaluate: scores the model on the validation examples; None never scores.
        on_log: takes a line of the log: every `evaluation.log_every` steps, and after each
            evaluation (keys `validation_…`).
        on_step: called after every step with the steps done, and a function that returns the
            complete state, for checkpoints (`state.capture`).
        set_mode: puts the model into train mode; the engine's leaves frozen lower blocks out.
        prefix_cache: keeps what frozen lower blocks give; None runs them every time.
        place: `Example.index` -> what the user calls the record, `file:line`.
        resume: a state from `on_step` or `FitResult.state`.

    Raises:
        RunError: nothing to train on, a loss or gradient that is not finite, several processes.
    """
    guards.one_process(os.environ)
    guards.some_examples(train)
    begun = time.perf_counter()
    optimizer = Optimizer(groups, trainable, spec.optimizer, masters, plan.dtype == "float16")
    state = restore(resume, optimizer) if resume else LoopState()
    total = planned_steps(len(train), spec)
    warmup = warmup_steps(spec.optimizer.warmup, total)
    steps = epoch_steps(train, spec, state.epoch)
    meter = Meter()
    without_gradient: list[str] = []

    def loss_of(batch: Batch) -> Tensor:
        moved = to_device(batch, plan.device)
        with standing_in(prefix_cache, batch):
            return task.loss(task.forward(model, moved, task_state), moved, task_state)

    with own_random(plan.device), threads_of(plan), stop_on_signal() as request:
        dropout.reset(spec.seed, pooled=plan.dropout == "pooled")
        set_mode(model)
        if prefix_cache is not None:
            prefix_cache.fill(train, collate, loss_of, lambda: request.signal is not None)
        while not finished(state, total, spec) and request.signal is None:
            # What is random in this step depends on nothing but the seed and the step.
            torch.manual_seed(step_seed(spec.seed, state.step))
            examples = [train[i] for batch in steps[state.position] for i in batch]
            batches = [collate([train[i] for i in batch]) for batch in steps[state.position]]
            counts = [guards.count_targets(batch) for batch in batches]
            guards.some_targets(sum(counts), examples, place)

            # Forward and backward: the mean over all targets of the step.
            loss = 0.0
            for batch, count in zip(batches, counts, strict=True):
                if count:
                    share = loss_of(batch) * (count / sum(counts))
                    optimizer.backward(share)
                    loss += share.item()
            if state.step == 0:
                without_gradient = optimizer.without_gradient()

            # Clip, and let nothing through that is not finite.
            norm = optimizer.clip()
            overflow = not math.isfinite(norm) and optimizer.can_skip()
            if not (math.isfinite(loss) and (math.isfinite(norm) or overflow)):
                blamed = guards.blame(lambda example: loss_of(collate([example])), examples)
                rate, low = max(optimizer.peaks), plan.dtype != "float32"
                raise guards.not_finite(
                    state.step + 1, loss, norm, examples, blamed, place, rate, low
                )

            # Update. In fp16 the optimiser itself leaves out a step that overflowed.
            rate = factor(spec.optimizer.schedule, state.step, warmup, total)
            optimizer.step(rate)
            advance(state, len(steps), overflow)
            if state.position == 0:
                steps = epoch_steps(train, spec, state.epoch)

            # Tell.
            meter.add(loss, examples)
            here = {"step": state.step, "epoch": state.epoch + state.position / len(steps)}
            if state.step % spec.evaluation.log_every == 0 or state.step in (1, total):
                rates = {"learning_rate": max(optimizer.peaks) * rate, "grad_norm": norm}
                on_log(here | meter.read() | rates)

            # Score, keep the best, stop when it no longer gets better.
            if evaluate and evaluation_is_due(state, total, spec):
                metrics = meter.pause(lambda: in_evaluation_mode(model, evaluate))
                on_log(here | {f"validation_{name}": value for name, value in metrics.items()})
                keep_best(state, metrics, task.deciding, optimizer, spec.evaluation.best)
            on_step(state.step, partial(capture, state, optimizer))

    dropout.clear()
    interrupted = capture(state, optimizer) if request.signal else None
    if state.best and state.best.weights and not interrupted:
        optimizer.set_weights(state.best.weights)
    model.eval()
    meter.read()
    return FitResult(
        steps=state.step,
        epochs=state.epoch + state.position / len(steps),
        seconds=time.perf_counter() - begun,
        examples_per_s=meter.examples / meter.seconds,
        best=state.best,
        stopped=request.signal or ("early stopping" if state.step < total else None),
        state=interrupted,
        skipped=state.skipped,
        without_gradient=without_gradient,
    )


def planned_steps(examples: int, spec: TrainSpec) -> int:
    """Return the optimiser steps of a whole run: `epochs` of them, at most `max_steps`."""
    spec = spec.with_horizon(examples)
    per_epoch = math.ceil(math.ceil(examples / spec.rows) / spec.optimizer.accumulate)
    by_epochs = math.inf if spec.epochs is None else math.ceil(spec.epochs * per_epoch - 1e-9)
    return int(min(by_epochs, spec.max_steps or math.inf))


def epoch_steps(train: Sequence[Example], spec: TrainSpec, epoch: int) -> list[list[list[int]]]:
    """Return, for each optimiser step of an epoch, its batches as lists of positions in `train`."""
    order = "random" if spec.engine.batches == "random" else "by_length"
    lengths = [len(example) for example in train]
    batches = epoch_batches(lengths, spec.rows, spec.seed, epoch, order=order)
    size, part = spec.optimizer.accumulate, spec.engine.micro_batch or spec.rows
    steps = [batches[i : i + size] for i in range(0, len(batches), size)]
    return [
        [batch[i : i + part] for batch in step for i in range(0, len(batch), part)]
        for step in steps
    ]


def advance(state: LoopState, steps_in_epoch: int, overflow: bool) -> None:
    """Count one step; after the last one of an epoch the next epoch begins at position 0."""
    state.step += 1
    state.skipped += overflow
    state.position += 1
    if state.position == steps_in_epoch:
        state.epoch, state.position = state.epoch + 1, 0


def finished(state: LoopState, total: int, spec: TrainSpec) -> bool:
    """Whether the last step is done, or scoring has not improved for as long as was allowed."""
    patience = spec.evaluation.early_stopping
    return state.step >= total or (patience is not None and state.stale >= patience)


def evaluation_is_due(state: LoopState, total: int, spec: TrainSpec) -> bool:
    """Whether to score now; after the last step always, so that its weights are compared too."""
    every = spec.evaluation.every
    if every is None:
        return False
    end = state.position == 0 if every == "epoch" else state.step % every == 0
    return end or state.step == total


def in_evaluation_mode(model: nn.Module, work: Callable[[], T]) -> T:
    """Return `work()`, done in evaluation mode; every module is put back into its own mode."""
    with evaluating(model):
        return work()


def keep_best(
    state: LoopState,
    metrics: Mapping[str, float],
    deciding: str,
    optimizer: Optimizer,
    with_weights: bool,
) -> None:
    """Note an evaluation that beats the best so far; a tie keeps the earlier one."""
    value = metrics.get(deciding, math.nan)  # absent where these records do not define it
    score = -math.inf if math.isnan(value) else value
    if state.best is not None and score <= state.best.value:
        state.stale += 1
        return
    weights = optimizer.copy_weights() if with_weights else {}
    state.best, state.stale = Best(state.step, score, dict(metrics), weights), 0


def to_device(batch: Batch, device: str) -> Batch:
    """Return the batch with its tensors on `device`."""
    inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.inputs.items()}
    targets = None if batch.targets is None else batch.targets.to(device, non_blocking=True)
    return Batch(inputs, targets, batch.indices)


def own_random(device: str) -> Any:
    """Return a context that puts the caller's random state back, the device's included."""
    kind = torch.device(device).type
    if kind == "cpu":
        return torch.random.fork_rng(devices=[])
    return torch.random.fork_rng(devices=[torch.device(device)], device_type=kind)
