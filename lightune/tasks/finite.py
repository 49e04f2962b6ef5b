"""Refuse an output that is not a number, naming the first record that has it.

Why: a diverged model gives NaN, of which argmax makes a label and a mean makes nothing at all.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightune.errors import ModelError
from lightune.types import Example


def refuse_not_finite(values: Tensor, examples: Sequence[Example]) -> None:
    """Check the outputs of some examples.

    Args:
        values: `[examples, …]`.

    Raises:
        ModelError: a value is infinite or no number.
    """
    finite = torch.isfinite(values).flatten(1).all(dim=1)
    if finite.all():
        return
    first = int((~finite).nonzero()[0, 0])
    raise ModelError(
        f"the model's output is not a number for {int((~finite).sum())} of {len(values)} records",
        found=f"first at record {examples[first].index} of the split",
        mend="train with a lower learning rate, or with train.precision=fp32",
    )
