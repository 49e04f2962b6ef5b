"""A trained low-rank product beside a frozen linear layer, with its own backward pass.

    y = x W^T + b + scale * (x A^T) B^T        W [out, in] frozen, A [rank, in], B [out, rank]

Why:        left to autograd, the layer saves its input twice, keeps the product's two
            intermediates and adds three output-sized tensors. Here one function saves x and x A^T,
            adds the small product into the base's output in place, and forms all gradients in one
            pass. Frozen weights get no gradient, so none is computed.
Dtypes:     A and B are float32 masters; they are cast to the dtype of x for the products, and
            their gradients come back in float32.
Invariants: the frozen layer is not changed.
Not here:   where such layers go and how they start (`methods/`); products that start from something
            else than zero (`starts.py`), lengths of rows (`dora.py`).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from lightune.nn import native
from lightune.nn.dropout import factors as dropout_factors
from lightune.nn.native import Kernels
from lightune.nn.surgery import Wrapper, shape, weight_out_in


class LowRankProduct(torch.autograd.Function):
    """`x W^T + b + scale * dropout(x) A^T B^T`, gradients to x, A and B only.

    All matrices are two-dimensional: x `[tokens, in]`, result `[tokens, out]`. `mask` is None or
    the dropout factors of x, `[tokens, in]`. `kernels` do the small products where they fit.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        A: Tensor,
        B: Tensor,
        scale: float,
        mask: Tensor | None,
        kernels: Kernels | None = None,
    ) -> Tensor:
        ctx.kernels = kernels if mask is None and _fits(x, weight, bias) else None
        # the kernel adds the bias on its way, which a product of matrices does in a pass of its own
        y = nn.functional.linear(x, weight, None if ctx.kernels else bias)
        if ctx.kernels:
            h = ctx.kernels.lowrank_forward(x, A.contiguous(), B.contiguous(), bias, y, scale)
        else:
            A, B = A.to(x.dtype), B.to(x.dtype)
            h = (x if mask is None else x * mask) @ A.T  # [tokens, rank]
            y.addmm_(h, B.T, alpha=scale)
        ctx.save_for_backward(x, weight, A, B, h, mask)
        ctx.scale = scale
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, A, B, h, mask = ctx.saved_tensors
        if ctx.kernels:
            grad = grad.contiguous()
            grad_x = grad @ weight if ctx.needs_input_grad[0] else None
            grads = ctx.kernels.lowrank_backward(grad, x, A, B, h, grad_x, ctx.scale)
            return grad_x, None, None, *grads, None, None, None
        grad_h = grad @ B  # [tokens, rank], without the scale
        grad_B = (grad.T @ h).float().mul_(ctx.scale)
        grad_A = (grad_h.T @ (x if mask is None else x * mask)).float().mul_(ctx.scale)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ weight
            if mask is None:
                grad_x.addmm_(grad_h, A, alpha=ctx.scale)
            else:
                grad_x.addcmul_(grad_h @ A, mask, value=ctx.scale)
        return grad_x, None, None, grad_A, grad_B, None, None, None


def _fits(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether the kernels in C compute a product beside this one."""
    formats = {x.dtype, weight.dtype, x.dtype if bias is None else bias.dtype}
    low = formats == {torch.bfloat16} and x.device.type == "cpu"
    return low and all(size % 32 == 0 for size in weight.shape) and x.is_contiguous()


class LowRankLinear(Wrapper):
    """A frozen linear layer with a trained low-rank product beside it.

    Args:
        base: `nn.Linear` or `Conv1D`, frozen.
        rank: inner size of the product.
        scale: factor of the product (LoRA: alpha / rank).
        dropout: share of the product's inputs set to zero while training.

    A starts Kaiming-uniform, B at zero, so the layer starts as the one it wraps.
    """

    float32_parameters: tuple[str, ...] = ("A", "B")
    """Parameters that stay float32 when the model is cast: forward casts them itself."""
    own_backward = True
    """False leaves the gradients to autograd, to compare."""
    native = False
    """True computes by the kernels in C, where there are any and they fit."""

    def __init__(self, base: nn.Module, rank: int, scale: float, dropout: float = 0.0) -> None:
        super().__init__(base)
        width_in, width_out = shape(base)
        self.scale, self.dropout = scale, dropout
        device = self.weight.device
        self.A = nn.Parameter(torch.empty(rank, width_in, device=device))
        self.B = nn.Parameter(torch.zeros(width_out, rank, device=device))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))

    def product(self) -> tuple[Tensor, Tensor]:
        """Return the factors of the product that is added, `[rank, in]` and `[out, rank]`."""
        return self.A, self.B

    def forward(self, x: Tensor) -> Tensor:  # [..., in] -> [..., out]
        weight, bias = weight_out_in(self.base), self.base.bias
        flat = x.reshape(-1, x.shape[-1])
        mask = None
        if self.training and self.dropout:
            mask = dropout_factors(flat.shape, self.dropout, flat)
        A, B = self.product()
        if self.own_backward:
            kernels = native.kernels() if self.native else None
            y = LowRankProduct.apply(flat, weight, bias, A, B, self.scale, mask, kernels)
        else:
            h = (flat if mask is None else flat * mask) @ A.to(flat.dtype).T
            added = h @ B.to(flat.dtype).T
            y = nn.functional.linear(flat, weight, bias) + self.scale * added
        return y.view(*x.shape[:-1], y.shape[-1])

    def delta(self) -> Tensor:
        """Return the change of W that merging adds, `[out, in]` in float32."""
        A, B = self.product()
        return self.scale * (B.float() @ A.float())

    def extra_repr(self) -> str:
        return f"rank={self.A.shape[0]}, scale={self.scale:g}, dropout={self.dropout:g}"
