"""Layers to wrap, and what the tests of every wrapper with its own backward pass do alike."""

from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from lightune.nn import dropout

KINDS = ("linear", "no bias", "Conv1D")

ROUNDING = 0.01
"""Of bfloat16, relative to the largest element."""


def off(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference relative to the largest element."""
    found, expected = found.detach().double(), expected.detach()
    return float((found - expected).abs().max() / expected.abs().max())


def frozen(kind: str) -> Any:
    """A frozen layer from 16 to 24, with a bias that is not zero where it has one."""
    base = Conv1D(24, 16) if kind == "Conv1D" else nn.Linear(16, 24, bias=kind != "no bias")
    if base.bias is not None:
        nn.init.normal_(base.bias)
    return base.requires_grad_(False)


def weight_of(layer: Any) -> torch.Tensor:
    """The weight of a layer or of what it wraps, `[out, in]`."""
    return layer.weight.T if isinstance(getattr(layer, "base", layer), Conv1D) else layer.weight


def gradients(layer: nn.Module, x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
    """Of the input and of all that is trained."""
    trained = [p for p in layer.parameters() if p.requires_grad]
    return list(torch.autograd.grad(y.square().sum(), [x, *trained]))


def assert_starts_as_its_base(layer: Any, x: torch.Tensor) -> None:
    """Bit for bit, in float32 and in bfloat16, which the base is left in."""
    assert torch.equal(layer(x), layer.base(x))
    layer.base.to(torch.bfloat16)
    assert torch.equal(layer(x.bfloat16()), layer.base(x.bfloat16()))


def assert_own_backward_is_autograds(layer: Any, x: torch.Tensor, share: float) -> None:
    """Outputs and gradients, with the same dropout of a `share` of the inputs."""
    layer.dropout, results = share, []
    for own in (True, False):
        layer.own_backward = own
        dropout.reset(0)
        torch.manual_seed(1)
        y = layer(x)
        results.append([y, *gradients(layer, x, y)])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)
