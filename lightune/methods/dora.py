"""DoRA: LoRA for the directions of a weight's rows, and a trained length of each row.

Paper:      Liu et al. 2024, "DoRA: Weight-Decomposed Low-Rank Adaptation" (arXiv:2402.09353),
            equation 5, with the norm held constant in the backward pass as in section 4.3:

                h = m * (W0 + (alpha / rank) B A) / ||W0 + (alpha / rank) B A|| x + b

            The norm is taken over the inputs, one for each of the `out` rows; m [out], A and B
            are trained.
Start:      A Kaiming-uniform, B zero, m the norms of W0's rows: the model starts as the base.
Cost:       rank * (in + out) + out trained weights for each adapted layer, and some time in
            training. Nothing after merging.
Not here:   the layer and its backward pass (`nn/dora.py`); places and files (`lora.py`).
"""

from typing import Any, ClassVar

from torch import nn

from lightune.methods.base import Attachment, Method
from lightune.methods.lora import LowRank, attach_low_rank
from lightune.nn.dora import DoRALinear


class DoRA(LowRank, Method):
    """Low-rank products for the directions of a weight's rows, and a length of each."""

    name: ClassVar[str] = "dora"
    paper: ClassVar[str] = "Liu et al. 2024, arXiv:2402.09353, equation 5"
    summary: ClassVar[str] = "LoRA for the directions of a weight's rows, and a length of each row"
    learning_rate: ClassVar[float] = 5e-4

    def attach(self, model: nn.Module) -> Attachment:
        def make(layer: nn.Module) -> DoRALinear:
            return DoRALinear(layer, self.rank, self.scale, self.dropout)

        return attach_low_rank(self, model, make)

    def peft_config(self) -> dict[str, Any]:
        return super().peft_config() | {"use_dora": True}
