"""Greedy writing: a batch of prompts -> the tokens that the model puts behind each.

How:        Transformers' `generate`, with its key-value cache, so that what a method does to the
            model (prompts, prefixes, wrappers) takes part as in any other use of the model.
Invariants: equal prompts give equal answers, whatever sampling settings the checkpoint brings
            (`load` leaves them out). Nothing is written beyond the model's last position.
Not here:   which prompts share a batch (`evaluate/generate.py`), tokens to text (the tasks).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from lightune.errors import ModelError
from lightune.types import Generation


@torch.no_grad()
def write_greedily(
    model: Any, inputs: Mapping[str, Tensor], how: Generation, pad_id: int
) -> list[list[int]]:
    """Return the new tokens of every row, the one that ends an answer included.

    Args:
        model: a causal language model in eval mode.
        inputs: `input_ids` and `attention_mask`, `[batch, seq]`, padded on the left.
        how: length and end.
        pad_id: of what fills rows that have ended.

    Raises:
        ModelError: the prompts fill the model's positions already.
    """
    width = inputs["input_ids"].shape[1]
    room = _positions(model) - width
    if room < 1:
        raise ModelError(
            f"a prompt of {width} tokens leaves the model no room to answer",
            found=f"it has {_positions(model)} positions",
            mend="a lower `train.max_length`",
        )
    settings = GenerationConfig(
        max_new_tokens=min(how.max_new_tokens, room),
        do_sample=False,
        num_beams=1,
        use_cache=True,
        eos_token_id=list(how.stop),
        pad_token_id=pad_id,
    )
    made = model.generate(**inputs, generation_config=settings)
    return [_until(row, how.stop) for row in made[:, width:].tolist()]


def _until(tokens: list[int], stop: tuple[int, ...]) -> list[int]:
    """Return the tokens up to the first that ends the answer."""
    for i, token in enumerate(tokens):
        if token in stop:
            return tokens[: i + 1]
    return tokens


def _positions(model: Any) -> int:
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else 1 << 30
