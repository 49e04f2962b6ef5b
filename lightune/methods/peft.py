"""Any method of Hugging Face PEFT that changes layers, under the protocol of this package.

    method: {name: peft, type: VERA, r: 64}
    method: {name: peft, type: ADALORA, init_r: 12, target_r: 4, total_step: 1000}

Paper:      that of the type; PEFT's documentation names it. The default, VeRA: Kopiczko et al.
            2023, "VeRA: Vector-based Random Matrix Adaptation" (arXiv:2310.11454), equation 2.
Settings:   besides `type` and `targets`, every field of PEFT's own configuration for the type, by
            PEFT's name for it; one that the type does not have is refused.
How:        PEFT's tuner puts its layers into the model in place. What it replaced, and what it
            left on the model and its modules, is remembered and taken back by `detach()`; a type
            that writes to the base's own weights is refused, and the weights are put back.
Merging:    the change of a weight is what PEFT's own `merge` makes of it.
Departs:    AdaLoRA's orthogonality term is part of PEFT's forward pass around the model, which
            does not run here; its budget is allocated after every step, as PEFT says.
Errors:     `MissingExtra` without the package; `MethodError` for types that wrap the whole model
            (prompts, which are methods of their own here), and whatever PEFT refuses.
"""

import copy
import warnings
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any, ClassVar

import torch
from pydantic import ConfigDict, Field
from torch import Tensor, nn

from lightune.errors import MethodError, MissingExtra, nearest
from lightune.methods.base import Attachment, Method
from lightune.nn.surgery import ALL_LINEAR, LINEAR_TYPES, Surgery, find_linears, shortest_ends

NAME = "default"
"""What PEFT calls the adapter inside its layers."""

OWN = ("target_modules", "peft_type", "task_type", "inference_mode", "modules_to_save")
"""Settings of PEFT's that are decided here: by `targets`, by the task, or in one place for all."""

RANKS, MOST_RANK = ("r", "init_r", "target_r"), 4096
"""Settings that an adapter from a stranger could fill the memory with, and their limit, as LoRA's;
LOKR, which takes any rank that is too large for whole matrices, has one as well here."""


