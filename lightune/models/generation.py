"""Writing: a batch of prompts -> the tokens that the model puts behind each.

How:        Transformers' `generate`, with its key-value cache, so that what a method does to the
            model (prompts, prefixes, wrappers) takes part as in any other use of the model.
            Greedy, by beams, or drawn at random, as `Generation` says.
Invariants: what is written follows from the prompts, `Generation` and the model alone: sampling
            settings that the checkpoint brings are left out by `load`, draws come from the seed
            and leave the global random state as it was. Nothing is written beyond the model's
            last position.
Not here:   which prompts share a batch (`evaluate/generate.py`), tokens to text (the tasks).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from lightune.errors import ModelError
from lightune.types import Generation

Decode = Callable[[Sequence[int]], str]
"""Tokens -> their text."""


class AtWords(StoppingCriteria):
    """Ends a row once one of some words stands in what it has written.

    Args:
        words: texts.
        decode: gives the text of new tokens.
        start: where in a row the new tokens begin.
    """

    def __init__(self, words: Sequence[str], decode: Decode, start: int) -> None:
        self.words, self.decode, self.start = words, decode, start
        # a token has at least one byte of text, but for special ones, which have none
        self.look = 2 * max(len(word.encode()) for word in words) + 8

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        ends = [row[self.start :][-self.look :] for row in input_ids.tolist()]
        texts = [self.decode(tokens) for tokens in ends]
        found = [any(word in text for word in self.words) for text in texts]
        return torch.tensor(found, device=input_ids.device)


@torch.no_grad()
def write(
    model: Any,
    inputs: Mapping[str, Tensor],
    how: Generation,
    pad_id: int,
    decode: Decode | None = None,
    streamer: Any = None,
) -> list[list[int]]:
    """Return the new tokens of every row, the one that ends an answer included.

    Args:
        model: a language model in eval mode: a decoder, or an encoder with a decoder.
        inputs: `input_ids` and `attention_mask`, `[batch, seq]`; for a decoder padded on the left.
        how: length, end, and how tokens are chosen.
        pad_id: of what fills rows that have ended.
        decode: needed where `how` has stop words.
        streamer: gets tokens as they are written, as Transformers' `streamer`; not with beams.

    Raises:
        ModelError: the prompts fill the model's positions already.
    """
    apart = reads_apart(model)
    width = inputs["input_ids"].shape[1]
    start = 1 if apart else width
    room = positions(model) - start
    if room < 1:
        raise ModelError(
            f"a prompt of {width} tokens leaves the model no room to answer",
            found=f"it has {positions(model)} positions",
            mend="a lower `train.max_length`",
        )
    criteria = StoppingCriteriaList()
    if how.stop_words and decode is not None:
        criteria.append(AtWords(how.stop_words, decode, start))
    devices = [inputs["input_ids"].device] if inputs["input_ids"].is_cuda else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(how.seed)
        made = model.generate(
            **inputs,
            generation_config=_settings(how, min(how.max_new_tokens, room), pad_id, model),
            stopping_criteria=criteria,
            streamer=streamer,
        )
    return [_until(row, how.stop, pad_id) for row in made[:, start:].tolist()]


def reads_apart(model: Any) -> bool:
    """Whether the model reads a prompt with an encoder, and writes with a decoder of its own."""
    return bool(getattr(model.config, "is_encoder_decoder", False))


def _settings(how: Generation, tokens: int, pad_id: int, model: Any) -> GenerationConfig:
    """Return Transformers' settings, with the rules of the model's own vocabulary."""
    own = model.generation_config
    drawn: dict[str, Any] = {}
    if how.temperature:
        drawn = {"temperature": how.temperature, "top_k": how.top_k, "top_p": how.top_p}
    if how.beams > 1:
        drawn |= {"length_penalty": how.length_penalty, "early_stopping": False}
    return GenerationConfig(
        max_new_tokens=tokens,
        do_sample=how.temperature > 0,
        num_beams=how.beams,
        no_repeat_ngram_size=how.no_repeat_ngram or None,
        use_cache=True,
        eos_token_id=list(how.stop),
        pad_token_id=pad_id,
        decoder_start_token_id=own.decoder_start_token_id,
        forced_bos_token_id=own.forced_bos_token_id,
        bad_words_ids=own.bad_words_ids,
        **drawn,
    )


def _until(tokens: list[int], stop: tuple[int, ...], pad_id: int) -> list[int]:
    """Return the tokens up to the first that ends the answer, and without what fills the row."""
    for i, token in enumerate(tokens):
        if token in stop:
            return tokens[: i + 1]
    written = len(tokens)
    while written and tokens[written - 1] == pad_id:  # behind a stop word
        written -= 1
    return tokens[:written]


def positions(model: Any) -> int:
    """Return how many tokens the model can read and write together."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else 1 << 30
