"""Model and examples -> logits -> predictions. The one way in which anything is predicted.

Why:        validation while training, the final scores, `evaluate` and `predict` must agree bit
            for bit, so they all come through here.
Invariants: results are in the order of `examples`. Which examples share a batch depends on what
            they are, not on the order they come in, so a shuffled file gives each record the same
            logits bit for bit. The train mode of every module is as before afterwards, also after
            an error.
Not here:   the device and dtype of the model (`engine/`), scores (the task's `score`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lightune.engine.batches import by_length, collate
from lightune.tasks.base import Task
from lightune.types import Example

PREDICTION_BATCH = 32
"""Examples in a batch of prediction; fixed, so that a file's scores never depend on a setting."""

Progress = Callable[[int, int], None]
"""Called after each batch with the number of examples done and of all."""


def predict_logits(
    model: nn.Module,
    task: Task,
    examples: Sequence[Example],
    state: dict[str, Any],
    *,
    pad_id: int,
    max_length: int | None = None,
    batch_size: int = PREDICTION_BATCH,
    device: torch.device | str = "cpu",
    on_batch: Progress | None = None,
) -> Tensor:
    """Return what `task.decode` reads, `[examples, …]` in float32 on the CPU.

    Where there are logits for each token, shorter examples are filled up with zeros.

    Args:
        model: on `device` already.
        pad_id: token that fills shorter rows.
        max_length: no batch is padded beyond it. Padding goes to the right: models with absolute
            positions would read a shifted text otherwise.
        on_batch: progress; see `Progress`.
    """
    if not examples:
        return torch.empty(0, len(state.get("labels", ())))
    # ties of length are broken by content: `by_length` alone would break them by position
    order = sorted(range(len(examples)), key=lambda i: _content(examples[i]))

    def targets(rows: Sequence[Example], width: int) -> Tensor:
        return task.targets(rows, state, width)

    batches = by_length([len(examples[i]) for i in order], batch_size)
    result: Tensor | None = None
    done = 0
    # not inference_mode: what a module caches on first use inside it can never be trained with,
    # and validation runs in the middle of training
    with evaluating(model), torch.no_grad():
        for positions in batches:
            rows = [order[p] for p in positions]
            known = all(examples[i].target is not None for i in rows)
            batch = collate(
                [examples[i] for i in rows],
                pad_id,
                targets if known else None,
                max_length=max_length,
            )
            batch.inputs = {name: tensor.to(device) for name, tensor in batch.inputs.items()}
            batch.targets = None if batch.targets is None else batch.targets.to(device)
            logits = task.logits(task.forward(model, batch, state), batch).cpu()
            if result is None:
                result = torch.zeros(len(examples), *logits.shape[1:], dtype=logits.dtype)
            # logits of each token are as wide as their batch, and the first batch is the longest
            where: tuple[Any, ...] = (rows, *(slice(0, size) for size in logits.shape[1:]))
            result[where] = logits
            done += len(rows)
            if on_batch:
                on_batch(done, len(examples))
    return result if result is not None else torch.empty(0)


def _content(example: Example) -> tuple[Any, ...]:
    return (len(example), *(example.inputs[name] for name in sorted(example.inputs)))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch dropout off, and put every module's own mode back: frozen parts may differ."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
