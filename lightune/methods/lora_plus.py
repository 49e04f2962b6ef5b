"""LoRA+: LoRA whose B learns faster than its A.

Paper:      Hayou, Ghosh and Yu 2024, "LoRA+: Efficient Low Rank Adaptation of Large Models"
            (arXiv:2402.12354), section 4.2:

                h = W0 x + (alpha / rank) B A x      B <- B - ratio * eta * grad B
                                                     A <- A - eta * grad A

            (with AdamW's steps in place of the gradients). B starts at zero and A does not, so at
            one rate B learns too slowly in wide models.
Start:      as LoRA: A Kaiming-uniform, B zero: the model starts as the base.
Rate:       `train.learning_rate` is A's. That of B, the one that decides whether training is
            stable, is `ratio` times as high; so A's is set lower than LoRA's: at 1e-3 for both,
            LoRA's training collapsed. On 2,000 records of SST-2, 1e-4 did better than 5e-5, and
            neither as well as LoRA while a new head learned at A's rate: so low a rate leaves a
            head that starts from random numbers unlearned.
Head:       what is trained whole beside the low-rank products (a new head) learns at LoRA's rate,
            in the proportion that `train.learning_rate` has to this method's default. The paper
            speaks of A and B alone.
Cost:       as LoRA: rank * (in + out) trained weights for each adapted layer, nothing after
            merging. Once trained it is a LoRA, and it is saved as one.
Departs:    PEFT's optimiser gives a new head's matrix A's rate, and every bias B's.
Not here:   the layers (`nn/lowrank.py`), their places and files (`lora.py`).
"""

from typing import Any, ClassVar

from pydantic import Field
from torch import nn

from lightune.methods.base import Attachment, Method
from lightune.methods.lora import LoRA, LowRank, attach_low_rank
from lightune.nn.lowrank import LowRankLinear


class LoRAPlus(LowRank, Method):
    """Low-rank products whose B has a learning rate of its own."""

    name: ClassVar[str] = "lora_plus"
    paper: ClassVar[str] = "Hayou et al. 2024, arXiv:2402.12354, section 4.2"
    summary: ClassVar[str] = "LoRA whose second factor learns faster than its first"
    learning_rate: ClassVar[float] = 1e-4

    ratio: float = Field(default=16.0, ge=1, allow_inf_nan=False)
    """Learning rate of B as a multiple of A's. The paper's advice is 16. At least 1."""

    def attach(self, model: nn.Module) -> Attachment:
        def make(layer: nn.Module) -> LowRankLinear:
            return LowRankLinear(layer, self.rank, self.scale, self.dropout)

        return attach_low_rank(self, model, make)

    def param_groups(self, attachment: Attachment, learning_rate: float) -> list[dict[str, Any]]:
        slow = [p for path, p in attachment.trainable.items() if not path.endswith(".B")]
        fast = [p for path, p in attachment.trainable.items() if path.endswith(".B")]
        return [
            {"params": slow, "lr": learning_rate},
            {"params": fast, "lr": learning_rate * self.ratio},
        ]

    def rate_beside(self, learning_rate: float) -> float:
        return learning_rate * LoRA.learning_rate / LoRAPlus.learning_rate
