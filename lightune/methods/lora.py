"""LoRA: train a low-rank product beside frozen linear layers.

Paper:      Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models"
            (arXiv:2106.09685), section 4.1, equation 3:

                h = W0 x + (alpha / rank) B A x      W0 [out, in] frozen
                                                     A [rank, in], B [out, rank] trained

            With `rank_stabilized` the factor is alpha / sqrt(rank): Kalajdzievski 2023
            (arXiv:2312.03732), theorem 3.2, so that the size of the update does not fall with the
            rank.
Start:      `kaiming`: A Kaiming-uniform (as the authors' and PEFT's code; the paper says
            Gaussian), B zero: the model starts as the base. `gaussian`: A normal with deviation
            1 / rank, B zero, as PEFT's. `pissa` (Meng et al. 2024, arXiv:2404.02948) starts from
            the largest singular values of W0, `olora` (Büyükakyüz 2024, arXiv:2406.01775) from
            its QR decomposition; both train the part of W0 that their start stands for,

                h = W0 x + (alpha / rank) (B A - B_start A_start) x

            so these too start as the base.
Cost:       rank * (in + out) trained weights for each adapted layer. Nothing after merging. A
            `pissa` or `olora` adapter is saved as a LoRA of twice the rank, [B, -B_start] and
            [A; A_start], which PEFT and others load on the unchanged base; while training, its
            layers take as long as those of twice the rank.
Not here:   the layers and their backward pass (`nn/lowrank.py`, `nn/starts.py`).
"""

from collections.abc import Callable
from math import sqrt
from typing import Any, ClassVar

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from lightune.errors import MethodError
from lightune.methods.base import Attachment, Method, Packed
from lightune.nn.blocks import Layers, linears_in
from lightune.nn.lowrank import LowRankLinear
from lightune.nn.starts import Start, StartedLinear
from lightune.nn.surgery import ALL_LINEAR, Surgery, shape, shortest_ends
from lightune.settings import Settings

PEFT_NAMES = {
    "A": "lora_A.weight",
    "B": "lora_B.weight",
    "magnitude": "lora_magnitude_vector",
}
"""Names of a layer's trained tensors in PEFT's file."""


class LowRank(Settings):
    """The settings of every method that trains low-rank products beside linear layers."""

    rank: int = Field(default=8, ge=1, le=4096)
    """Inner size of the product: more rank, more trained weights. From 1 to 4096."""
    alpha: float = Field(default=16.0, gt=0, allow_inf_nan=False)
    """Strength of the update, which is scaled by alpha / rank. Above 0."""
    targets: str | list[str] = ALL_LINEAR
    """Layers to adapt: last names (`query`), ends of paths, or `all-linear` (every linear layer
    inside the blocks)."""
    layers: Layers = None
    """Blocks to adapt: the last ones (`last-2`), numbers from 0 (`[4, 5]`), or all (null). With the
    lower blocks left alone, later passes over the data skip them."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the product's inputs set to zero in training. From 0 to below 1."""
    rank_stabilized: bool = False
    """Scale the update by alpha / sqrt(rank) instead of alpha / rank."""

    @field_validator("targets")
    @classmethod
    def _some(cls, targets: str | list[str]) -> str | list[str]:
        names = [targets] if isinstance(targets, str) else targets
        if not names or not all(names):
            raise ValueError(f"no layer is named | targets: {ALL_LINEAR}")
        return targets

    @property
    def scale(self) -> float:
        """The factor of the product."""
        return self.alpha / (sqrt(self.rank) if self.rank_stabilized else self.rank)

    def peft_config(self) -> dict[str, Any]:
        """Return PEFT's names for these settings."""
        return {
            "peft_type": "LORA",
            "r": self.rank,
            "lora_alpha": _number(self.alpha),
            "lora_dropout": self.dropout,
            "use_rslora": self.rank_stabilized,
            "use_dora": False,
            "bias": "none",
            "init_lora_weights": True,
        }


