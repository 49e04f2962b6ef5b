"""AdamW over float32 weights, whatever number format the model computes in.

Why:        a weight trained in bfloat16 does not move when the step is smaller than 1/256 of it.
            So every trained weight is float32; where the engine keeps a low-precision image of
            it in the model, gradients go from the image to the master, and after the step the
            image is written anew.
Equation:   Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2 (PyTorch's fused kernel).
Invariants: every trained weight is in exactly one group; weight decay leaves out every vector
            (biases, normalisation weights, scales) and whatever is called a bias, such as T5's
            relative position bias: the convention of Transformers' Trainer. Only vectors that
            are neither bias nor normalisation differ: Trainer would pull IA3's scales to zero.
fp16:       the loss is multiplied by a scale that follows the gradients; a step whose gradients
            overflow is skipped, as usual with fp16. Other formats need none.
Not here:   the learning rate over time (`schedule.py`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightune.errors import MethodError
from lightune.train.spec import OptimizerSpec

MIN_LOSS_SCALE = 2.0**-10
"""Gradients that overflow even below this scale are not a matter of number format."""


class Optimizer:
    """AdamW, gradient clipping, and the way between masters and images.

    Args:
        groups: `{"params", "lr"}` of each group, as `Method.param_groups` gives them; `lr` is the
            peak rate. A group may bring its own `weight_decay`.
        trainable: `{path: float32 master}` of every trained weight.
        masters: pairs of a master and its low-precision image in the model.
        scale_loss: multiply the loss, for fp16.

    Raises:
        MethodError: a weight is in no group, in two, or in a group but not trainable.
    """

    def __init__(
        self,
        groups: Sequence[Mapping[str, Any]],
        trainable: Mapping[str, nn.Parameter],
        spec: OptimizerSpec,
        masters: Sequence[tuple[nn.Parameter, nn.Parameter]] = (),
        scale_loss: bool = False,
    ) -> None:
        self.trainable = dict(trainable)
        self.masters = list(masters)
        self.max_grad_norm = spec.max_grad_norm
        self.weights = list(self.trainable.values())
        split = split_decay(groups, self.trainable, spec.weight_decay)
        self.peaks = [group["lr"] for group in split]
        self.adamw = torch.optim.AdamW(split, betas=spec.betas, eps=spec.epsilon, fused=True)
        device = self.weights[0].device.type
        self.scaler = torch.amp.GradScaler(device, enabled=scale_loss)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss` to those of the masters, in float32."""
        self.scaler.scale(loss).backward()
        for master, image in self.masters:
            if image.grad is None:
                continue
            if master.grad is None:
                master.grad = image.grad.to(torch.float32)
            else:
                master.grad.add_(image.grad)
            image.grad = None

    def clip(self) -> float:
        """Scale the gradients down to `max_grad_norm`; return their joint norm before that."""
        if self.scaler.is_enabled():
            self.scaler.unscale_(self.adamw)
        grads = [weight.grad for weight in self.weights if weight.grad is not None]
        norm = nn.utils.get_total_norm(grads)
        if self.max_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(self.weights, self.max_grad_norm, norm)
        return float(norm)

    def step(self, factor: float) -> None:
        """Move the masters at `factor` times their peak rates, write the images, drop gradients."""
        for group, peak in zip(self.adamw.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        self.scaler.step(self.adamw)
        self.scaler.update()
        self.adamw.zero_grad(set_to_none=True)
        self.refresh()

    def can_skip(self) -> bool:
        """Whether gradients that are not finite mean no more than too large a loss scale."""
        return self.scaler.is_enabled() and self.scaler.get_scale() > MIN_LOSS_SCALE

    @torch.no_grad()
    def refresh(self) -> None:
        """Write the images anew from their masters."""
        if self.masters:
            masters, images = zip(*self.masters, strict=True)
            torch._foreach_copy_(list(images), list(masters))

    def without_gradient(self) -> list[str]:
        """Return the trained weights that the last backward pass did not reach."""
        return [path for path, weight in self.trainable.items() if weight.grad is None]

    def copy_weights(self) -> dict[str, Tensor]:
        """Return `{path: float32 copy}` of every trained weight."""
        return {path: weight.detach().clone() for path, weight in self.trainable.items()}

    @torch.no_grad()
    def set_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Put copies made by `copy_weights` back, into masters and images."""
        for path, weight in self.trainable.items():
            weight.copy_(weights[path])
        self.refresh()

    def moments(self) -> dict[str, dict[str, Tensor]]:
        """Return AdamW's state by path: `step`, `exp_avg`, `exp_avg_sq`."""
        return {
            path: dict(self.adamw.state[weight])
            for path, weight in self.trainable.items()
            if weight in self.adamw.state
        }

    def copy_moments(self) -> dict[str, dict[str, Tensor]]:
        """Return copies of `moments()`."""
        return {
            path: {key: value.clone() for key, value in state.items()}
            for path, state in self.moments().items()
        }

    def set_moments(self, moments: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Put a state made by `copy_moments` back."""
        for path, state in moments.items():
            weight = self.trainable[path]
            self.adamw.state[weight] = {k: v.to(weight.device, copy=True) for k, v in state.items()}


def decays(path: str, weight: nn.Parameter) -> bool:
    """Whether weight decay applies: to matrices that are no bias."""
    return weight.ndim >= 2 and "bias" not in path


def split_decay(
    groups: Sequence[Mapping[str, Any]], trainable: Mapping[str, nn.Parameter], weight_decay: float
) -> list[dict[str, Any]]:
    """Split each group into weights that decay and weights that do not; empty ones are left out.

    Raises:
        MethodError: see `Optimizer`.
    """
    paths = {id(weight): path for path, weight in trainable.items()}
    grouped = [paths.get(id(weight), "") for group in groups for weight in group["params"]]
    missing = [path for path in trainable if path not in grouped]
    twice = sorted({path for path in grouped if grouped.count(path) > 1 or not path})
    low = [path for path, weight in trainable.items() if weight.dtype != torch.float32]
    if missing or twice or low or not trainable:
        raise MethodError(
            "the optimiser's groups do not hold each trained float32 weight exactly once",
            found=f"in no group: {missing[:5]}; in two, or not trainable: {twice[:5]}; "
            f"not float32: {low[:5]}; trainable: {len(trainable)}",
            mend="let `Method.param_groups` return every tensor of `Attachment.trainable` once",
        )
    split: list[dict[str, Any]] = []
    for group in groups:
        for decay in (True, False):
            members = [p for p in group["params"] if decays(paths[id(p)], p) is decay]
            rate = group.get("weight_decay", weight_decay) if decay else 0.0
            if members:
                split.append({"params": members, "lr": group["lr"], "weight_decay": rate})
    return split
