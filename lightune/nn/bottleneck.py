"""A bottleneck adapter's tensor code: the small network, its own backward pass, and its places.

    f(x) = s * (W_up act(W_down x + b_down) + b_up)     W_down [inner, width], W_up [width, inner]

Places:     `BottleneckLinear`   y = h + f(h)          behind a linear layer, h its output
            `BottleneckNorm`     y = norm(z + f(norm(z)))   around the norm behind a sum z
            `ParallelLinear`     y = h + f(x)          beside an MLP, x what the MLP (or its
                                 residual) reads, which a `Tap` before it has kept
            `behind_block`       y = z + f(z)          on a block's output z, as a forward hook
Why:        one function saves x and the pre-activation (`inner` wide), adds the product to the
            residual in one pass, and forms all gradients together; autograd keeps the activation
            too and makes three more tensors as wide as the block.
Dtypes:     the adapter's weights are float32 masters, cast to the dtype of x for the products.
Invariants: what is wrapped is not changed; wrappers show its `weight` and `bias` (T5 reads
            `wo.weight`); with W_up and b_up at zero every place returns exactly what the base does.
Not here:   where adapters go in a model (`methods/bottleneck.py`).
"""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightune.nn.surgery import Wrapper

Activation = Literal["relu", "gelu", "silu", "tanh"]
"""`silu` is also known as swish; `gelu` is the exact one."""

Start = Literal["identity", "bert"]
"""`identity`: W_down Kaiming-uniform, W_up zero, so that training starts at the base exactly.
`bert`: both Gaussian with deviation 0.02, biases zero, as in BERT and AdapterHub: near it."""

Scale = float | Literal["learned", "channel"]
"""A fixed factor, one that is learned, or one learned for each channel; learned ones start at 1."""

_FORWARD = {
    "relu": torch.relu,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
    "tanh": torch.tanh,
}


def _derivative(activation: str, z: Tensor, grad: Tensor) -> Tensor:
    """Return grad * act'(z), both `[tokens, inner]`."""
    if activation == "relu":
        return torch.ops.aten.threshold_backward(grad, z, 0)
    if activation == "gelu":
        return torch.ops.aten.gelu_backward(grad, z)
    if activation == "silu":
        return torch.ops.aten.silu_backward(grad, z)
    return torch.ops.aten.tanh_backward(grad, torch.tanh(z))


