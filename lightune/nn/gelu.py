"""GELU by the kernel in `csrc/gelu.c`; PyTorch's where the kernel does not apply.

Paper:      Hendrycks and Gimpel 2016, "Gaussian Error Linear Units" (arXiv:1606.08415), section 2:
            x Phi(x), exact (not the tanh form).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import GELUActivation

from lightune.nn import native


class GELU(torch.autograd.Function):
    """x of any shape, bfloat16, contiguous."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernels: native.Kernels) -> Tensor:
        ctx.save_for_backward(x)
        ctx.kernels = kernels
        return kernels.gelu(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return ctx.kernels.gelu_backward(grad.contiguous(), x), None


class NativeGELU(nn.Module):
    """Stands in for the exact GELU of Transformers and PyTorch."""

    def forward(self, x: Tensor) -> Tensor:
        kernels = native.kernels()
        fits = x.dtype is torch.bfloat16 and x.device.type == "cpu" and x.numel() % 16 == 0
        if kernels is None or not fits or not x.is_contiguous():
            return nn.functional.gelu(x)
        return GELU.apply(x, kernels)


def swap_gelu(model: nn.Module) -> None:
    """Put `NativeGELU` where the model has an exact GELU as a module."""
    for path, module in list(model.named_modules()):
        exact = type(module) is nn.GELU and module.approximate == "none"
        if exact or type(module) is GELUActivation:
            model.set_submodule(path, NativeGELU())
