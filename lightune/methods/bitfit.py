"""BitFit: train the biases, and nothing else inside the model.

Paper:      Ben Zaken, Ravfogel and Goldberg 2021, "BitFit: Simple Parameter-efficient Fine-tuning
            for Transformer-based Masked Language-models" (arXiv:2106.10199), section 3: all bias
            terms of the encoder, those of the normalisation layers included.
Start:      float32 copies of the biases: the model starts as the base, whose own tensors are never
            written.
Rate:       1e-3 trained well on 2,000 records of SST-2; no other was tried.
Cost:       as many trained weights as the model has biases, about 0.1 % of BERT. Nothing after
            merging. Models without biases (Llama, Gemma, T5 …) have nothing to train and are
            refused.
"""

from typing import ClassVar

from torch import nn

from lightune.errors import MethodError
from lightune.methods.base import Attachment, Method, train_copies


class BitFit(Method):
    """Every bias, as a trained copy."""

    name: ClassVar[str] = "bitfit"
    paper: ClassVar[str] = "Ben Zaken et al. 2021, arXiv:2106.10199, section 3"
    summary: ClassVar[str] = "every bias of the model, and nothing else inside it"
    learning_rate: ClassVar[float] = 1e-3

    def attach(self, model: nn.Module) -> Attachment:
        biases = [
            path
            for path, p in model.named_parameters()
            if path.rpartition(".")[2] == "bias" and not p.requires_grad
        ]
        if not biases:
            raise MethodError(
                f"method: `bitfit` trains biases, and {type(model).__name__} has none",
                found="no parameter named `bias` outside the new head",
                mend="`method: norm_tuning`, which is as small, or `method: lora`",
            )
        return train_copies(model, biases, "tensors")
