"""Put a plan into effect on a model: formats, attention, dropout.

Frozen weights are held once, in the plan's format. Trained weights stay float32: modules that cast
for themselves name them in `float32_parameters`; for existing weights that are trained (by
`full`, say) the module gets a low-precision *image*, and the float32 *master* goes to the
optimiser, which refreshes the image after each step. New heads compute in float32 throughout:
they are small, and scores read from rounded logits would tie.

Not here: the optimiser (`train/optimizer.py`), measuring (`plan.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import logging

from lightune.engine.plan import Plan, threads_of
from lightune.errors import ModelError
from lightune.models.store import home
from lightune.nn import attention, native
from lightune.nn.dropout import swap_dropout
from lightune.nn.gate import swap_gated
from lightune.nn.gelu import swap_gelu
from lightune.nn.rms_norm import swap_rms_norm


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
        model: a Transformers model; changed in place, for good: attachments cannot be detached
            from it afterwards.
        plan: see `Plan`.
        float32_modules: paths of modules that compute in float32 whatever the plan says (heads
            and new poolers).

    Returns:
        The model, and the plan as it took effect: a part that the model does not take is left
        out of it, with a note.
    """
    prepared = Prepared(model, plan)
    with threads_of(plan):
        _choose_native(prepared)
        _choose_attention(prepared)
        _choose_dropout(model, plan)
        for module in model.modules():
            if hasattr(module, "own_backward"):
                module.own_backward = plan.lowrank  # type: ignore[assignment]
            if hasattr(module, "native"):
                module.native = prepared.plan.native  # type: ignore[assignment]
        if plan.torch_dtype is not torch.float32:
            whole = [model.get_submodule(path) for path in float32_modules]
            _lower(prepared, {id(m) for module in whole for m in module.modules()})
            for module in whole:
                module.register_forward_pre_hook(_to_float32, with_kwargs=True)
    model.to(plan.device)
    # the masters have left the model: only their images are in it
    nn.ParameterList([master for master, _ in prepared.pairs]).to(plan.device)
    return prepared


PROBE_TOLERANCE = 1e-3
"""Largest difference, relative to the largest logit, that another attention may make in float32."""


def _choose_native(prepared: Prepared) -> None:
    """Load the kernels in C where the plan has them; a run from elsewhere may ask in vain."""
    plan = prepared.plan
    if not plan.native and plan.attention != attention.NATIVE:
        return
    if native.load(home()) is None:
        instead = attention.NAME if plan.attention == attention.NATIVE else plan.attention
        prepared.plan = plan.model_copy(update={"native": False, "attention": instead})
        prepared.notes.append(
            f"the run's kernels in C cannot be had here ({native.missing()}): scores may differ "
            "in the last digits"
        )
    elif plan.native:
        for swap in (swap_gelu, swap_gated, swap_rms_norm):
            swap(prepared.model)


def _choose_attention(prepared: Prepared) -> None:
    """Give the model the plan's attention, if it takes it and computes the same with it."""
    model, wanted = prepared.model, prepared.plan.attention
    if wanted == "off" or not isinstance(model, PreTrainedModel):
        return
    own = attention.in_use(model)
    before = _probe(model)
    with quiet_warnings():
        try:
            taken = attention.use(model, wanted)
            after = _probe(model) if taken else None
        except (ValueError, ModelError):
            taken = False
    if taken and before is not None and after is not None:
        taken = bool((after - before).abs().max() <= PROBE_TOLERANCE * before.abs().max())
    if not taken:
        with quiet_warnings():
            attention.use(model, own)
        prepared.plan = prepared.plan.model_copy(update={"attention": "off"})
        prepared.notes.append(
            f"{type(model).__name__} does not take the attention {wanted!r}; it keeps its own"
        )


@contextmanager
def quiet_warnings() -> Iterator[None]:
    """Keep Transformers from warning of what is said in a note of ours."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


@torch.no_grad()
def _probe(model: PreTrainedModel) -> Tensor | None:
    """Return the model's logits for two short inputs, one of them padded; None where it does not
    read token ids."""
    if model.main_input_name != "input_ids":
        return None
    words = model.get_input_embeddings().num_embeddings
    ids = torch.arange(2, 18).view(2, 8) % words
    pad, end = model.config.pad_token_id, getattr(model.config, "eos_token_id", None)
    mask = torch.ones_like(ids)
    if isinstance(end, int):
        ids[0, 7] = ids[1, 5] = end  # BART and T5 classify by the last end token
    ids[1, 6:], mask[1, 6:] = pad if isinstance(pad, int) else 0, 0
    writes = model.config.is_encoder_decoder and model.get_output_embeddings() is not None
    written = {"decoder_input_ids": ids} if writes else {}
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        return model(input_ids=ids, attention_mask=mask, **written)[0].float()
    finally:
        for module, training in modes:
            module.training = training


def _choose_dropout(model: nn.Module, plan: Plan) -> None:
    if plan.dropout == "pooled":
        swap_dropout(model)
    elif plan.dropout == "off":
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            for name, value in list(vars(module).items()):
                if name.endswith("dropout") and isinstance(value, float):
                    setattr(module, name, 0.0)  # BART and others keep the rate as a number


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
