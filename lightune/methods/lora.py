"""LoRA: train a low-rank product beside frozen linear layers.

Paper:      Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models"
            (arXiv:2106.09685), section 4.1, equation 3:

                h = W0 x + (alpha / rank) B A x      W0 [out, in] frozen
                                                     A [rank, in], B [out, rank] trained

            With `rank_stabilized` the factor is alpha / sqrt(rank): Kalajdzievski 2023
            (arXiv:2312.03732), theorem 3.2, so that the size of the update does not fall with the
            rank.
Start:      A Kaiming-uniform (as the authors' and PEFT's code; the paper says Gaussian), B zero:
            the model starts as the base.
Cost:       rank * (in + out) trained weights for each adapted layer. Nothing after merging.
Not here:   the layer and its backward pass (`nn/lowrank.py`); other starts and variants.
"""

from math import sqrt
from typing import Any, ClassVar

from pydantic import Field, field_validator
from torch import nn
from transformers.pytorch_utils import Conv1D

from lightune.methods.base import Attachment, Method
from lightune.nn.lowrank import LowRankLinear
from lightune.nn.surgery import ALL_LINEAR, Surgery, find_linears, shortest_ends


class LoRA(Method):
    """Low-rank products beside frozen linear layers."""

    name: ClassVar[str] = "lora"
    paper: ClassVar[str] = "Hu et al. 2021, arXiv:2106.09685, equation 3"
    summary: ClassVar[str] = "a trained low-rank product beside frozen linear layers"
    learning_rate: ClassVar[float] = 5e-4

    rank: int = Field(default=8, ge=1, le=4096)
    """Inner size of the product: more rank, more trained weights. From 1 to 4096."""
    alpha: float = Field(default=16.0, gt=0, allow_inf_nan=False)
    """Strength of the update, which is scaled by alpha / rank. Above 0."""
    targets: str | list[str] = ALL_LINEAR
    """Layers to adapt: last names (`query`), ends of paths, or `all-linear` (every linear layer
    inside the blocks)."""
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

    def attach(self, model: nn.Module) -> Attachment:
        layers = find_linears(model, self.targets)
        ends = shortest_ends(model, layers)
        surgery = Surgery(model)
        trainable: dict[str, nn.Parameter] = {}
        names: dict[str, str] = {}
        deltas = {}
        for path, layer in layers.items():
            wrapper = LowRankLinear(layer, self.rank, self.scale, self.dropout)
            surgery.replace(path, wrapper)
            for factor in ("A", "B"):
                trainable[f"{path}.{factor}"] = getattr(wrapper, factor)
                names[f"{path}.{factor}"] = f"{path}.lora_{factor}.weight"
            deltas[f"{path}.weight"] = _delta(wrapper)
        config: dict[str, Any] = {
            "peft_type": "LORA",
            "r": self.rank,
            "lora_alpha": int(self.alpha) if self.alpha.is_integer() else self.alpha,
            "lora_dropout": self.dropout,
            "target_modules": ends,
            "fan_in_fan_out": any(isinstance(layer, Conv1D) for layer in layers.values()),
            "use_rslora": self.rank_stabilized,
            "use_dora": False,
            "bias": "none",
            "init_lora_weights": True,
        }
        return Attachment(surgery, trainable, "peft", deltas, config, names)


def _delta(wrapper: LowRankLinear):
    """Return the function that gives the wrapper's change in its base weight's own shape."""
    if isinstance(wrapper.base, Conv1D):
        return lambda: wrapper.delta().T
    return wrapper.delta
