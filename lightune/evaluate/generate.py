"""Examples with prompts -> the tokens that the model writes behind each, in batches by length.

Invariants: results are in the order of `examples`. A decoder's prompts are padded on the left, so
            that all go on at the same place; an encoder's on the right, as in training. Dropout is
            off, and every module's mode is as before. An answer has the room that its own prompt
            leaves it, whatever stands beside it in a batch.
Not here:   the decoding itself (`models/generation.py`), tokens to text (the task's `read`).
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from lightune.engine.batches import by_length, collate
from lightune.evaluate.predict import evaluating
from lightune.models.generation import Decode, positions, reads_apart, write
from lightune.types import Example, Generation

GENERATION_BATCH = 32
"""Prompts in a batch; fixed, so that a file's answers never depend on a setting."""


def generate(
    model: nn.Module,
    examples: Sequence[Example],
    how: Generation,
    *,
    pad_id: int,
    batch_size: int = GENERATION_BATCH,
    device: torch.device | str = "cpu",
    decode: Decode | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> list[list[int]]:
    """Return the new tokens of every example, the one that ends an answer included.

    Args:
        examples: each with a `prompt`.
        decode: gives the text of tokens; needed where `how` has stop words.
        on_batch: called with the number of examples done and of all.
    """
    prompts = [
        Example(i, {"input_ids": list(example.prompt or ())}) for i, example in enumerate(examples)
    ]
    # ties of length are broken by content, so that a shuffled file makes the same batches
    order = sorted(range(len(prompts)), key=lambda i: tuple(prompts[i].inputs["input_ids"]))
    answers: list[list[int]] = [[] for _ in prompts]
    done = 0
    side = "right" if reads_apart(model) else "left"
    longest = None if reads_apart(model) else positions(model) - how.max_new_tokens
    with evaluating(model):
        for rows in _batches(prompts, order, batch_size, longest):
            batch = collate([prompts[i] for i in rows], pad_id, None, multiple=1, side=side)
            inputs = {name: tensor.to(device) for name, tensor in batch.inputs.items()}
            made = write(model, inputs, how, pad_id, decode)
            for row, tokens in zip(rows, made, strict=True):
                answers[row] = tokens
            done += len(rows)
            if on_batch:
                on_batch(done, len(examples))
    return answers


def _batches(
    prompts: Sequence[Example], order: Sequence[int], batch_size: int, longest: int | None
) -> Iterator[list[int]]:
    """Yield the numbers of the prompts of each batch.

    Args:
        longest: of the prompts that leave an answer all the room it may take; any other shares a
            batch with those of its own length alone. None where prompts take no room.
    """
    groups: dict[int, list[int]] = {}
    for i in order:
        length = len(prompts[i])
        groups.setdefault(0 if longest is None or length <= longest else length, []).append(i)
    for group in groups.values():
        for places in by_length([len(prompts[i]) for i in group], batch_size):
            yield [group[place] for place in places]


def before_words(text: str, words: Sequence[str]) -> tuple[str, bool]:
    """Return what stands before the first of some words, and whether there was one."""
    places = [at for word in words if (at := text.find(word)) >= 0]
    return (text[: min(places)].rstrip(), True) if places else (text, False)
