"""Prefix tuning: train keys and values that stand before those of every attention.

Paper:      Li and Liang 2021, "Prefix-Tuning: Optimizing Continuous Prompts for Generation"
            (arXiv:2101.00190), equation 2; Liu et al. 2021, "P-Tuning v2" (arXiv:2110.07602) for
            classification, without the network:

                head = softmax(Q [P_K; K]^T / sqrt(d)) [P_V; V]

            with `encoder: mlp` section 4.3, P = MLP(e): one hidden layer and tanh.
            Encoder–decoders get a prefix in the encoder's, the decoder's and the cross attention,
            as in the authors' code.
Start:      section 7.4 of the paper: the keys and values that words have in the frozen model (here
            random words of the vocabulary), or standard normal numbers, as PEFT; with `mlp`,
            standard normal numbers go into the network.
Cost:       tokens * (keys + values of a layer) trained weights per layer; with `mlp` also the
            network's, in training only. Attention is wider by `tokens`, all else costs the same.
Saved as:   the keys and values alone; PEFT's `prompt_embeddings` where PEFT computes the same
            (`positions: shifted`, a model whose layers are alike), else by its path.
Not here:   how a prefix enters a model (`nn/prefixes.py`, `nn/attention.py`).
"""

from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import nn

from lightune.methods.base import Attachment, Method, made_by
from lightune.nn.prefixes import (
    EncodedPrefix,
    Layer,
    Prefix,
    find_layers,
    insert,
    peft_config,
    start_values,
)
from lightune.nn.prompts import PEFT_NAME, Positions, room
from lightune.nn.surgery import Surgery


class PrefixTuning(Method):
    """Trained keys and values in every attention."""

    name: ClassVar[str] = "prefix_tuning"
    paper: ClassVar[str] = "Li and Liang 2021, arXiv:2101.00190, equation 2"
    summary: ClassVar[str] = "trained keys and values in front of every attention's own"
    identity_at_init: ClassVar[bool] = False
    learning_rate: ClassVar[float] = 3e-2

    tokens: int = Field(default=16, ge=1, le=1000)
    """Length of the prefix. From 1 to 1000."""
    start: Literal["vocabulary", "random"] = "vocabulary"
    """What the prefix starts from: the keys and values of random words of the vocabulary, or random
    numbers. With `encoder: mlp` it is always random."""
    encoder: Literal["none", "mlp"] = "none"
    """Train the keys and values themselves, or a network that makes them."""
    hidden: int = Field(default=512, ge=1, le=65536)
    """Width of that network. From 1 to 65536."""
    positions: Positions = "kept"
    """Whether the text's positions move up by the prefix's length (PEFT's way), or are kept."""

    def loaded(self) -> Self:
        """Return the method without network and start, which saved keys and values replace."""
        return self.model_copy(update={"start": "random", "encoder": "none"})

    def room(self, model: nn.Module) -> int:
        """Return how many of the model's positions the prefix takes."""
        return room(model, self.tokens, self.positions)

    def attach(self, model: nn.Module) -> Attachment:
        layers = find_layers(model, self.tokens, self.name)
        prefix = self._prefix(model, layers)
        surgery = Surgery(model)
        path = insert(model, surgery, layers, prefix, self.tokens, self.positions, self.name)
        peft = peft_config(model, layers, self.positions)
        name = PEFT_NAME if peft else f"{path}.weight"
        inside = dict(prefix.named_parameters())
        return Attachment(
            surgery,
            {f"{path}.{inner}": parameter for inner, parameter in inside.items()},
            "peft" if peft else "tensors",
            peft_config={**peft, "num_virtual_tokens": self.tokens} if peft else None,
            peft_names={f"{path}.weight": PEFT_NAME},
            packed={name: made_by(prefix, path)} if self.encoder != "none" else None,
        )

    def _prefix(self, model: Any, layers: list[Layer]) -> Prefix | EncodedPrefix:
        device = layers[0].keys.device
        if self.encoder == "mlp":
            width = sum(layers[0].sizes) // 2
            return EncodedPrefix(layers, self.tokens, width, self.hidden).to(device)
        start = start_values(layers, self.tokens)
        return Prefix(layers, torch.randn_like(start) if self.start == "random" else start)
