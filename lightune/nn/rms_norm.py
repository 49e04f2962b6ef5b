"""RMS normalisation by the kernel in `csrc/rms_norm.c`, which saves its input and one number a row.

    y = w x / sqrt(mean(x^2) + eps)

Paper:      Zhang and Sennrich 2019, "Root Mean Square Layer Normalization" (arXiv:1910.07467),
            equation 4, with the epsilon of Llama and T5.
Why:        written out in PyTorch, as models have it, it is eight operations on float32 copies,
            most of which are kept for the backward pass.
Invariants: only layers that compute this formula are replaced, whatever they are called: each is
            tried. The weight stays the layer's own parameter, of the same name.
Not here:   layers whose weight is trained, or that are hooked: they stay as they are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lightune.nn import native

TRIAL_TOLERANCE = 1e-4


class RMSNorm(torch.autograd.Function):
    """x `[..., width]`, bfloat16, contiguous; weight `[width]`, frozen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, kernels: native.Kernels) -> Tensor:
        y, scales = kernels.rms_norm(x, weight, eps)
        ctx.save_for_backward(x, weight, scales)
        ctx.kernels = kernels
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        x, weight, scales = ctx.saved_tensors
        return ctx.kernels.rms_norm_backward(grad.contiguous(), x, weight, scales), None, None, None


class NativeRMSNorm(nn.Module):
    """Stands in for the RMS normalisation of a model.

    Args:
        weight: `[width]`, frozen.
        eps: added to the mean square.
    """

    def __init__(self, weight: nn.Parameter, eps: float) -> None:
        super().__init__()
        self.weight = weight
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        kernels = native.kernels()
        low = x.dtype is self.weight.dtype is torch.bfloat16 and x.device.type == "cpu"
        if kernels is None or not low or x.shape[-1] % 16 or not x.is_contiguous():
            return formula(x, self.weight, self.eps)
        return RMSNorm.apply(x, self.weight, self.eps, kernels)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, eps={self.eps:g}"


def formula(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return the normalisation written out; the scaling is computed in float32."""
    wide = x.float()
    scaled = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return weight * scaled.to(x.dtype)


def swap_rms_norm(model: nn.Module) -> None:
    """Put `NativeRMSNorm` where the model has a frozen layer of this formula, in float32."""
    for path, module in list(model.named_modules()):
        if path and _is_rms_norm(module):
            instead = NativeRMSNorm(module.weight, module.variance_epsilon)
            instead.train(module.training)
            model.set_submodule(path, instead)


@torch.no_grad()
def _is_rms_norm(module: nn.Module) -> bool:
    eps, weight = getattr(module, "variance_epsilon", None), module._parameters.get("weight")
    if not isinstance(eps, float) or weight is None or len(module._parameters) > 1:
        return False
    hooked = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
    fits = weight.dim() == 1 and weight.dtype is torch.float32 and not weight.requires_grad
    if hooked or module._modules or not fits:
        return False
    # values of any size, the same in every process
    trial = torch.linspace(-3, 5, 2 * len(weight), device=weight.device).view(2, -1)
    found, expected = module(trial), formula(trial, weight, eps)
    return bool((found - expected).abs().max() <= TRIAL_TOLERANCE * expected.abs().max())