class Injected(Attachment):
    """What PEFT's tuner left in a model.

    Attributes:
        tuner: PEFT's.
        budgets: the tuner divides a budget anew after every step, by the gradients.
        gradients: of the step that was made, by path, kept for it.
    """

    tuner: Any = None
    budgets: bool = False
    gradients: dict[str, Tensor]

    def keep_gradients(self) -> None:
        """Keep each gradient when it is whole, since the optimiser drops it."""
        self.budgets, self.gradients = True, {}
        for path, parameter in self.trainable.items():
            handle = parameter.register_post_accumulate_grad_hook(partial(self._keep, path))
            self.surgery.remember(handle.remove)

    def _keep(self, path: str, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self.gradients[path] = parameter.grad.detach().clone()


class Peft(Method):
    """One of PEFT's methods."""

    model_config = ConfigDict(extra="allow")

    name: ClassVar[str] = "peft"
    paper: ClassVar[str] = "Kopiczko et al. 2023, arXiv:2310.11454, equation 2 (VeRA, the default)"
    summary: ClassVar[str] = "any method of Hugging Face PEFT that changes layers, by its type"
    learning_rate: ClassVar[float] = 5e-3

    type: str = "VERA"
    """PEFT's name of the method: VERA, ADALORA, LOHA, LOKR, OFT, HRA, FOURIERFT, … Its own settings
    stand beside this one, under PEFT's names."""
    targets: str | list[str] = Field(default=ALL_LINEAR)
    """Layers to adapt, as for `lora`. With `all-linear`, types that share one matrix between layers
    may need a narrower choice."""

    def attach(self, model: nn.Module) -> Attachment:
        config, tuner_class = self._config(model)
        surgery = Surgery(model)
        before = _Before(model)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of defaults, and of what is decided here
                tuner = tuner_class(model, {NAME: config}, NAME)
        except (ValueError, TypeError, RuntimeError, KeyError, AttributeError) as error:
            before.restore(surgery)
            surgery.undo()
            raise MethodError(
                f"method.type: PEFT cannot put {self.type} into {type(model).__name__}",
                found=" ".join(str(error).split())[:300],
                mend="other `targets` or settings of the type, or `method: lora`",
            ) from None
        changed = before.changed()
        before.restore(surgery, keep=True)
        if changed:
            surgery.undo()
            raise MethodError(
                f"method.type: {self.type} writes to the base's own weights",
                found=f"{len(changed)} changed, such as {changed[0]} (they have been put back)",
                mend="`method: lora`, or run it with PEFT itself",
            )
        return _attachment(model, surgery, before, config, tuner)

    def _config(self, model: nn.Module) -> tuple[Any, Any]:
        """Return PEFT's configuration and the class of its tuner.

        Raises:
            MissingExtra: PEFT is not installed.
            MethodError: there is no such type or setting, or it wraps the whole model.
        """
        try:
            from peft import PeftType
            from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
        except ImportError:
            raise MissingExtra.of("peft", "peft", "`method: peft`") from None
        kinds = {kind.value: kind for kind in PeftType}
        wanted = kinds.get(self.type.upper())
        if wanted is None:
            near = nearest(self.type, kinds)
            raise MethodError(
                f"method.type: PEFT has no method {self.type!r}",
                found=f"types: {', '.join(sorted(kinds))}",
                mend=f"type: {near or 'VERA'}",
            )
        config_class: Any = PEFT_TYPE_TO_CONFIG_MAPPING.get(wanted)
        tuner_class = PEFT_TYPE_TO_TUNER_MAPPING.get(wanted)
        known = {field.name for field in fields(config_class)} if config_class else set()
        if tuner_class is None or "target_modules" not in known or self.type.upper() in WHOLE:
            raise MethodError(
                f"method.type: {self.type} wraps the whole model, not its layers",
                found=f"type: {self.type}",
                mend="`method: prompt_tuning`, `p_tuning` or `prefix_tuning`; or a type that "
                "changes layers",
            )
        given = dict(self.model_extra or {})
        for key in given:
            if key not in known or key in OWN:
                near = nearest(key, known - set(OWN))
                mend = f"did you mean `{near}`?" if near else "leave it out"
                raise MethodError(
                    f"method.{key}: {self.type} of PEFT has no such setting here",
                    found=f"settings: {', '.join(sorted(known - set(OWN)))}",
                    mend="`targets: …`, as for `lora`" if key == "target_modules" else mend,
                )
            value = given[key]
            if key in RANKS and isinstance(value, int) and value > MOST_RANK:
                raise MethodError(
                    f"method.{key}: must be at most {MOST_RANK}",
                    found=str(value)[:40],
                    mend=f"{key}: {MOST_RANK}, or less: memory grows with it",
                )
        layers = find_linears(model, self.targets)
        given["target_modules"] = shortest_ends(model, layers)
        if "feedforward_modules" in known:
            given.setdefault("feedforward_modules", [])
        if "save_projection" in known:
            given.setdefault("save_projection", False)  # made again from its seed
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of projections that are made again
                return config_class(**given), tuner_class
        except (ValueError, TypeError) as error:
            raise MethodError(
                f"method: PEFT refuses these settings of {self.type}",
                found=" ".join(str(error).split())[:300],
                mend="see PEFT's documentation of the type; for ADALORA `total_step: 1000`",
            ) from None

    def on_step(self, attachment: Attachment, step: int) -> None:
        if not isinstance(attachment, Injected) or not attachment.budgets:
            return
        kept, attachment.gradients = attachment.gradients, {}
        if len(kept) < len(attachment.trainable):
            raise MethodError(
                f"{self.type} divides its budget by the gradients of the weights themselves",
                found="weights held in a lower precision than float32",
                mend="`train: {precision: fp32}`",
            )
        for path, parameter in attachment.trainable.items():
            parameter.grad = kept[path]
        attachment.tuner.update_and_allocate(step)
        for parameter in attachment.trainable.values():
            parameter.grad = None


WHOLE = ("ADAPTION_PROMPT", "SHADOW", "XLORA", "POLY")
"""Types that PEFT itself does not put into a model without wrapping it."""


class _Before:
    """A model as it was before PEFT came, to take everything back, and to tell what is new."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.modules = dict(model.named_modules())
        self.attributes = {path: set(vars(m)) for path, m in self.modules.items()}
        self.trained = {path for path, p in model.named_parameters() if p.requires_grad}
        self.weights = [
            (f"{path}.weight", m.weight, m.weight.detach().clone())
            for path, m in self.modules.items()
            if isinstance(m, LINEAR_TYPES)
        ]

    def changed(self) -> list[str]:
        """Return the base's weights that were written to, and put their values back."""
        wrong = [path for path, now, old in self.weights if not torch.equal(now, old)]
        with torch.no_grad():
            for path, now, old in self.weights:
                if path in wrong:
                    now.copy_(old)
        self.weights = []
        return wrong

    def restore(self, surgery: Surgery, keep: bool = False) -> None:
        """Remember how to take back every replaced module and every new attribute.

        Args:
            keep: the method stays; what was trained before it, and PEFT froze, is trained again.
        """
        now = dict(self.model.named_modules())
        for path, module in self.modules.items():
            if path and now.get(path) is not module and path.rpartition(".")[0] in self.modules:
                surgery.replaced.setdefault(path, module)
                surgery.remember(_putter(self.model, path, module))
        for path, module in self.modules.items():
            for name in set(vars(module)) - self.attributes[path]:
                surgery.remember(partial(module.__dict__.pop, name, None))
        if keep:
            for path, parameter in self.model.named_parameters():
                if path in self.trained:
                    parameter.requires_grad_(True)


def _putter(model: nn.Module, path: str, module: nn.Module) -> Callable[[], None]:
    return lambda: model.set_submodule(path, module)


def _attachment(
    model: nn.Module, surgery: Surgery, before: _Before, config: Any, tuner: Any
) -> Injected:
    """Return what is trained, what is frozen beside it, and how each weight changes."""
    trainable = {
        path: p
        for path, p in model.named_parameters()
        if p.requires_grad and path not in before.trained
    }
    of_base = {id(module) for module in before.modules.values()}
    for module in model.modules():
        if id(module) not in of_base and module._parameters:
            # PEFT's layers cast for themselves, and mix their own formats badly
            vars(module)["float32_parameters"] = tuple(module._parameters)
    known = {id(t) for m in before.modules.values() for t in _own(m)}
    constants = {
        path: tensor
        for path, tensor in (*model.named_parameters(), *model.named_buffers())
        if id(tensor) not in known and path not in trainable and tensor.is_floating_point()
    }
    deltas: dict[str, Callable[[], Tensor]] = {}
    for path in surgery.replaced:
        layer: Any = model.get_submodule(path)
        if not hasattr(layer, "merge"):
            continue
        deltas[f"{path}.weight"] = _change(layer, "weight")
        if getattr(layer.get_base_layer(), "bias", None) is not None:
            deltas[f"{path}.bias"] = _change(layer, "bias")
    described = {key: _plain(value) for key, value in config.to_dict().items()}
    names = {path: path.replace(f".{NAME}", "") for path in (*trainable, *constants)}
    part = Injected(surgery, trainable, "peft", deltas, described, names, constants=constants)
    part.tuner = tuner
    if hasattr(tuner, "update_and_allocate"):
        part.keep_gradients()
    return part


def _own(module: nn.Module) -> list[Tensor]:
    tensors = (*module._parameters.values(), *module._buffers.values())
    return [tensor for tensor in tensors if tensor is not None]


def _change(layer: Any, name: str) -> Callable[[], Tensor]:
    def change() -> Tensor:
        with torch.no_grad():
            merged = copy.deepcopy(layer)
            merged.merge(adapter_names=[NAME])
            after, before = getattr(merged.get_base_layer(), name), getattr(layer, name)
            return after.detach() - before.detach()

    return change


def _plain(value: Any) -> Any:
    """Return a setting as JSON has it; PEFT keeps sets and words of its own classes."""
    if isinstance(value, set):
        return sorted(value)
    return getattr(value, "value", value)
