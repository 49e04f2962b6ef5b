"""Several methods at once, as long as no two change the same weights.

    method: [bottleneck, lora]                        # short for the line below
    method: {name: combined, methods: [{name: bottleneck}, {name: lora, rank: 4}]}

Paper:      He et al. 2021, "Towards a Unified View of Parameter-Efficient Transfer Learning"
            (arXiv:2110.04366), section 4.6, whose mix-and-match adapter is a prefix together with
            a parallel adapter.
Order:      methods are attached as they are named: a later one may stand inside a layer that an
            earlier one wraps (LoRA in the linear layer that a bottleneck follows), never on a
            weight that an earlier one changes.
Rates:      each method keeps its own default rate; a `train.learning_rate` is that of a method
            whose default is 5e-4 (`lora`), and the others keep their ratio to it.
Start:      as the base where each method starts so.
Cost:       the sum of the methods' weights.
Merging:    where every one of them merges.
Errors:     `MethodError` when two change the same weights, or one finds nothing left to train.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

from pydantic import Field, PrivateAttr, field_validator
from torch import nn

from lightune import registry
from lightune.errors import LightuneError, MethodError
from lightune.methods.base import Attachment, Layout, Method
from lightune.nn.surgery import Surgery
from lightune.settings import parse


class Joined(Attachment):
    """What several methods left in a model, as one.

    Attributes:
        parts: each method's own, in order.
    """

    parts: tuple[Attachment, ...] = ()


class Combined(Method):
    """Several methods, attached one after the other."""

    name: ClassVar[str] = "combined"
    paper: ClassVar[str] = "He et al. 2021, arXiv:2110.04366, section 4.6"
    summary: ClassVar[str] = "several methods at once: `method: [bottleneck, lora]`"
    learning_rate: ClassVar[float] = 5e-4

    methods: list[dict[str, Any]] = Field(
        default=[{"name": "bottleneck"}, {"name": "lora"}], validate_default=True, min_length=2
    )
    """The methods in order, each as it would stand alone: a name, or a name with its settings."""

    _parts: tuple[Method, ...] = PrivateAttr(default=())

    @field_validator("methods", mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        """Check each method's settings and write its defaults out."""
        if not isinstance(value, Sequence) or isinstance(value, str):
            return value
        written = []
        for number, given in enumerate(value):
            try:
                part = _method(given, f"method[{number}]")
            except LightuneError as error:
                raise ValueError(f"{error.problem} | {error.mend}") from None
            written.append({"name": part.name, **part.model_dump(mode="json")})
        return written

    def model_post_init(self, context: Any) -> None:
        self._parts = tuple(_method(values, "method") for values in self.methods)

    @property
    def identity_at_init(self) -> bool:  # type: ignore[override]
        return all(part.identity_at_init for part in self._parts)

    def with_tokenizer(self, tokenizer: Any) -> Self:
        return self._with([part.with_tokenizer(tokenizer) for part in self._parts])

    def loaded(self) -> Self:
        return self._with([part.loaded() for part in self._parts])

    def room(self, model: nn.Module) -> int:
        return sum(part.room(model) for part in self._parts)

    def _with(self, parts: list[Method]) -> Self:
        other = self.model_copy()
        other._parts = tuple(parts)
        return other

    def attach(self, model: nn.Module) -> Attachment:
        surgery = Surgery(model)
        done: list[Attachment] = []
        try:
            for method in self._parts:
                done.append(method.attach(model))
                surgery.remember(done[-1].detach)
                _check(method.name, done, [part.name for part in self._parts])
        except BaseException:
            surgery.undo()
            raise
        for part in done:
            for path, module in part.surgery.replaced.items():
                surgery.replaced.setdefault(path, module)
            surgery.copied |= part.surgery.copied
        whole = _joined(surgery, done)
        whole.parts = tuple(done)
        return whole

    def on_step(self, attachment: Attachment, step: int) -> None:
        parts = attachment.parts if isinstance(attachment, Joined) else ()
        for method, part in zip(self._parts, parts, strict=True):
            method.on_step(part, step)

    def param_groups(self, attachment: Attachment, learning_rate: float) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = []
        parts = attachment.parts if isinstance(attachment, Joined) else ()
        for method, part in zip(self._parts, parts, strict=True):
            rate = learning_rate * type(method).learning_rate / type(self).learning_rate
            groups += method.param_groups(part, rate)
        return groups


