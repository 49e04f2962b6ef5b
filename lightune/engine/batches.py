"""Which examples share a batch, and the tensors made of them.

Why:        a padded token costs as much as a real one. Batches of like length waste little. On a
            CPU, lengths rounded up to a multiple of eight, as is usual on a GPU, cost 8 to 12 % on
            texts of 14 tokens and 5 % on texts of 45, and gain nothing.
Invariants: an epoch's batches are a pure function of (lengths, batch size, seed, epoch), so that a
            resumed run needs no loader state; each example is in exactly one batch of an epoch,
            and there are as many batches as with random order.
Not here:   tokenising (the tasks).
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from lightune.types import Batch, Example

POOL_BATCHES = 50
"""Batches' worth of shuffled examples that are sorted by length together. Larger pools pad less
and mix less; Trainer's `group_by_length` uses 50 as well."""

PAD_VALUES = {"attention_mask": 0, "token_type_ids": 0}


def epoch_batches(
    lengths: Sequence[int], batch_size: int, seed: int, epoch: int, order: str = "by_length"
) -> list[list[int]]:
    """Return the batches of one epoch as lists of example positions.

    Args:
        lengths: tokens of each example.
        batch_size: examples per batch; the last one may be smaller.
        seed: of the run.
        epoch: counted from 0; every epoch has another order.
        order: `by_length` sorts inside pools of `POOL_BATCHES` batches, `random` does not sort.
    """
    rng = np.random.default_rng([seed, epoch])
    shuffled = rng.permutation(len(lengths))
    if order == "by_length":
        sizes = np.asarray(lengths)
        pool = POOL_BATCHES * batch_size
        shuffled = np.concatenate(
            [
                part[np.argsort(sizes[part], kind="stable")]
                for part in (shuffled[i : i + pool] for i in range(0, len(shuffled), pool))
            ]
            or [shuffled]
        )
    batches = [shuffled[i : i + batch_size].tolist() for i in range(0, len(shuffled), batch_size)]
    if order == "by_length":
        batches = [batches[i] for i in rng.permutation(len(batches))]
    return batches


def by_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Return batches for prediction: longest first, so that running out of memory shows at once."""
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    return [order[i : i + batch_size].tolist() for i in range(0, len(order), batch_size)]


def collate(
    examples: Sequence[Example],
    pad_id: int,
    targets: Callable[[Sequence[Example], int], Tensor] | None,
    multiple: int = 1,
    max_length: int | None = None,
    side: str = "right",
    pad_values: Mapping[str, int] | None = None,
) -> Batch:
    """Pad examples to one length and make tensors of them.

    Args:
        examples: at least one.
        pad_id: token put where an example is shorter.
        targets: makes the targets from the examples and the padded length; None when unlabelled.
        multiple: the padded length is rounded up to it (GPUs like 8),
        max_length: but not above this: a model has no position beyond its limit.
        side: `right` or `left`, where the padding goes.
        pad_values: padding of further inputs by name; unknown ones are padded with 0.

    Returns:
        A batch whose inputs are int64 `[batch, seq]`, the attention mask among them.
    """
    longest = max(len(example) for example in examples)
    width = -(-longest // multiple) * multiple
    if max_length is not None:
        width = max(longest, min(width, max_length))
    values = {"input_ids": pad_id, **PAD_VALUES, **(pad_values or {})}
    shape = (len(examples), width)
    arrays = {
        name: np.full(shape, values.get(name, 0), dtype=np.int64) for name in examples[0].inputs
    }
    mask = np.zeros(shape, dtype=np.int64)
    for row, example in enumerate(examples):
        span = slice(0, len(example)) if side == "right" else slice(width - len(example), width)
        mask[row, span] = 1
        for name, tokens in example.inputs.items():
            arrays[name][row, span] = tokens
    arrays["attention_mask"] = mask
    return Batch(
        inputs={name: torch.from_numpy(array) for name, array in arrays.items()},
        targets=targets(examples, width) if targets else None,
        indices=[example.index for example in examples],
    )
