"""Trained vectors among a text's word embeddings: how a prompt enters a model.

    E' = [E[:place]; P; E[place:]]      E [batch, seq, width], P [n, width] trained

Why:        the text a user passes, and all that comes back, keep their length: heads find the last
            token by `input_ids`, token heads and losses stay aligned, generation goes on from its
            cache. So the prompt lives between two hooks on the stack that reads the words: one
            widens the ids by a placeholder (with mask, segments and positions), one on the word
            embedding puts P where the placeholders are, one takes the prompt's places out again.
Pooler:     an encoder's pooler reads the first place. Either the prompt comes after the first
            token, so that this stays the text's own `[CLS]`, or it comes first and is read itself.
Positions:  shifted (the text moves up by n), or kept (the text stays, the prompt stands where the
            text begins).
Caches:     with a filled cache the prompt is in it: only mask and positions are widened.
Encoder–decoders: the prompt stands before the encoder's text, and the decoder sees it.
Errors:     `MethodError` where a model has no words to read or no positions to keep, `ModelError`
            when it is called with something that cannot be widened.
Not here:   prefixes of keys and values (`prefix.py`).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from lightune.errors import MethodError, ModelError
from lightune.nn.surgery import Surgery

Positions = Literal["shifted", "kept"]
Reads = Literal["text", "prompt"]

NAME = "prompt"
"""Under which the prompt's module is added to the stack that reads it."""

PEFT_NAME = "prompt_embeddings"
"""Of the one tensor that PEFT saves of a prompt or a prefix."""


class Prompt(nn.Module):
    """A prompt as it is used: `weight` `[n, width]`, float32 in every plan."""

    float32_parameters = ("weight",)

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(start.detach().to(torch.float32, copy=True))

    def forward(self) -> Tensor:
        """Return the vectors, `[n, width]`."""
        return self.weight


@dataclass(frozen=True, slots=True)
class Reader:
    """The part of a model that reads word ids.

    Attributes:
        stack: takes `input_ids` and gives hidden states: the base, or an encoder–decoder's encoder.
        path: of the stack in the model.
        words: the word embedding it uses.
        outer: what calls the encoder and the decoder; None elsewhere.
        causal: each token sees only what comes before it.
    """

    stack: nn.Module
    path: str
    words: nn.Module
    outer: nn.Module | None
    causal: bool


def reader(model: Any, method: str) -> Reader:
    """Find the part of `model` that reads words.

    Args:
        method: for the message.

    Raises:
        MethodError: the model reads no words.
    """
    kind = type(model).__name__
    if getattr(model, "main_input_name", "") != "input_ids":
        raise MethodError(
            f"method: `{method}` puts vectors among the words of a text, and {kind} reads none",
            found=f"its input is {getattr(model, 'main_input_name', 'unknown')}",
            mend="`method: lora`, or another that changes layers",
        )
    outer = model.base_model if model.config.is_encoder_decoder else None
    stack = model.get_encoder() if outer is not None else model.base_model
    return Reader(
        stack=stack,
        path=next(path for path, module in model.named_modules() if module is stack),
        words=stack.get_input_embeddings(),
        outer=outer,
        causal=is_causal(stack),
    )


def is_causal(stack: nn.Module) -> bool:
    """Whether each token of a stack sees only what comes before it."""
    return any(getattr(module, "is_causal", False) is True for module in stack.modules())


@torch.no_grad()
def word_vectors(words: nn.Module, ids: Tensor) -> Tensor:
    """Return what the word embedding gives for `ids`, scaled where the model scales, float32."""
    return words(ids.to(words.get_parameter("weight").device)).float()


def special_ids(model: Any) -> set[int]:
    """Return the ids of the special tokens that the configuration names."""
    config = model.config.get_text_config()
    values = [getattr(config, f"{name}_token_id", None) for name in SPECIAL]
    flat = [i for v in values for i in (v if isinstance(v, (list, tuple)) else [v])]
    return {i for i in flat if isinstance(i, int)}


SPECIAL = ("pad", "bos", "eos", "cls", "sep", "mask", "unk", "decoder_start")


def random_words(model: Any, words: nn.Module, count: int) -> Tensor:
    """Return `count` random ids `[count]` of the vocabulary, special tokens left out."""
    size = len(words.get_parameter("weight"))
    ordinary = torch.tensor([i for i in range(size) if i not in special_ids(model)])
    return ordinary[torch.randint(len(ordinary), (count,))]