def _method(given: Any, key: str) -> Method:
    """Build one method from a name, or a mapping with its name and settings."""
    rest = dict(given) if isinstance(given, Mapping) else {"name": given}
    name = rest.pop("name", None)
    if name == Combined.name:
        raise MethodError(
            f"{key}: a combination cannot stand in another",
            found=f"name: {name}",
            mend="name all methods in one list",
        )
    found: type[Method] = registry.find("lightune.methods", name, key)
    return parse(found, rest, key)


def _check(name: str, done: list[Attachment], names: list[str]) -> None:
    """Refuse the last of `done` where it collides with one before it.

    Raises:
        MethodError: it changes a weight that another changes, or has nothing to train.
    """
    last = done[-1]
    if not last.trainable:
        raise MethodError(
            f"method: `{name}` finds nothing to train here",
            found=f"methods in order: {', '.join(names)}",
            mend=f"leave `{name}` out, or name it first",
        )
    for number, earlier in enumerate(done[:-1]):
        both = sorted(_overlap(earlier, last))
        if both:
            raise MethodError(
                f"method: `{names[number]}` and `{name}` cannot both change the same layers",
                found=", ".join(both[:3]) + (f" and {len(both) - 3} more" if both[3:] else ""),
                mend="give them different `targets`, or name the one that wraps whole layers "
                "(`bottleneck`) first",
            )


def _overlap(earlier: Attachment, later: Attachment) -> Iterator[str]:
    """Yield the paths of modules that both change, or that the later one wraps a second time."""
    yield from earlier.surgery.replaced.keys() & later.surgery.replaced.keys()
    first, second = _changed(earlier), _changed(later)
    for path in second:
        # what was at `x` before a wrapper came is inside it now, at `x.base`
        if any(path == other or path.startswith(f"{other}.") for other in first):
            yield path


def _changed(part: Attachment) -> set[str]:
    """Return the paths of the modules whose own weights an attachment changes."""
    trained = {p for p, t in part.trainable.items() if id(t) in part.surgery.copied}
    return {path.rpartition(".")[0] for path in (*part.deltas, *trained)}


def _joined(surgery: Surgery, done: list[Attachment]) -> Joined:
    """Return one attachment for all: in PEFT's format where all are LoRA, else as tensors."""
    merge = all(
        part.deltas or all(id(p) in part.surgery.copied for p in part.trainable.values())
        for part in done
    )
    config = _peft_config([part.peft_config or {} for part in done])
    layout: Layout = "peft" if config else "tensors"
    return Joined(
        surgery,
        {path: p for part in done for path, p in part.trainable.items()},
        layout,
        {path: d for part in done for path, d in part.deltas.items()} if merge else None,
        config,
        {path: name for part in done for path, name in part.peft_names.items()},
        constants={path: t for part in done for path, t in part.constants.items()},
        packed={name: packed for part in done for name, packed in part.packed.items()},
    )


def _peft_config(configs: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return PEFT's description of LoRAs of different ranks; None where it has none."""
    own = {"r", "lora_alpha", "target_modules", "fan_in_fan_out", "lora_dropout"}
    rest = [{k: v for k, v in config.items() if k not in own} for config in configs]
    if configs[0].get("peft_type") != "LORA" or any(other != rest[0] for other in rest):
        return None
    targets: list[str] = [end for config in configs for end in config["target_modules"]]
    ranks = {end: config["r"] for config in configs[1:] for end in config["target_modules"]}
    alphas = {
        end: config["lora_alpha"] for config in configs[1:] for end in config["target_modules"]
    }
    return configs[0] | {
        "target_modules": targets,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "fan_in_fan_out": any(config["fan_in_fan_out"] for config in configs),
    }