class BottleneckSum(torch.autograd.Function):
    """`residual + act(x W_down^T + b_down) W_up^T + b_up`; matrices are `[tokens, width]`.

    `residual` None means x itself. The factor s is inside `up` and `up_bias` already.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        residual: Tensor | None,
        down: Tensor,
        down_bias: Tensor,
        up: Tensor,
        up_bias: Tensor,
        activation: str,
    ) -> Tensor:
        low_down, low_up = down.to(x.dtype), up.to(x.dtype)
        z = torch.addmm(down_bias.to(x.dtype), x, low_down.T)  # [tokens, inner]
        a = _FORWARD[activation](z)
        y = torch.addmm(x if residual is None else residual, a, low_up.T)
        y += up_bias.to(x.dtype)
        ctx.save_for_backward(x, z, low_down, low_up)
        ctx.activation, ctx.onto_x = activation, residual is None
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, z, down, up = ctx.saved_tensors
        a = _FORWARD[ctx.activation](z)
        grad_up, grad_up_bias = (grad.T @ a).float(), grad.sum(0, dtype=torch.float32)
        grad_z = _derivative(ctx.activation, z, grad @ up)
        grad_down, grad_down_bias = (grad_z.T @ x).float(), grad_z.sum(0, dtype=torch.float32)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.addmm(grad, grad_z, down) if ctx.onto_x else grad_z @ down
        grad_residual = None if ctx.onto_x else grad
        return grad_x, grad_residual, grad_down, grad_down_bias, grad_up, grad_up_bias, None


class Bottleneck(nn.Module):
    """The small network f, and `residual + f(x)`.

    Args:
        width: of what it reads and writes.
        inner: of the bottleneck.
        device: where its weights are made.
        dropout: share of f's outputs set to zero while training.
    """

    float32_parameters = ("down", "down_bias", "up", "up_bias", "scale")
    """Parameters that stay float32 when the model is cast: forward casts them itself."""
    own_backward = True
    """False leaves the gradients to autograd, to compare."""

    def __init__(
        self,
        width: int,
        inner: int,
        activation: Activation = "relu",
        scale: Scale = 1.0,
        start: Start = "identity",
        dropout: float = 0.0,
        device: torch.device | None = None,
    ) -> None:
        super().__init__()
        self.activation, self.dropout = activation, dropout
        self.factor = 1.0 if isinstance(scale, str) else float(scale)
        self.down = nn.Parameter(torch.empty(inner, width, device=device))
        self.down_bias = nn.Parameter(torch.zeros(inner, device=device))
        self.up = nn.Parameter(torch.zeros(width, inner, device=device))
        self.up_bias = nn.Parameter(torch.zeros(width, device=device))
        self.scale: nn.Parameter | None = None
        if isinstance(scale, str):
            shape = (1,) if scale == "learned" else (width,)
            self.scale = nn.Parameter(torch.ones(shape, device=device))
        if start == "bert":
            nn.init.normal_(self.down, std=0.02)
            nn.init.normal_(self.up, std=0.02)
        else:
            nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def _up(self) -> tuple[Tensor, Tensor]:
        """Return W_up and b_up times the factor; they are small, so autograd may have them."""
        if self.scale is not None:
            return self.up * self.scale[:, None], self.up_bias * self.scale
        if self.factor != 1.0:
            return self.up * self.factor, self.up_bias * self.factor
        return self.up, self.up_bias

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Return `residual + f(x)`, `[..., width]`; residual is x itself where none is given."""
        flat = x.reshape(-1, x.shape[-1])
        rest = None if residual is None else residual.reshape(flat.shape)
        up, up_bias = self._up()
        drops = self.training and self.dropout > 0
        if self.own_backward and not drops:
            y = BottleneckSum.apply(
                flat, rest, self.down, self.down_bias, up, up_bias, self.activation
            )
        else:
            low = x.dtype
            z = nn.functional.linear(flat, self.down.to(low), self.down_bias.to(low))
            f = nn.functional.linear(_FORWARD[self.activation](z), up.to(low), up_bias.to(low))
            y = (flat if rest is None else rest) + nn.functional.dropout(f, self.dropout, drops)
        return y.view(x.shape)

    def extra_repr(self) -> str:
        inner, width = self.down.shape
        scale = "learned" if self.scale is not None else f"{self.factor:g}"
        return f"width={width}, inner={inner}, activation={self.activation}, scale={scale}"


class BottleneckLinear(Wrapper):
    """y = h + f(h), h the output of the linear layer `base`."""

    def __init__(self, base: nn.Module, bottleneck: Bottleneck) -> None:
        super().__init__(base)
        self.bottleneck = bottleneck

    def forward(self, x: Tensor) -> Tensor:
        return self.bottleneck(self.base(x))


class BottleneckNorm(Wrapper):
    """y = norm(z + f(norm(z))), z the sum that the norm `base` reads."""

    def __init__(self, base: nn.Module, bottleneck: Bottleneck) -> None:
        super().__init__(base)
        self.bottleneck = bottleneck

    def forward(self, z: Tensor) -> Tensor:
        return self.base(self.bottleneck(self.base(z), z))


class Slot:
    """One tensor on its way from a `Tap` to its `ParallelLinear`, within one forward pass."""

    __slots__ = ("tensor",)

    def __init__(self) -> None:
        self.tensor: Tensor | None = None


class Tap(Wrapper):
    """The layer `base`, whose input is kept for the adapter beside it."""

    def __init__(self, base: nn.Module, slot: Slot) -> None:
        super().__init__(base)
        self.slot = slot

    def forward(self, x: Tensor) -> Tensor:
        self.slot.tensor = x
        return self.base(x)


class ParallelLinear(Wrapper):
    """y = h + f(x), h the output of the MLP's last layer `base`, x what a `Tap` kept."""

    def __init__(self, base: nn.Module, bottleneck: Bottleneck, slot: Slot) -> None:
        super().__init__(base)
        self.bottleneck, self.slot = bottleneck, slot

    def forward(self, h: Tensor) -> Tensor:
        x, self.slot.tensor = self.slot.tensor, None
        return self.bottleneck(x, self.base(h))


def behind_block(bottleneck: Bottleneck) -> Any:
    """Return a forward hook that puts z + f(z) in place of a block's output z."""

    def hook(block: nn.Module, args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (bottleneck(output[0]), *output[1:])
        return bottleneck(output)

    return hook