class LoRA(LowRank, Method):
    """Low-rank products beside frozen linear layers."""

    name: ClassVar[str] = "lora"
    paper: ClassVar[str] = "Hu et al. 2021, arXiv:2106.09685, equation 3"
    summary: ClassVar[str] = "a trained low-rank product beside frozen linear layers"
    learning_rate: ClassVar[float] = 5e-4

    start: Start = "kaiming"
    """Where training starts: kaiming or gaussian (the product is zero), pissa (the largest
    singular values of each layer) or olora (its QR decomposition). The last two want a lower
    learning rate: on SST-2, pissa did better at 2e-4 than at 5e-4."""

    def attach(self, model: nn.Module) -> Attachment:
        def make(layer: nn.Module) -> LowRankLinear:
            if self.start in ("pissa", "olora"):
                return StartedLinear(layer, self.rank, self.scale, self.dropout, self.start)
            wrapper = LowRankLinear(layer, self.rank, self.scale, self.dropout)
            if self.start == "gaussian":
                nn.init.normal_(wrapper.A, std=1 / self.rank)
            return wrapper

        if self.start in ("pissa", "olora"):
            self._check_rank(linears_in(model, self.targets, self.layers))
        attachment = attach_low_rank(self, model, make)
        _pack_starts(attachment, self)
        return attachment

    def _check_rank(self, layers: dict[str, nn.Module]) -> None:
        small = [f"{p}: {shape(m)}" for p, m in layers.items() if min(shape(m)) < self.rank]
        if small:
            raise MethodError(
                f"method.start: {self.start!r} takes at most as many parts of a weight as it has, "
                f"and rank {self.rank} is more",
                found=f"(in, out) of {'; '.join(small[:5])}",
                mend="a smaller `rank`, other `targets`, or `start: kaiming`",
            )


def attach_low_rank(
    settings: LowRank, model: nn.Module, make: Callable[[nn.Module], LowRankLinear]
) -> Attachment:
    """Replace the layers that `settings` name by what `make` makes of them."""
    layers = linears_in(model, settings.targets, settings.layers)
    config = {
        **settings.peft_config(),
        "target_modules": shortest_ends(model, layers),
        "fan_in_fan_out": any(isinstance(layer, Conv1D) for layer in layers.values()),
    }
    surgery = Surgery(model)
    trainable: dict[str, nn.Parameter] = {}
    names: dict[str, str] = {}
    deltas = {}
    for path, layer in layers.items():
        wrapper = make(layer)
        surgery.replace(path, wrapper)
        for name, parameter in wrapper.named_parameters(recurse=False):
            trainable[f"{path}.{name}"] = parameter
            names[f"{path}.{name}"] = f"{path}.{PEFT_NAMES[name]}"
        deltas[f"{path}.weight"] = _delta(wrapper)
    return Attachment(surgery, trainable, "peft", deltas, config, names)


def _pack_starts(attachment: Attachment, settings: LowRank) -> None:
    """Save each layer that has a start product as one product of twice the rank."""
    for path in attachment.surgery.replaced:
        wrapper = attachment.surgery.model.get_submodule(path)
        if not isinstance(wrapper, StartedLinear):
            continue
        attachment.constants |= {f"{path}.A0": wrapper.A0, f"{path}.B0": wrapper.B0}
        attachment.packed |= {
            f"{path}.lora_A.weight": Packed((f"{path}.A", f"{path}.A0"), _stack_A, _split_A),
            f"{path}.lora_B.weight": Packed((f"{path}.B", f"{path}.B0"), _stack_B, _split_B),
        }
    if attachment.packed and attachment.peft_config is not None:
        twice = sqrt(2) if settings.rank_stabilized else 2
        attachment.peft_config["r"] = 2 * settings.rank
        attachment.peft_config["lora_alpha"] = _number(settings.alpha * twice)


def _stack_A(A: Tensor, A0: Tensor) -> Tensor:
    return torch.cat([A, A0])


def _split_A(both: Tensor) -> tuple[Tensor, Tensor]:
    A, A0 = both.chunk(2)
    return A, A0


def _stack_B(B: Tensor, B0: Tensor) -> Tensor:
    return torch.cat([B, -B0], dim=1)


def _split_B(both: Tensor) -> tuple[Tensor, Tensor]:
    B, minus_B0 = both.chunk(2, dim=1)
    return B, -minus_B0


def _number(value: float) -> float | int:
    return int(value) if value.is_integer() else value


def _delta(wrapper: LowRankLinear) -> Callable[[], Tensor]:
    """Return the function that gives the wrapper's change in its base weight's own shape."""
    if isinstance(wrapper.base, Conv1D):
        return lambda: wrapper.delta().T
    return wrapper.delta
