"""Last layers: train the blocks nearest to the output whole, and freeze the rest.

Paper:      Lee et al. 2019, "What Would Elsa Do? Freezing Layers During Transformer Fine-Tuning"
            (arXiv:1911.03090), section 3: a quarter of the blocks reaches 90 % of the quality.
            Also called partial fine-tuning or layer freezing.
Departs:    the pooler, and the norm behind the blocks, is trained with them: what lies between
            the trained blocks and the head would otherwise hold both back.
Start:      float32 copies of these weights; the base's own tensors are never written.
Cost:       all weights of these blocks. The frozen blocks below need no backward pass, and from
            the second pass over the data on no forward pass either (`engine/prefix_cache.py`).
"""

from typing import ClassVar

from pydantic import Field
from torch import nn

from lightune.methods.base import Attachment, Method, train_copies
from lightune.nn.blocks import chosen_blocks, stacks


class LastLayers(Method):
    """The last blocks and what follows them, as trained copies."""

    name: ClassVar[str] = "last_layers"
    paper: ClassVar[str] = "Lee et al. 2019, arXiv:1911.03090, section 3"
    summary: ClassVar[str] = "the blocks nearest to the output, trained whole"
    learning_rate: ClassVar[float] = 1e-4

    layers: int | None = Field(default=None, ge=1)
    """How many of the last blocks to train; null takes a quarter of them, rounded up."""

    def attach(self, model: nn.Module) -> Attachment:
        quarter = -(-max(map(len, stacks(model)), default=1) // 4)
        blocks = chosen_blocks(model, f"last-{self.layers or quarter}")
        inside = tuple(f"{path}." for path in [*blocks, *_behind(model, blocks[-1])])
        weights = [
            path
            for path, p in model.named_parameters()
            if p.is_floating_point() and path.startswith(inside)
        ]
        return train_copies(model, weights, "tensors")


def _behind(model: nn.Module, block: str) -> list[str]:
    """Return the parts of the base model that stand behind the part which holds `block`."""
    prefix = getattr(model, "base_model_prefix", "") or ""
    base = prefix if prefix and hasattr(model, prefix) else ""
    holder = block.removeprefix(f"{base}.").partition(".")[0]
    names = [name for name, _ in model.get_submodule(base).named_children()]
    return [f"{base}.{name}".lstrip(".") for name in names[names.index(holder) + 1 :]]
