"""Full fine-tuning: train every weight of the base model.

Paper:      the ordinary way, e.g. Devlin et al. 2018 (arXiv:1810.04805), section 3.2. It is what
            the light methods are measured against.
Start:      float32 copies of all weights; the base's own tensors are never written, so that
            `detach()` gives the base back, at the price of a second copy in memory.
            Tables of positions that a formula gives (Marian's sines) stay: their layers compute
            without gradient.
Cost:       as many trained weights as the model has (tied ones counted once).
"""

from typing import ClassVar

from torch import nn

from lightune.methods.base import Attachment, Method, train_copies


class Full(Method):
    """Every weight of the model, as a trained copy."""

    name: ClassVar[str] = "full"
    paper: ClassVar[str] = "Devlin et al. 2018, arXiv:1810.04805, section 3.2"
    summary: ClassVar[str] = "every weight of the model; what the light methods are measured by"
    learning_rate: ClassVar[float] = 5e-5

    def attach(self, model: nn.Module) -> Attachment:
        weights = [
            path
            for path, p in model.named_parameters()
            if p.is_floating_point() and not _by_formula(model.get_submodule(_owner(path)))
        ]
        return train_copies(model, weights, "model")


def _owner(path: str) -> str:
    return path.rpartition(".")[0]


def _by_formula(module: nn.Module) -> bool:
    """Say whether a module's weight is a fixed table; Transformers tells by the class alone."""
    return isinstance(module, nn.Embedding) and "Sinusoidal" in type(module).__name__
