"""P-tuning: prompt vectors made by a small network while training.

Paper:      Liu et al. 2021, "GPT Understands, Too" (arXiv:2103.10385), equation 5:

                P = MLP([LSTM_forward(e); LSTM_backward(e)])      e [tokens, width] trained

            `encoder: mlp` leaves the LSTM out: three linear layers with ReLU between, as PEFT's
            default. Departure: the paper scatters the vectors over a template of words; here they
            stand together, as in PEFT, after an encoder's first token or in front of the text.
Start:      e standard normal, the network as PyTorch starts its layers.
Cost:       tokens * width weights that are kept; the network's are trained and then dropped (with
            the default mlp 2 * width * hidden + hidden^2 and the biases).
Saved as:   the vectors alone: PEFT's `prompt_embeddings` where PEFT computes the same; else by
            its path. A training that goes on from them trains the vectors without the network.
Not here:   how a prompt enters a model (`nn/prompts.py`).
"""

from itertools import pairwise
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from lightune.methods.base import Attachment, Method, made_by
from lightune.methods.prompt_tuning import PromptSettings
from lightune.nn.prompts import (
    NAME,
    PEFT_NAME,
    Prompt,
    insert,
    peft_layout,
    reader,
)
from lightune.nn.surgery import Surgery


class EncodedPrompt(nn.Module):
    """`weight` `[n, width]` and the network that makes the prompt of it; float32 in every plan."""

    float32_parameters = ("weight",)

    def __init__(self, length: int, width: int, hidden: int, lstm_layers: int, dropout: float):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(length, width))
        self.lstm: nn.LSTM | None = None
        if lstm_layers:
            self.lstm = nn.LSTM(
                width, hidden, lstm_layers, dropout=dropout, bidirectional=True, batch_first=True
            )
            sizes = [2 * hidden, 2 * hidden, width]
        else:
            sizes = [width, hidden, hidden, width]
        linears = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        self.layers = nn.Sequential(linears[0])
        for linear in linears[1:]:
            self.layers.extend([nn.ReLU(), linear])
        for part in self.modules():
            if part is not self:
                own = tuple(name for name, _ in part.named_parameters(recurse=False))
                part.__dict__["float32_parameters"] = own

    def forward(self) -> Tensor:
        """Return the prompt, `[n, width]`."""
        inner = self.weight
        if self.lstm is not None:
            inner = self.lstm(inner[None])[0][0]
        return self.layers(inner)


class PTuning(PromptSettings, Method):
    """Trained vectors among the words, made by a network."""

    name: ClassVar[str] = "p_tuning"
    paper: ClassVar[str] = "Liu et al. 2021, arXiv:2103.10385, equation 5"
    summary: ClassVar[str] = "prompt vectors made by a small network, which is dropped afterwards"
    identity_at_init: ClassVar[bool] = False
    learning_rate: ClassVar[float] = 1e-3

    encoder: Literal["mlp", "lstm", "none"] = "mlp"
    """The network: three linear layers, a two-way LSTM and two linear layers (the paper's), or none
    (what a saved adapter is)."""
    hidden: int = Field(default=512, ge=1, le=65536)
    """Width inside the network. From 1 to 65536."""
    lstm_layers: int = Field(default=2, ge=1, le=8)
    """Layers of the LSTM. From 1 to 8."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of numbers set to zero between the LSTM's layers in training. From 0 to below 1."""

    def loaded(self) -> Self:
        """Return the method without its network, of which only the result is saved."""
        return self.model_copy(update={"encoder": "none"})

    def attach(self, model: nn.Module) -> Attachment:
        where = reader(model, self.name)
        words = where.words.get_parameter("weight")
        width = words.shape[1]
        prompt: nn.Module
        if self.encoder == "none":
            prompt = Prompt(torch.randn(self.tokens, width))
        else:
            layers = self.lstm_layers if self.encoder == "lstm" else 0
            prompt = EncodedPrompt(self.tokens, width, self.hidden, layers, self.dropout)
        prompt.to(words.device)
        surgery = Surgery(model)
        insert(model, surgery, where, prompt, self.tokens, self.positions, self.reads)
        path = f"{where.path}.{NAME}".lstrip(".")
        layout = peft_layout(where, self.positions, self.reads)
        name = PEFT_NAME if layout == "peft" else f"{path}.weight"
        return Attachment(
            surgery,
            {f"{path}.{inner}": parameter for inner, parameter in prompt.named_parameters()},
            layout,
            peft_config={
                "peft_type": "P_TUNING",
                "num_virtual_tokens": self.tokens,
                "token_dim": width,
                "num_transformer_submodules": 1,
                "encoder_reparameterization_type": "LSTM" if self.encoder == "lstm" else "MLP",
                "encoder_hidden_size": self.hidden,
                "encoder_num_layers": self.lstm_layers,
                "encoder_dropout": self.dropout,
            },
            peft_names={f"{path}.weight": PEFT_NAME},
            packed=None if self.encoder == "none" else {name: made_by(prompt, path)},
        )
