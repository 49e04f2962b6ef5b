"""Head only: train the task's output layer on the features of the frozen base.

Paper:      the feature-based approach of Devlin et al. 2018 (arXiv:1810.04805), section 5.3; also
            called linear probing.
Start:      nothing is added: the output layer, and whatever else the checkpoint did not have, is
            trained beside every method (`methods/beside.py`), and here it is all there is.
Cost:       classes * (hidden + 1) trained weights for a linear head with a bias, and the pooler's
            where the checkpoint had none.
"""

from typing import ClassVar

from torch import nn

from lightune.errors import MethodError
from lightune.methods.base import Attachment, Method
from lightune.nn.surgery import Surgery, head_path


class Head(Method):
    """The output layer alone, on a frozen base."""

    name: ClassVar[str] = "head"
    paper: ClassVar[str] = "Devlin et al. 2018, arXiv:1810.04805, section 5.3"
    summary: ClassVar[str] = "only the new output layer, on a frozen base"
    learning_rate: ClassVar[float] = 5e-3

    def attach(self, model: nn.Module) -> Attachment:
        if head_path(model) is None:
            raise MethodError(
                f"method: `head` needs an output layer for the task, and {type(model).__name__} "
                "has none",
                found=f"parts: {', '.join(name for name, _ in model.named_children())}",
                mend="`method: lora`, which trains layers inside the model",
            )
        return Attachment(Surgery(model), {}, "tensors")
