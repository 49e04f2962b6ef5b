"""Put a plan into effect on a model: formats, attention, dropout.

Frozen weights are held once, in the plan's format. Trained weights stay float32: modules that cast
for themselves name them in `float32_parameters`; for existing weights that are trained (by
`full`, say) the module gets a low-precision *image*, and the float32 *master* goes to the
optimiser, which refreshes the image after each step. New heads compute in float32 throughout:
they are small, and scores read from rounded logits would tie.

Not here: the optimiser (`train/optimizer.py`), measuring (`plan.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lightune.engine.plan import Plan
from lightune.nn import attention
from lightune.nn.dropout import swap_dropout
from lightune.nn.lowrank import LowRankLinear


@dataclass(slots=True)
class Prepared:
    """A model under a plan.

    Attributes:
        model: the same object, moved and cast in place.
        plan: what was put into effect.
        pairs: (float32 master, low-precision image in the model) of trained existing weights,
            both on the plan's device; empty in float32.
        notes: what the model does not take, in words.
    """

    model: nn.Module
    plan: Plan
    pairs: list[tuple[nn.Parameter, nn.Parameter]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy every master into its image."""
        if self.pairs:
            masters, images = zip(*self.pairs, strict=True)
            torch._foreach_copy_(list(images), list(masters))


def prepare(model: nn.Module, plan: Plan, float32_modules: Iterable[str] = ()) -> Prepared:
    """Apply `plan` to a model whose method is attached.

    Args:
        model: a Transformers model; changed in place.
        plan: see `Plan`.
        float32_modules: paths of modules that compute in float32 whatever the plan says (new
            heads and poolers).
    """
    torch.set_num_threads(plan.threads)
    prepared = Prepared(model, plan)
    _choose_attention(prepared)
    if plan.dropout == "pooled":
        swap_dropout(model)
    elif plan.dropout == "off":
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    for module in model.modules():
        if isinstance(module, LowRankLinear):
            module.own_backward = plan.lowrank
    whole = [model.get_submodule(path) for path in float32_modules]
    if plan.torch_dtype is not torch.float32:
        _lower(prepared, {id(m) for module in whole for m in module.modules()})
        for module in whole:
            module.register_forward_pre_hook(_to_float32, with_kwargs=True)
    model.to(plan.device)
    # the masters have left the model: only their images are in it
    nn.ParameterList([master for master, _ in prepared.pairs]).to(plan.device)
    return prepared


def _choose_attention(prepared: Prepared) -> None:
    wanted = prepared.plan.attention
    if wanted == "off" or not isinstance(prepared.model, PreTrainedModel):
        return
    attention.register()
    try:
        prepared.model.set_attn_implementation(wanted)
    except ValueError:
        prepared.notes.append(
            f"{type(prepared.model).__name__} does not take another attention; it keeps its own"
        )


def _lower(prepared: Prepared, keep: set[int]) -> None:
    """Cast parameters to the plan's format, except those of modules in `keep`."""
    dtype = prepared.plan.torch_dtype
    done: dict[int, nn.Parameter] = {}
    for module in prepared.model.modules():
        if id(module) in keep:
            continue
        own = getattr(module, "float32_parameters", ())
        for name, parameter in module._parameters.items():
            if parameter is None or name in own or not parameter.is_floating_point():
                continue
            if id(parameter) not in done:
                low = nn.Parameter(parameter.detach().to(dtype), parameter.requires_grad)
                done[id(parameter)] = low
                if parameter.requires_grad:
                    prepared.pairs.append((parameter, low))
            module._parameters[name] = done[id(parameter)]


def _to_float32(module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
    def cast(value: Any) -> Any:
        return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value

    return tuple(cast(a) for a in args), {name: cast(v) for name, v in kwargs.items()}
