"""`train.batch_size: auto`: into how small parts a batch must be split to fit into memory.

Why:        the batch size decides what is learned, memory decides how much of it can be computed at
            once. Gradients of a batch's parts add up to the gradient of their mean over all
            targets, so the batch stays as it is and only its parts are chosen.
How:        the longest examples of the run are trained on, one, then two at once; memory grows in
            proportion from there. The largest part expected to fit is tried, and halved until what
            was measured fits too.
Errors:     `ResourceError` where not even one example fits.
Not here:   how a batch is split (`loop.epoch_steps`), what memory there is (`memory.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from lightune.engine.plan import Plan
from lightune.errors import ResourceError
from lightune.tasks.base import Task
from lightune.train.forecast import (
    ADAM_BYTES,
    BEST_BYTES,
    Step,
    as_in_training,
    peak_mb,
    restart_peak,
)
from lightune.train.loop import FLOAT32, Collate
from lightune.train.memory import available_mb, rss_mb
from lightune.train.spec import TrainSpec
from lightune.types import Example

MARGIN = 1.1
"""Memory must suffice for so many times what was measured: the allocator never fits exactly."""


def fitting_rows(measure: Callable[[int], float], rows: int, room_mb: float) -> int:
    """Return how many rows at once fit, `rows` halved as often as needed; 0 where none does.

    Args:
        measure: rows at once -> megabytes that training on them takes at its peak.
        rows: of a whole batch.
        room_mb: megabytes there are for it.
    """
    one = measure(1)
    if one * MARGIN > room_mb:
        return 0
    if rows == 1:
        return 1
    more = max(0.0, measure(2) - one)
    size = rows
    while size > 1 and (one + more * (size - 1)) * MARGIN > room_mb:
        size = -(-size // 2)
    while size > 2 and measure(size) * MARGIN > room_mb:
        size = -(-size // 2)
    return size


def with_fitting_batch(
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
    set_mode: Callable[[nn.Module], Any] = nn.Module.train,
    room_mb: float | None = None,
) -> TrainSpec:
    """Return `spec` with `batch_size: auto` resolved: its rows, and the parts it is split into.

    Args: those of `loop.fit`, and
        room_mb: memory that may be taken beyond what is held; None asks the system.

    Raises:
        ResourceError: not even one example fits.
    """
    step = Step(model, task, task_state, train, trainable, collate, masters, plan)
    longest = sorted(range(len(train)), key=lambda i: -len(train[i]))
    held = _held_mb(plan.device)
    room = room_mb_of(plan.device) if room_mb is None else room_mb
    count = sum(weight.numel() for weight in trainable.values())
    kept = BEST_BYTES * count if spec.evaluation.best else 0
    always = (ADAM_BYTES * count + kept) / 1e6

    def measure(rows: int) -> float:
        restart_peak(plan.device)
        step(longest[:rows])
        return max(0.0, peak_mb(plan.device) - held) + always

    rows = min(spec.rows, len(train))
    with as_in_training(model, spec, plan, set_mode):
        fitting = fitting_rows(measure, rows, room)
    if not fitting:
        raise ResourceError(
            "train.batch_size: auto finds that not even one example fits into memory",
            found=f"{room:,.0f} MB free; longest input {len(train[longest[0]])} tokens, "
            f"{count:,} trained weights",
            mend="a smaller model, shorter inputs (`train.max_length`), or a method that trains "
            "fewer weights (`method: lora`)",
        )
    part = None if fitting >= rows else fitting
    engine = spec.engine.model_copy(update={"micro_batch": part})
    return spec.model_copy(update={"batch_size": spec.rows, "engine": engine})


def _held_mb(device: str) -> float:
    return torch.cuda.memory_allocated() / 1e6 if device.startswith("cuda") else rss_mb()


def room_mb_of(device: str) -> float:
    """Return the megabytes that this process may take on a device beyond what it holds."""
    if not device.startswith("cuda"):
        return available_mb()
    unused = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return (torch.cuda.mem_get_info()[0] + unused) / 1e6
