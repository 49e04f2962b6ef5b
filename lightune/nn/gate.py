"""The gate of a gated feed-forward layer by the kernel in `csrc/gate.c`, in one pass.

    y = down(silu(gate(x)) * up(x))

Paper:      Shazeer 2020, "GLU Variants Improve Transformer" (arXiv:2002.05202), equation 6, SwiGLU.
Why:        PyTorch computes the activation and the product one after the other and keeps both; here
            the two inputs are kept, and the activation is computed again in the backward pass.
Invariants: only layers that compute this formula are replaced: each is tried. The three linear
            layers stay the model's own, under the same names, with what a method put around them.
Not here:   layers that are hooked, or whose activation is another: they stay as they are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import SiLUActivation

from lightune.nn import native

TRIAL_TOLERANCE = 1e-4
PARTS = {"gate_proj", "up_proj", "down_proj", "act_fn"}
"""Names of a gated layer's parts in Llama and the models made after it."""


class Gate(torch.autograd.Function):
    """`silu(g) * u`, of any shape, bfloat16, contiguous."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, u: Tensor, kernels: native.Kernels) -> Tensor:
        ctx.save_for_backward(g, u)
        ctx.kernels = kernels
        return kernels.gate(g, u)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        return *ctx.kernels.gate_backward(grad.contiguous(), *ctx.saved_tensors), None


class NativeGated(nn.Module):
    """Stands in for a model's gated feed-forward layer; takes its parts over."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = layer.gate_proj, layer.up_proj
        self.down_proj, self.act_fn = layer.down_proj, layer.act_fn

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down_proj(gated(self.gate_proj(x), self.up_proj(x)))
        return y


def gated(g: Tensor, u: Tensor) -> Tensor:
    """Return `silu(g) * u`, by the kernel where it fits."""
    kernels = native.kernels()
    low = g.dtype is u.dtype is torch.bfloat16 and g.device.type == "cpu" and g.numel() % 16 == 0
    if kernels is None or not low or not (g.is_contiguous() and u.is_contiguous()):
        return nn.functional.silu(g) * u
    return Gate.apply(g, u, kernels)


def swap_gated(model: nn.Module) -> None:
    """Put `NativeGated` where the model has a layer of this formula, in float32."""
    for path, module in list(model.named_modules()):
        if path and _is_gated(module):
            instead = NativeGated(module)
            instead.train(module.training)
            model.set_submodule(path, instead)


@torch.no_grad()
def _is_gated(module: nn.Module) -> bool:
    if set(module._modules) != PARTS or module._parameters or module._buffers:
        return False
    hooked = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
    if hooked or not isinstance(module.act_fn, (nn.SiLU, SiLUActivation)):
        return False
    weight = getattr(module.gate_proj, "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() != 2 or weight.dtype is not torch.float32:
        return False
    modes = [(part, part.training) for part in module.modules()]
    module.eval()  # methods drop out inside the parts
    try:
        trial = torch.linspace(-1, 1, 2 * weight.shape[1], device=weight.device).view(1, 2, -1)
        found, expected = module(trial), NativeGated(module)(trial)
    finally:
        for part, training in modes:
            part.training = training
    return bool((found - expected).abs().max() <= TRIAL_TOLERANCE * expected.abs().max())
