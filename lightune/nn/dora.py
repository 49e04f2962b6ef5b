"""A low-rank layer whose rows have a trained length of their own (DoRA), with its own backward.

    y = z + (g - 1) (z - b)     z = x W^T + b + scale (x A^T) B^T     the low-rank layer's output
                                g = magnitude / ||W + scale B A||     by row, [out]

    which is equation 5 of the paper, g (z - b) + b.

Why:        the norm is a constant in the backward pass (section 4.3 of the paper), yet it must be
            known in every forward pass. PEFT forms W + scale B A for it, [out, in], and takes the
            base's output apart again. Here the norm comes from three small products,

                ||w + s b A||^2 = ||w||^2 + 2 s b (A w) + s^2 b (A A^T) b^T

            and the rest is the low-rank layer, whose kernels and backward pass it shares, and a
            factor for each row, whose gradient comes from the output itself.
Dtypes:     magnitude, A, B and the norms are float32. The gain is close to 1, where bfloat16 has
            steps of 1/128: so g - 1 is cast, and added to the identity.
Invariants: before training g is 1 and B zero, so the layer starts as the one it wraps, bit for bit,
            in every format: ||w||^2 is kept from the weights as they came.
Departs:    dropout acts on the input of the low-rank product alone. The authors' code also drops
            inputs of W in the part of W x that g - 1 adds, at the cost of a second product with W.
Not here:   which layers, and the files (`methods/dora.py`).
"""

from typing import Any

import torch
from torch import Tensor, nn

from lightune.nn.lowrank import LowRankLinear
from lightune.nn.surgery import weight_out_in

SMALLEST = 1e-24
"""Squared length below which a row counts as this long: a row of zeros has no direction."""


class DoRALinear(LowRankLinear):
    """A frozen linear layer with a trained low-rank change of its rows' directions, and a trained
    length of each row.

    Args:
        base, rank, scale, dropout: see `LowRankLinear`.
    """

    float32_parameters = ("A", "B", "magnitude")
    row_squares: Tensor

    def __init__(self, base: nn.Module, rank: int, scale: float, dropout: float = 0.0) -> None:
        super().__init__(base, rank, scale, dropout)
        squares = weight_out_in(base).detach().float().square().sum(1).clamp_min_(SMALLEST)
        self.register_buffer("row_squares", squares, persistent=False)
        self.magnitude = nn.Parameter(squares.sqrt())

    @torch.no_grad()
    def norms(self) -> Tensor:
        """Return the length of every row of W + scale B A, `[out]` in float32."""
        weight = weight_out_in(self.base)
        low = self.A.to(weight.dtype)
        cross = (weight @ low.T).float()  # [out, rank]
        inner = self.B @ (self.A @ self.A.T)
        change = (self.B * (2 * self.scale * cross + self.scale**2 * inner)).sum(1)
        return (self.row_squares + change).clamp_min_(SMALLEST).sqrt_()

    def forward(self, x: Tensor) -> Tensor:  # [..., in] -> [..., out]
        z, gain = super().forward(x), self.magnitude / self.norms()
        if self.own_backward:
            return RowGain.apply(z, self.bias, gain)
        return z + (gain - 1).to(z.dtype) * (z if self.bias is None else z - self.bias)

    @torch.no_grad()
    def delta(self) -> Tensor:
        """Return the change of W that merging adds, `[out, in]` in float32."""
        weight = weight_out_in(self.base).float()
        gain = (self.magnitude / self.norms()).unsqueeze(1)
        return (gain - 1) * weight + gain * self.scale * (self.B @ self.A)


class RowGain(torch.autograd.Function):
    """`z + (gain - 1) * (z - b)`, gradients to z and the gain.

    z and the result `[..., out]`, gain `[out]` in float32. What is kept for the backward pass is
    the result, which the next layer keeps as well; so it must not be changed in place.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, bias: Tensor | None, gain: Tensor) -> Tensor:
        change = gain - 1
        y = torch.addcmul(z, z, change.to(z.dtype))
        if bias is not None:
            y.sub_((change * bias).to(z.dtype))
        ctx.save_for_backward(y, bias, gain)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        y, bias, gain = ctx.saved_tensors
        # d y / d gain is z - b, which is (y - b) / gain
        grad_gain = (grad * y).flatten(0, -2).sum(0, dtype=torch.float32)
        if bias is not None:
            grad_gain -= grad.flatten(0, -2).sum(0, dtype=torch.float32) * bias
        return grad.addcmul(grad, (gain - 1).to(grad.dtype)), None, grad_gain / gain
