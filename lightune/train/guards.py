"""What stops a training at once, and the sentence that names the records and the mend.

A loss or a gradient that is not finite ruins every weight at the next step, and a batch without
a target trains nothing: neither is ever passed over.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from lightune.errors import RunError
from lightune.types import Batch, Example

NO_TARGET = -100
"""The class id that losses skip."""

SHOWN = 8
"""Records named in a message."""


def count_targets(batch: Batch) -> int:
    """Return how many terms the mean loss of a batch has.

    Whole-number targets count where they are not `NO_TARGET`; others (multi-label rows, numbers
    to predict) count by row.
    """
    if batch.targets is None:
        return 0
    if batch.targets.is_floating_point():
        return len(batch.targets)
    return int((batch.targets != NO_TARGET).sum())


def has_target(targets: Tensor) -> bool:
    """Return whether a batch with these targets has a term in the loss; see `count_targets`."""
    return targets.is_floating_point() or bool((targets != NO_TARGET).any())


def some_examples(train: Sequence[Example]) -> None:
    """Raise `RunError` when there is nothing to train on."""
    if not train:
        raise RunError(
            "there are no training examples",
            found="0 examples",
            mend="check `data.train` and `data.limit`",
        )


def some_targets(count: int, examples: Sequence[Example], place: Callable[[int], str]) -> None:
    """Raise `RunError` when nothing of a whole step is labelled."""
    if not count:
        raise RunError(
            "nothing to learn in a whole step: no record of it has a target",
            found=named([example.index for example in examples], place),
            mend="remove these records; or, where truncation cut the target off, raise "
            "`train.max_length`",
        )


def not_finite(
    step: int,
    loss: float,
    norm: float,
    examples: Sequence[Example],
    blamed: Sequence[int],
    place: Callable[[int], str],
    learning_rate: float,
    low_precision: bool,
) -> RunError:
    """Return the error for a loss or gradient that is not finite.

    Args:
        step: counted from 1.
        loss, norm: of the step.
        examples: of the step.
        blamed: indices of those that alone give a loss that is not finite.
        place: index -> `file:line`.
        learning_rate: peak rate, to propose a lower one.
        low_precision: whether the model computes in 16 bits.
    """
    what = f"the gradient's norm is {norm}" if math.isfinite(loss) else f"the loss is {loss}"
    if blamed:
        found = f"these records alone give it: {named(blamed, place)}"
        mend = "look at these records, and leave them out if they are damaged"
    else:
        found = f"records of this step: {named([e.index for e in examples], place)}"
        mend = f"a lower rate, `train.learning_rate: {learning_rate / 10:g}`"
    if low_precision:
        mend += "; or wider numbers, `train.precision: fp32`"
    return RunError(f"step {step}: {what}; training stopped", found=found, mend=mend)


@torch.no_grad()
def blame(loss_of: Callable[[Example], Tensor], examples: Sequence[Example]) -> list[int]:
    """Return the indices of the examples whose loss is not finite when each is taken alone.

    Empty where it is none of them or all of them: then the weights are at fault.
    """
    bad = [e.index for e in examples if not torch.isfinite(loss_of(e)).item()]
    return bad if len(bad) < len(examples) else []


def named(indices: Sequence[int], place: Callable[[int], str]) -> str:
    """Return `a.csv:3, a.csv:9 … and 5 more`."""
    more = f" … and {len(indices) - SHOWN} more" if len(indices) > SHOWN else ""
    return ", ".join(place(index) for index in indices[:SHOWN]) + more


def one_process(environment: Mapping[str, str]) -> None:
    """Refuse to train as one of several processes, which would each train a copy of their own.

    Raises:
        RunError: WORLD_SIZE is more than one.
    """
    world = environment.get("WORLD_SIZE", "1")
    if world != "1":
        raise RunError(
            "train: started as one of several processes, but training runs in one",
            found=f"WORLD_SIZE={world}, RANK={environment.get('RANK', '')}",
            mend="start `lightune train` without torchrun, or unset WORLD_SIZE",
        )
