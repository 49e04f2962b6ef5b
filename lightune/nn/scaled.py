"""A frozen linear layer with a trained factor for each of its outputs, or of its inputs.

    y = l * (W x + b)        side `output`, l [out]
    y = W (l * x) + b        side `input`,  l [in]

Dtypes:     l is float32 and starts at 1, where bfloat16 has steps of 1/128: so l - 1 is cast, and
            added to the identity.
Invariants: the frozen layer is not changed; with every factor at 1 the result is the base's, bit
            for bit.
Not here:   which layers (`methods/ia3.py`).
"""

from typing import Literal

import torch
from torch import Tensor, nn

from lightune.nn.surgery import Wrapper, shape, weight_out_in

Side = Literal["input", "output"]


class ScaledLinear(Wrapper):
    """A frozen linear layer whose inputs or outputs are multiplied by trained factors.

    Args:
        base: `nn.Linear` or `Conv1D`, frozen.
        side: what is multiplied.
    """

    float32_parameters: tuple[str, ...] = ("factors",)
    """Parameters that stay float32 when the model is cast: forward casts them itself."""

    def __init__(self, base: nn.Module, side: Side) -> None:
        super().__init__(base)
        self.side = side
        width = shape(base)[0 if side == "input" else 1]
        self.factors = nn.Parameter(torch.ones(width, device=self.weight.device))

    def forward(self, x: Tensor) -> Tensor:  # [..., in] -> [..., out]
        if self.side == "input":
            return self.base(self._scaled(x))
        return self._scaled(self.base(x))

    def _scaled(self, values: Tensor) -> Tensor:
        return torch.addcmul(values, values, (self.factors - 1).to(values.dtype))

    def delta(self) -> Tensor:
        """Return the change of W that merging adds, `[out, in]` in float32."""
        change = self.factors - 1
        by_row = change.unsqueeze(1) if self.side == "output" else change
        return weight_out_in(self.base).float() * by_row

    def bias_delta(self) -> Tensor:
        """Return the change of b that merging adds to a layer whose outputs are scaled, `[out]`."""
        return self.base.bias.float() * (self.factors - 1)

    def extra_repr(self) -> str:
        return f"side={self.side}"