def insert(
    model: Any,
    surgery: Surgery,
    where: Reader,
    prompt: nn.Module,
    length: int,
    positions: Positions = "shifted",
    reads: Reads = "text",
) -> None:
    """Put `prompt` into `model`; `surgery.undo()` takes it out.

    Args:
        where: from `reader`.
        prompt: `prompt()` gives `[length, width]`.
        reads: what an encoder's pooler reads in the first place.

    Raises:
        MethodError: the model has no positions to keep, or no pooler that could read a prompt.
    """
    _check(model, where, positions, reads)
    ordinary = set(range(len(special_ids(model)) + 1)) - special_ids(model)
    first = not where.causal and where.outer is None and reads == "text"
    hooks = Insertion(
        prompt=prompt,
        length=length,
        place=1 if first else 0,
        placeholder=min(ordinary),
        kept=positions == "kept",
        causal=where.causal,
        names=tuple(inspect.signature(where.stack.forward).parameters),
        offset=position_offset(model),
    )
    if hasattr(where.stack, NAME):
        raise MethodError(
            f"{type(model).__name__} has a prompt already",
            found=f"{where.path}.{NAME}",
            mend="one method that inserts a prompt at a time",
        )
    where.stack.add_module(NAME, prompt)
    surgery.remember(lambda: delattr(where.stack, NAME))
    handles = [
        where.stack.register_forward_pre_hook(hooks.widen, with_kwargs=True),
        where.words.register_forward_hook(hooks.put_in),
    ]
    if where.outer is not None:
        hooks.outer_names = tuple(inspect.signature(where.outer.forward).parameters)
        handles.append(where.outer.register_forward_pre_hook(hooks.widen_mask, with_kwargs=True))
    elif reads == "text":
        handles.append(where.stack.register_forward_hook(hooks.take_out))
    for handle in handles:
        surgery.remember(handle.remove)


def room(model: Any, length: int, positions: Positions) -> int:
    """Return how many of the positions that a text could have are taken by a prompt."""
    limited = isinstance(
        getattr(model.config.get_text_config(), "max_position_embeddings", None), int
    )
    return length if positions == "shifted" and limited else 0


def peft_layout(where: Reader, positions: Positions, reads: Reads) -> Literal["peft", "tensors"]:
    """Return the layout: PEFT's only where PEFT, loading it, would compute the same."""
    same_place = reads == "prompt" or where.causal
    return "peft" if same_place and where.outer is None and positions == "shifted" else "tensors"


def _check(model: Any, where: Reader, positions: Positions, reads: Reads) -> None:
    kind = type(model).__name__
    takes = inspect.signature(where.stack.forward).parameters
    if positions == "kept" and "position_ids" not in takes:
        raise MethodError(
            f"method.positions: {kind} counts its positions itself, so they cannot be kept",
            found="its forward takes no position_ids",
            mend="`positions: shifted`",
        )
    mean = getattr(model.config, "classifier_pooling", "cls") != "cls"
    whole_texts = "SequenceClassification" in kind and not mean
    if reads == "prompt" and (where.causal or where.outer is not None or not whole_texts):
        raise MethodError(
            f"method.reads: {kind} does not read the first place alone",
            found="only encoders that classify whole texts by it do",
            mend="`reads: text`",
        )


def position_offset(model: Any) -> int:
    """Return the position number of a text's first token: RoBERTa and its kin do not start at 0,
    and their position table's `padding_idx` says so."""
    rows = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    for module in model.modules():
        table = isinstance(module, nn.Embedding) and module.num_embeddings == rows
        if table and module.padding_idx is not None and module is not model.get_input_embeddings():
            return int(module.padding_idx) + 1
    return 0


