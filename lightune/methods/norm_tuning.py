"""Norm tuning: train the weights (and biases) of the normalisation layers.

Paper:      Zhao et al. 2023, "Tuning LayerNorm in Attention: Towards Efficient Multi-Modal LLM
            Finetuning" (arXiv:2312.11420), section 3, here for any model:

                y = w * (x - mean) / deviation + b      w and b trained (RMSNorm has w alone)

Start:      float32 copies of these vectors: the model starts as the base, whose own tensors are
            never written.
Places:     every normalisation layer that has weights, that of the embeddings and the one behind
            the last block included, as in PEFT's defaults; or those that `targets` name.
Rate:       1e-3; at 3e-3 the score on 2,000 records of SST-2 was no better.
Cost:       width (RMSNorm) or 2 * width (LayerNorm) trained weights for each of them. Nothing after
            merging.
"""

from typing import ClassVar

from torch import nn

from lightune.errors import MethodError, TargetError, nearest
from lightune.methods.base import Attachment, Method, train_copies
from lightune.nn.surgery import norm_paths, shortest_ends


class NormTuning(Method):
    """The vectors of every normalisation layer, as trained copies."""

    name: ClassVar[str] = "norm_tuning"
    paper: ClassVar[str] = "Zhao et al. 2023, arXiv:2312.11420, section 3"
    summary: ClassVar[str] = "the weights and biases of the normalisation layers"
    learning_rate: ClassVar[float] = 1e-3

    targets: list[str] | None = None
    """Last names of normalisation layers, or ends of their paths; null takes every one."""

    def attach(self, model: nn.Module) -> Attachment:
        norms = [
            path
            for path in self._chosen(model, norm_paths(model))
            if not any(p.requires_grad for p in model.get_submodule(path).parameters())
        ]
        if not norms:
            raise MethodError(
                f"method: `norm_tuning` trains normalisation layers, and {type(model).__name__} "
                "has none with weights",
                found=f"parts: {', '.join(name for name, _ in model.named_children())}",
                mend="`method: lora`, which trains beside linear layers",
            )
        weights = {
            f"{path}.{name}": f"{path}.ln_tuning_layers.{name}"
            for path in norms
            for name, _ in model.get_submodule(path).named_parameters()
        }
        attachment = train_copies(model, weights, "peft")
        attachment.peft_config = {
            "peft_type": "LN_TUNING",
            "target_modules": shortest_ends(model, norms),
        }
        attachment.peft_names = {path: weights[path] for path in attachment.trainable}
        return attachment

    def _chosen(self, model: nn.Module, every: list[str]) -> list[str]:
        """Return the paths of `every` that the targets name, in its order.

        Raises:
            TargetError: a target names none.
        """
        if self.targets is None:
            return every
        for target in self.targets:
            if not any(f".{path}".endswith(f".{target}") for path in every):
                names = sorted({path.rpartition(".")[2] for path in every})
                near = nearest(target, names)
                raise TargetError(
                    f"method.targets: no normalisation layer of {type(model).__name__} is named "
                    f"{target!r}",
                    found=f"names that exist: {', '.join(names) or 'none'}",
                    mend=f"targets: [{near}]" if near else "leave `targets` out to take all",
                )
        ends = tuple(f".{target}" for target in self.targets)
        return [path for path in every if f".{path}".endswith(ends)]
