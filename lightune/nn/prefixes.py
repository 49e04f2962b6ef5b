"""Trained keys and values in front of those of every attention: how a prefix enters a model.

    O = softmax(scale * Q [P_K; K]^T + mask) [P_V; V]      P_K, P_V [key heads, n, width] trained

How:        the attentions are found by running the model once and watching which modules call the
            registered kernel, so nothing depends on names or layer numbers; a module that is used
            several times (ALBERT) has one prefix. `nn/attention.py` does the prepending.
Invariants: a forward in which no attention used its prefix is an error: it would train, or answer,
            without it and in silence. Nothing of a prefix is in a cache.
Positions:  kept (the prefix has none), or shifted (the text moves up by n, PEFT's way).
Errors:     `MethodError` where a model computes attention itself (DeBERTa).
Not here:   vectors among the words (`prompts.py`).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils import logging

from lightune.errors import MethodError, ModelError
from lightune.nn import attention
from lightune.nn.prompts import (
    Positions,
    by_name,
    is_causal,
    position_offset,
    random_words,
    reader,
    seen_tokens,
    text_positions,
)
from lightune.nn.surgery import Surgery

NAME = "prefix"
"""Under which the prefix's module is added to the base model."""

PROBE_LENGTH = 8
"""Tokens of the shortest run that finds the attentions."""


@dataclass(slots=True)
class Layer:
    """One attention module and what it was seen to compute with.

    Attributes:
        keys, values: `[key heads, tokens, width]` that a few random inputs have in the base.
    """

    module: nn.Module
    keys: Tensor
    values: Tensor

    @property
    def sizes(self) -> tuple[int, int]:
        """Return how many numbers one key, and one value, of all heads has."""
        return tuple(len(t) * t.shape[-1] for t in (self.keys, self.values))  # type: ignore[return-value]


class Prefix(nn.Module):
    """A prefix as it is used: `weight` `[n, sum of all layers' keys and values]`, float32.

    The order is PEFT's: layer by layer, a layer's keys and then its values, head by head.
    """

    float32_parameters = ("weight",)

    def __init__(self, layers: Sequence[Layer], start: Tensor) -> None:
        super().__init__()
        self.heads = [len(layer.keys) for layer in layers]
        self.sizes = [layer.sizes for layer in layers]
        self.weight = nn.Parameter(start.detach().to(torch.float32, copy=True))

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Return keys and values of one layer, each `[key heads, n, width]`."""
        return split(self.weight, self.heads[index], *span(self.sizes, index))


class EncodedPrefix(nn.Module):
    """A prefix made by a small network from `weight` `[n, width]`; only what it gives is saved.

    P = W2 tanh(W1 e + b1) + b2      e [n, width], W1 [hidden, width], W2 [all layers, hidden]
    """

    float32_parameters = ("weight",)

    def __init__(self, layers: Sequence[Layer], length: int, width: int, hidden: int) -> None:
        super().__init__()
        self.heads = [len(layer.keys) for layer in layers]
        self.sizes = [layer.sizes for layer in layers]
        self.weight = nn.Parameter(torch.randn(length, width))
        self.inner = nn.Linear(width, hidden)
        self.outer = nn.Linear(hidden, sum(map(sum, self.sizes)))
        for linear in (self.inner, self.outer):
            linear.__dict__["float32_parameters"] = ("weight", "bias")

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Return keys and values of one layer, each `[key heads, n, width]`."""
        begin, middle, end = span(self.sizes, index)
        rows = slice(begin, end)
        flat = nn.functional.linear(self._hidden(), self.outer.weight[rows], self.outer.bias[rows])
        return split(flat, self.heads[index], 0, middle - begin, end - begin)

    def forward(self) -> Tensor:
        """Return the whole prefix, as `Prefix.weight`."""
        return self.outer(self._hidden())

    def _hidden(self) -> Tensor:
        return torch.tanh(self.inner(self.weight))


def span(sizes: Sequence[tuple[int, int]], index: int) -> tuple[int, int, int]:
    """Return where a layer's keys begin, its values begin, and it ends."""
    begin = sum(map(sum, sizes[:index]))
    return begin, begin + sizes[index][0], begin + sum(sizes[index])


def split(flat: Tensor, heads: int, begin: int, middle: int, end: int) -> tuple[Tensor, Tensor]:
    """Return `flat[:, begin:middle]` and `flat[:, middle:end]`, `[n, …]` -> `[heads, n, width]`."""
    parts = flat[:, begin:middle], flat[:, middle:end]
    keys, values = (part.unflatten(1, (heads, -1)).transpose(0, 1) for part in parts)
    return keys, values


def find_layers(model: Any, length: int, method: str) -> list[Layer]:
    """Return the attentions of `model` in the order in which they run, the model unchanged.

    Args:
        length: keys and values of that many tokens are wanted; fewer where the model reads less.
        method: for the message.

    Raises:
        MethodError: the model does not let its attention be replaced.
    """
    kind, own = type(model).__name__, model.config._attn_implementation
    found: dict[int, Layer] = {}

    def watch(module: nn.Module, key: Tensor, value: Tensor) -> None:
        first = key[0].detach().float().clone(), value[0].detach().float().clone()
        found.setdefault(id(module), Layer(module, *first))

    modes = [(module, module.training) for module in model.modules()]
    for module in model.modules():
        vars(module)[attention.SLOT] = partial(watch, module)
    verbosity = logging.get_verbosity()
    try:
        logging.set_verbosity_error()  # the refusal below says it
        model.eval()
        if attention.use(model, attention.in_use(model)):
            with torch.no_grad():
                model.base_model(**_some_inputs(model, max(length, PROBE_LENGTH)))
    finally:
        for module, training in modes:
            del vars(module)[attention.SLOT]
            module.training = training
        model.set_attn_implementation(own)
        logging.set_verbosity(verbosity)
    if not found:
        raise MethodError(
            f"method: `{method}` puts keys and values into the attention, and {kind} computes its "
            "attention itself",
            found="no module that takes an attention from outside",
            mend="`method: prompt_tuning`, or `method: lora`",
        )
    return list(found.values())