def by_name(names: tuple[str, ...], args: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return positional and named arguments of a forward as named ones."""
    return dict(zip(names, args, strict=False)) | dict(kwargs)


def seen_tokens(inputs: Mapping[str, Any]) -> int:
    """Return how many tokens the cache in a forward's arguments holds."""
    past = inputs.get("past_key_values")
    return 0 if past is None else int(past.get_seq_length())


def text_positions(inputs: Mapping[str, Any], causal: bool, offset: int, seen: int) -> Tensor:
    """Return the position of every token `[batch or 1, seq]`, as the plain model would count.

    Padding to the left does not count where `causal`, so that it changes nothing.
    """
    ids, mask = inputs["input_ids"], inputs.get("attention_mask")
    if causal and mask is not None:
        return (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    return torch.arange(ids.shape[1], device=ids.device)[None] + seen + offset


class Insertion:
    """The hooks that carry one prompt; see the module.

    Args:
        place: tokens of the text that stand before the prompt.
        placeholder: an id that is no special token, so that no model reads anything into it.
        kept: positions of the text stay.
        offset: see `position_offset`.
        names: parameters of the stack's forward, in order.
    """

    def __init__(
        self,
        prompt: nn.Module,
        length: int,
        place: int,
        placeholder: int,
        kept: bool,
        causal: bool,
        names: tuple[str, ...],
        offset: int,
    ) -> None:
        self.prompt, self.length, self.place = prompt, length, place
        self.placeholder, self.kept, self.causal = placeholder, kept, causal
        self.names, self.offset = names, offset
        self.outer_names: tuple[str, ...] = ()
        self.waiting = False  # ids are widened, and the word embedding is still to come
        self.inside = False  # this forward's hidden states hold the prompt

    def widen(self, stack: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Before the stack: make room for the prompt in all that goes by token."""
        inputs = by_name(self.names, args, kwargs)
        ids = inputs.get("input_ids")
        if ids is None:
            raise ModelError(
                f"a prompt enters {type(stack).__name__} among its words, and it got none",
                found=f"arguments: {', '.join(k for k, v in inputs.items() if v is not None)}",
                mend="call the model with input_ids, not with inputs_embeds",
            )
        seen = seen_tokens(inputs)
        self.waiting = self.inside = seen == 0
        inputs |= self._positions(inputs, max(seen - self.length, 0), bool(seen))
        mask = inputs.get("attention_mask")
        if mask is None and self.kept and self.causal:
            # without a mask, Transformers takes positions that start anew for packed texts
            mask = ids.new_ones(len(ids), max(seen - self.length, 0) + ids.shape[1])
        if not self._widened(mask, ids, seen):
            inputs["attention_mask"] = self._wider_mask(mask)
        if seen == 0:
            inputs["input_ids"] = self._wider(ids, self.placeholder)
            if inputs.get("token_type_ids") is not None:
                inputs["token_type_ids"] = self._wider(inputs["token_type_ids"], 0)
        return (), inputs

    def widen_mask(self, outer: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Before an encoder–decoder: the decoder sees the prompt, too."""
        inputs = by_name(self.outer_names, args, kwargs)
        inputs["attention_mask"] = self._wider_mask(inputs.get("attention_mask"))
        return (), inputs

    def put_in(self, words: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        """After the word embedding: the prompt in the place of the placeholders."""
        if not self.waiting:
            return None  # the decoder's words, or a step from the cache
        self.waiting = False
        vectors = self.prompt().to(output.dtype).expand(output.shape[0], -1, -1)
        place, end = self.place, self.place + self.length
        return torch.cat([output[:, :place], vectors, output[:, end:]], dim=1)

    def take_out(self, stack: nn.Module, args: Any, output: Any) -> Any:
        """After the stack: hidden states of the text alone."""
        if not self.inside:
            return None
        if not isinstance(output, ModelOutput):
            return (self._narrower(output[0]), *output[1:])
        output["last_hidden_state"] = self._narrower(output["last_hidden_state"])
        if output.get("hidden_states") is not None:
            output["hidden_states"] = tuple(self._narrower(h) for h in output["hidden_states"])
        return output

    def _positions(self, inputs: Mapping[str, Any], seen: int, cached: bool) -> dict[str, Tensor]:
        """Return the `position_ids` to pass: none where the model's own count is right."""
        given, mask = inputs.get("position_ids"), inputs.get("attention_mask")
        own_is_right = not self.kept and not (self.causal and mask is not None)
        if "position_ids" not in self.names or (given is None and own_is_right):
            return {}
        text = given
        if text is None:
            text = text_positions(inputs, self.causal, self.offset, seen)
        moved = text if self.kept else text + self.length
        if cached:
            return {"position_ids": moved}
        first = torch.arange(self.length, device=text.device) + self.place
        first = (0 if self.kept else first) + self.offset + torch.zeros_like(first)
        parts = [text[:, : self.place], first.expand(text.shape[0], -1), moved[:, self.place :]]
        return {"position_ids": torch.cat(parts, dim=1)}

    def _widened(self, mask: Any, ids: Tensor, seen: int) -> bool:
        """Whether there is no mask, or it has room already (an encoder–decoder's)."""
        return mask is None or (seen == 0 and mask.shape[-1] == ids.shape[1] + self.length)

    def _wider_mask(self, mask: Any) -> Any:
        if mask is None:
            return None
        if not isinstance(mask, Tensor) or mask.ndim != 2:
            raise ModelError(
                "a prompt can widen an attention mask of one number per token only",
                found=f"shape {tuple(mask.shape)}"
                if isinstance(mask, Tensor)
                else type(mask).__name__,
                mend="pass attention_mask as [batch, seq]",
            )
        return self._wider(mask, 1)

    def _wider(self, values: Tensor, fill: int) -> Tensor:
        """Return `[batch, seq + n]` with `fill` where the prompt is."""
        new = values.new_full((values.shape[0], self.length), fill)
        return torch.cat([values[:, : self.place], new, values[:, self.place :]], dim=1)

    def _narrower(self, states: Tensor) -> Tensor:
        """Return `[batch, seq, width]` of the text's places."""
        end = self.place + self.length
        return torch.cat([states[:, : self.place], states[:, end:]], dim=1)
