"""Every method on every kind of model: the pairs of the contract test, and what they share.

A method may add to its own test file, `tests/methods/test_<name>.py`:

    def trained_weights(model) -> int: …     the formula of the docs, at default settings
    SETTINGS = [{"start": "pissa"}, …]       further settings that keep the same contract
    SETTINGS_ON = ("bert", …)                the kinds they are tried on; four by default

Pairs that `lightune/methods/capabilities.json` calls impossible must be refused at attach with the
reason that it gives; all others, and those of methods that it does not know, must work.
"""

import copy
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightune.errors import MissingExtra
from lightune.methods.base import Attachment, Method, methods
from lightune.methods.beside import train_new_modules
from lightune.methods.capabilities import capabilities
from lightune.models.tiny_kinds import KINDS, Kind

ROWS = [[5, 9, 13, 21, 7, 3], [8, 6, 30, 2, 11, 4]]
"""Token ids, two rows of one length."""
UNEVEN = [[5, 9, 13, 21, 7, 3], [8, 6, 30]]
SOME_KINDS = ("bert", "gpt2-lm", "llama-lm", "t5-seq2seq")
"""Where further settings are tried: an encoder, Conv1D, grouped keys, an encoder–decoder."""


@cache
def own_tests(name: str) -> ModuleType | None:
    """Return the method's own test file as a module, or None where it has none here."""
    file = Path(__file__).with_name(f"test_{name}.py")
    if not file.exists():
        return None
    spec = importlib.util.spec_from_file_location(f"grid_{name}", file)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except pytest.skip.Exception:  # its oracle is not installed
        return None
    return module


@dataclass(frozen=True)
class Case:
    """A method with its settings, and a kind of model."""

    method: Method
    kind: Kind
    id: str

    @property
    def refused(self) -> str | None:
        """The reason for which the table calls this pair impossible."""
        known = capabilities().get(self.method.name, {"refused": {}})
        return known["refused"].get(self.kind.name)


def _settings(name: str) -> list[dict[str, Any]]:
    return list(getattr(own_tests(name), "SETTINGS", ()))


def cases() -> list[Case]:
    every = []
    for name, method in methods().items():
        plain = method()
        every += [Case(plain, kind, f"{name}-{kind.name}") for kind in KINDS.values()]
        for number, settings in enumerate(_settings(name)):
            other = method(**settings)
            on = getattr(own_tests(name), "SETTINGS_ON", SOME_KINDS)
            every += [Case(other, KINDS[kind], f"{name}{number + 1}-{kind}") for kind in on]
    return every


CASES = cases()
POSSIBLE = [case for case in CASES if case.refused is None]
IMPOSSIBLE = [case for case in CASES if case.refused is not None]


def over(some: list[Case]) -> Any:
    """Parametrise a test by `case`."""
    return pytest.mark.parametrize("case", some, ids=[case.id for case in some])


@cache
def base(kind: Kind) -> tuple[nn.Module, dict[str, Any]]:
    """One frozen model for each kind, and all that `detach()` has to bring back."""
    model = kind.build()
    return model, fingerprint(model, kind)


def outside_the_base(model: nn.Module, kind: Kind) -> list[str]:
    """What a checkpoint of the bare base model does not have, where a task trains it."""
    if not kind.classifies:
        return []
    parts = [name for name, _ in model.named_children() if name != model.base_model_prefix]
    return [name for name in parts if list(model.get_submodule(name).parameters())]


@contextmanager
def attached(case: Case, model: nn.Module, seed: int = 0) -> Iterator[list[Attachment]]:
    """Attach as the pipeline does; detach at the end."""
    torch.manual_seed(seed)
    beside = train_new_modules(model, outside_the_base(model, case.kind))
    try:
        parts = [case.method.attach(model), beside]
    except BaseException as error:
        beside.detach()
        if isinstance(error, MissingExtra):
            pytest.skip(str(error))
        raise
    try:
        yield parts
    finally:
        for part in parts:
            part.detach()


def output(model: nn.Module, kind: Kind, rows=ROWS, **how) -> Tensor:
    with torch.no_grad():
        return model(**kind.inputs(model, rows, **how)).logits


def loss(model: nn.Module, kind: Kind, rows=ROWS) -> Tensor:
    """The loss that a task of this form has."""
    inputs = kind.inputs(model, rows)
    if kind.classifies:
        logits = model(**inputs).logits.float()
        return nn.functional.cross_entropy(logits, torch.tensor([0, 2]))
    if kind.form == "seq2seq":
        return model(**inputs, labels=torch.tensor([[7, 9, 4], [6, 8, 5]])).loss
    return model(**inputs, labels=inputs["input_ids"]).loss


def trained(parts: list[Attachment]) -> dict[str, nn.Parameter]:
    return {path: p for part in parts for path, p in part.trainable.items()}


def randomise(parts: list[Attachment], strength: float = 0.2) -> None:
    """Move every trained weight: a start at zero would hide what it is multiplied with."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in trained(parts).values():
            parameter.add_(strength * torch.randn(parameter.shape, generator=generator))


def fingerprint(model: nn.Module, kind: Kind) -> dict[str, Any]:
    """All that `detach()` has to bring back."""
    return {
        "tensors": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "objects": [id(p) for p in model.parameters()],
        "modules": [(path, id(m)) for path, m in model.named_modules()],
        "requires_grad": {name: p.requires_grad for name, p in model.named_parameters()},
        "training": {name: m.training for name, m in model.named_modules()},
        "attributes": {name: sorted(vars(m)) for name, m in model.named_modules()},
        "hooks": {
            name: [len(getattr(m, hooks)) for hooks in vars(m) if hooks.endswith("_hooks")]
            for name, m in model.named_modules()
        },
        "config": copy.deepcopy(model.config.to_dict()),
        "attention": model.config._attn_implementation,
        "generation": getattr(model, "generation_config", None)
        and model.generation_config.to_dict(),
        "output": output(model, kind),
    }


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return which parts of two fingerprints differ."""
    tensors = ("tensors", "output")
    wrong = [key for key in before if key not in tensors and before[key] != after[key]]
    old, new = before["tensors"], after["tensors"]
    if old.keys() != new.keys() or not all(torch.equal(old[name], new[name]) for name in old):
        wrong.append("tensors")
    return wrong + ["output"] * (not torch.equal(before["output"], after["output"]))