def _some_inputs(model: Any, length: int) -> dict[str, Tensor]:
    """Return one random input of the base model, of about `length` tokens."""
    config, device = model.config, model.device
    if model.main_input_name == "pixel_values":
        size = config.image_size
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        image = torch.randn(1, config.num_channels, height, width)
        return {"pixel_values": image.to(device, model.dtype)}
    limit = getattr(config.get_text_config(), "max_position_embeddings", None) or length
    words = model.get_input_embeddings()
    ids = random_words(model, words, min(length, limit - position_offset(model)))[None].to(device)
    extra = {"decoder_input_ids": ids} if config.is_encoder_decoder else {}
    return {"input_ids": ids, **extra}


def start_values(layers: Sequence[Layer], length: int) -> Tensor:
    """Return the prefix whose keys and values are those seen, `[length, all layers]`; repeated
    where fewer were seen."""
    flat = []
    for states in (t for layer in layers for t in (layer.keys, layer.values)):
        rows = torch.arange(length) % states.shape[1]
        flat.append(states[:, rows.to(states.device)].transpose(0, 1).flatten(1))
    return torch.cat(flat, dim=1)


def insert(
    model: Any,
    surgery: Surgery,
    layers: Sequence[Layer],
    prefix: Prefix | EncodedPrefix,
    length: int,
    positions: Positions,
    method: str,
) -> str:
    """Put `prefix` into `model` and return the path of its module; `surgery.undo()` takes it out.

    Raises:
        MethodError: the model has a prefix, or counts its positions itself.
    """
    base, kind = model.base_model, type(model).__name__
    if attention.has_prefix(model):
        raise MethodError(
            f"{kind} has a prefix already", found=NAME, mend="one prefix method at a time"
        )
    own, kernel = model.config._attn_implementation, attention.in_use(model)
    use = _Use(prefix)
    handles = []
    if positions == "shifted" or (model.main_input_name == "input_ids" and _is_causal(model)):
        handles += _count(model, length if positions == "shifted" else 0, method)
    base.add_module(NAME, prefix)
    surgery.remember(lambda: delattr(base, NAME))
    surgery.remember(lambda: model.set_attn_implementation(own))
    for index, layer in enumerate(layers):
        vars(layer.module)[attention.SLOT] = partial(use.states, index)
        surgery.remember(partial(vars(layer.module).pop, attention.SLOT))
    attention.use(model, kernel)
    handles += [base.register_forward_pre_hook(use.begin), base.register_forward_hook(use.check)]
    for handle in handles:
        surgery.remember(handle.remove)
    return next(path for path, module in model.named_modules() if module is prefix)


def peft_config(model: Any, layers: Sequence[Layer], positions: Positions) -> dict[str, Any] | None:
    """Return what PEFT's config says of a prefix; None where PEFT would compute something else.

    PEFT hands a prefix over as a filled cache: to models that take one, with all layers alike.
    """
    takes = inspect.signature(model.base_model.forward).parameters
    same = {(len(layer.keys), layer.sizes) for layer in layers}
    blocks = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    if (
        positions != "shifted"
        or "past_key_values" not in takes
        or model.config.is_encoder_decoder
        or len(same) > 1
        or len(layers) != blocks
    ):
        return None
    return {
        "peft_type": "PREFIX_TUNING",
        "prefix_projection": False,
        "token_dim": layers[0].sizes[0],
        "num_attention_heads": len(layers[0].keys),
        "num_layers": len(layers),
        "num_transformer_submodules": 1,
    }


class _Use:
    """What the attentions ask for their keys and values, and whether any did."""

    def __init__(self, prefix: Prefix | EncodedPrefix) -> None:
        self.prefix = prefix
        self.used = False

    def states(self, index: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        self.used = True
        return self.prefix.layer(index)

    def begin(self, base: nn.Module, args: Any) -> None:
        self.used = False

    def check(self, base: nn.Module, args: Any, output: Any) -> None:
        if not self.used:
            raise ModelError(
                f"{type(base).__name__} computed without its prefix: its attention was exchanged",
                found=f"attention {base.config._attn_implementation!r}",  # type: ignore[union-attr]
                mend="`lightune.nn.attention.use(model, kernel)`, which keeps prefixes",
            )


def _is_causal(model: Any) -> bool:
    return not model.config.is_encoder_decoder and is_causal(model.base_model)


def _count(model: Any, shift: int, method: str) -> list[Any]:
    """Move the text's positions up by `shift`, and let padding to the left of a decoder's text not
    count, so that the prefix is as near to every text.

    Returns:
        The hook's handle, where one is needed.
    """
    where = reader(model, method)
    names = tuple(inspect.signature(where.stack.forward).parameters)
    if "position_ids" not in names and not shift:
        return []
    if where.outer is not None or "position_ids" not in names:
        raise MethodError(
            f"method.positions: {type(model).__name__} counts its positions itself",
            found="its forward takes no position_ids",
            mend="`positions: kept`",
        )
    offset = position_offset(model)

    def count(stack: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        inputs = by_name(names, args, kwargs)
        places = inputs.get("position_ids")
        if places is None:
            if not shift and inputs.get("attention_mask") is None:
                return None
            places = text_positions(inputs, where.causal, offset, seen_tokens(inputs))
        return (), {**inputs, "position_ids": places + shift}

    return [where.stack.register_forward_pre_hook(count, with_kwargs=True)]
