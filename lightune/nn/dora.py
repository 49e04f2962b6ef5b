"""A low-rank layer whose rows have a trained length of their own (DoRA), with its own backward.

    y = g * (x W^T + scale (x A^T) B^T) + b        g = magnitude / ||W + scale B A||, by row [out]

Why:        the norm is a constant in the backward pass (section 4.3 of the paper), yet it must be
            known in every forward pass. PEFT forms W + scale B A for it, [out, in], and takes the
            base's output apart again. Here the norm comes from three small products,

                ||w + s b A||^2 = ||w||^2 + 2 s b (A w) + s^2 b (A A^T) b^T

            and the gradient of the magnitude from the output itself. Against the same formula left
            to autograd that saves up to an eighth of the time in a layer that widens; on a square
            one in bfloat16 it cost 8 %.
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

from lightune.nn.dropout import factors as dropout_factors
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
        weight, bias = weight_out_in(self.base), self.base.bias
        flat = x.reshape(-1, x.shape[-1])
        mask = None
        if self.training and self.dropout:
            mask = dropout_factors(flat.shape, self.dropout, flat)
        gain = self.magnitude / self.norms()
        product = DoRAProduct.apply if self.own_backward else dora_product
        y = product(flat, weight, bias, self.A, self.B, gain, self.scale, mask)
        return y.view(*x.shape[:-1], y.shape[-1])

    @torch.no_grad()
    def delta(self) -> Tensor:
        """Return the change of W that merging adds, `[out, in]` in float32."""
        weight = weight_out_in(self.base).float()
        gain = (self.magnitude / self.norms()).unsqueeze(1)
        return (gain - 1) * weight + gain * self.scale * (self.B @ self.A)


def dora_product(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    A: Tensor,
    B: Tensor,
    gain: Tensor,
    scale: float,
    mask: Tensor | None,
) -> Tensor:
    """Return the layer's output under autograd; see `DoRAProduct`."""
    change = (gain - 1).to(x.dtype)
    y = nn.functional.linear(x, weight, bias)
    y = y + change * (y if bias is None else y - bias)
    h = (x if mask is None else x * mask) @ A.to(x.dtype).T
    return y + h @ (scale * gain.unsqueeze(1) * B).to(x.dtype).T


class DoRAProduct(torch.autograd.Function):
    """`gain * (x W^T + scale * dropout(x) A^T B^T) + b`, gradients to x, A, B and the gain.

    x `[tokens, in]`, result `[tokens, out]`, gain `[out]` in float32, `mask` None or the dropout
    factors of x. The result must not be changed in place: it is read in the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        A: Tensor,
        B: Tensor,
        gain: Tensor,
        scale: float,
        mask: Tensor | None,
    ) -> Tensor:
        change = gain - 1
        low_A = A.to(x.dtype)
        scaled_B = (scale * gain.unsqueeze(1) * B).to(x.dtype)
        y = nn.functional.linear(x, weight, bias)
        y.addcmul_(y, change.to(x.dtype))
        if bias is not None:
            y.sub_((change * bias).to(x.dtype))
        h = (x if mask is None else x * mask) @ low_A.T  # [tokens, rank]
        y.addmm_(h, scaled_B.T)
        ctx.save_for_backward(x, weight, bias, low_A, scaled_B, gain, h, y, mask)
        ctx.scale = scale
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, A, scaled_B, gain, h, y, mask = ctx.saved_tensors
        # d y / d gain is x W^T + scale h B^T, which is (y - b) / gain
        grad_gain = (grad * y).sum(0, dtype=torch.float32)
        if bias is not None:
            grad_gain -= grad.sum(0).float() * bias
        grad_gain /= gain
        grad_h = grad @ scaled_B  # [tokens, rank]
        grad_B = (grad.T @ h).float().mul_(ctx.scale * gain.unsqueeze(1))
        grad_A = (grad_h.T @ (x if mask is None else x * mask)).float()
        grad_x = None
        if ctx.needs_input_grad[0]:
            scaled = grad.addcmul(grad, (gain - 1).to(grad.dtype))
            grad_x = scaled @ weight
            if mask is None:
                grad_x.addmm_(grad_h, A)
            else:
                grad_x.addcmul_(grad_h @ A, mask)
        return grad_x, None, None, grad_A, grad_B, grad_gain, None, None
