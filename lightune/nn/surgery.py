"""Find and replace parts inside a model, and put everything back.

Knows nothing of any fine-tuning method. Base tensors are never written: what is to be trained is
swapped in as a copy, what is to be wrapped is replaced by its wrapper, and `undo()` restores the
model bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from lightune.errors import TargetError, nearest

LINEAR_TYPES = (nn.Linear, Conv1D)
"""Layers with a weight matrix. GPT-2's `Conv1D` is a linear layer whose weight is `[in, out]`."""

ALL_LINEAR = "all-linear"


class Surgery:
    """The changes made to one model, in order, and how to take them back.

    Args:
        model: remembers `requires_grad` of every parameter and the train mode of every module as
            they are now; `undo()` restores them.

    Attributes:
        replaced: `{path: the module that stood there before}`, for merging and saving.
        copied: identities of the trainable copies that stand in for the base's own parameters.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.replaced: dict[str, nn.Module] = {}
        self.copied: set[int] = set()
        self._undo: list[Callable[[], None]] = []
        # weak: what the engine replaces by a smaller format must not be kept alive from here
        self._requires_grad = [(ref(p), p.requires_grad) for p in model.parameters()]
        self._training = [(ref(m), m.training) for m in model.modules()]

    def replace(self, path: str, module: nn.Module) -> None:
        """Put `module` where `path` is, in the train mode of what stood there."""
        old = self.model.get_submodule(path)
        module.train(old.training)  # a fresh module would drop out in a model set to eval
        self.model.set_submodule(path, module)
        self.replaced.setdefault(path, old)
        self._undo.append(lambda: self.model.set_submodule(path, old))

    def remember(self, undo: Callable[[], None]) -> None:
        """Run `undo` when the surgery is undone: a hook's `remove`, for example."""
        self._undo.append(undo)

    def swap_in_copies(self, paths: Iterable[str]) -> dict[str, nn.Parameter]:
        """Swap trainable float32 copies in for the parameters at `paths`.

        A parameter that several modules share (tied weights) gets one copy, put in at every place
        that holds it, also at those not named.

        Returns:
            `{path: copy}`, one entry per copy, under the first of its paths.

        Raises:
            AttributeError: no parameter has that path.
        """
        places: dict[int, list[tuple[nn.Module, str]]] = {}
        for module in self.model.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    places.setdefault(id(parameter), []).append((module, name))
        copies: dict[str, nn.Parameter] = {}
        done: set[int] = set()
        for path in paths:
            old = self.model.get_parameter(path)
            if id(old) in done:
                continue
            copy = nn.Parameter(old.detach().to(torch.float32, copy=True))
            for module, name in places[id(old)]:
                module._parameters[name] = copy
                self._undo.append(partial(module._parameters.__setitem__, name, old))
            done.add(id(copy))
            self.copied.add(id(copy))
            copies[path] = copy
        return copies

    def undo(self) -> None:
        """Take every change back, last first. Calling it again does nothing."""
        while self._undo:
            self._undo.pop()()
        for parameter, requires_grad in self._requires_grad:
            if (kept := parameter()) is not None:
                kept.requires_grad_(requires_grad)
        for module, training in self._training:
            if (still := module()) is not None:
                still.training = training


class Wrapper(nn.Module):
    """A layer inside another that shows the layer's `weight` and `bias` (T5 reads `wo.weight`)."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base: Any = base  # nn.Linear, Conv1D or a norm: all have a weight

    @property
    def weight(self) -> Tensor:
        return self.base.weight

    @property
    def bias(self) -> Tensor | None:
        return self.base.bias


def linears(model: nn.Module) -> dict[str, nn.Module]:
    """Return `{path: layer}` of every linear layer, in the model's order."""
    return {path: m for path, m in model.named_modules() if isinstance(m, LINEAR_TYPES)}


def shape(linear: nn.Module) -> tuple[int, int]:
    """Return `(in, out)` of a linear layer, whichever way round its weight lies."""
    rows, columns = linear.get_parameter("weight").shape
    return (rows, columns) if isinstance(linear, Conv1D) else (columns, rows)


def weight_out_in(linear: nn.Module) -> Tensor:
    """Return the weight as `[out, in]`, a view where `Conv1D` stores `[in, out]`."""
    weight: Tensor = linear.weight  # type: ignore[assignment]
    return weight.T if isinstance(linear, Conv1D) else weight


def norm_paths(model: nn.Module) -> list[str]:
    """Return the paths of the normalisation layers that have weights, in the model's order.

    Told by structure, and by what every class of them is called: nothing but vectors inside, and
    "norm" in the name of the class (`LayerNorm`, `LlamaRMSNorm`, `T5LayerNorm` …).
    """
    return [
        path
        for path, module in model.named_modules()
        if "norm" in type(module).__name__.lower()
        and not any(True for _ in module.children())
        and (weights := list(module.parameters()))
        and all(weight.ndim == 1 for weight in weights)
    ]


def block_paths(model: nn.Module) -> list[str]:
    """Return the paths of the repeated blocks (elements of a `ModuleList`), in the model's order.

    Nested lists count once, by their outermost element. An encoder–decoder lists its encoder's
    blocks and then its decoder's.
    """
    found: list[str] = []
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and not any(path.startswith(f"{f}.") for f in found):
            found.extend(f"{path}.{i}" for i in range(len(module)))
    return found


def _all_linear(model: nn.Module, every: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Return the linear layers of the blocks, and of the backbone behind the first block."""
    frozen = {path: m for path, m in every.items() if not m.weight.requires_grad}
    blocks = tuple(f"{path}." for path in block_paths(model))
    if not blocks:
        return frozen
    backbone = getattr(model, "base_model_prefix", "") or ""
    inside = [path for path in every if path.startswith(blocks)]
    order = list(every)
    behind = order[order.index(inside[0]) :] if inside else []
    return {
        path: m
        for path, m in frozen.items()
        if path.startswith(blocks)
        or (backbone and path in behind and path.startswith(f"{backbone}."))
    }


def find_linears(model: nn.Module, targets: list[str] | str) -> dict[str, nn.Module]:
    """Return `{path: layer}` of the linear layers that `targets` name.

    Args:
        model: any Transformers model.
        targets: last names (`query`) or ends of paths (`attention.self.query`), or `all-linear`
            for every linear layer of the blocks and of a pooler behind them: not the embeddings,
            not the head, nor what is trained whole already. A layer inside a wrapper has the
            wrapper's name.

    Raises:
        TargetError: a target matches nothing. A typo must not train fewer layers in silence.
    """
    every = linears(model)
    if targets == ALL_LINEAR:
        return _all_linear(model, every)
    wanted = [targets] if isinstance(targets, str) else list(targets)
    chosen: dict[str, nn.Module] = {}
    known = {path: _unwrapped(model, path) for path in every}
    names = sorted({path.rpartition(".")[2] for path in known.values()})
    for target in wanted:
        hits = {p: m for p, m in every.items() if f".{known[p]}".endswith(f".{target}")}
        if not hits:
            near = nearest(target, names)
            raise TargetError(
                f"method.targets: no linear layer of {type(model).__name__} is named {target!r}",
                found=f"names that exist: {', '.join(names)}",
                mend=f"targets: [{near}]   (or `targets: {ALL_LINEAR}`)"
                if near
                else f"`targets: {ALL_LINEAR}`, or some of these names",
            )
        chosen.update(hits)
    return {path: m for path, m in every.items() if path in chosen}


def _unwrapped(model: nn.Module, path: str) -> str:
    """Return the path that a layer has in the plain model."""
    outside, _, last = path.rpartition(".")
    if last == "base" and isinstance(model.get_submodule(outside), Wrapper):
        return _unwrapped(model, outside)
    return path


def head_path(model: Any) -> str | None:
    """Return the path of the task's output layer: the last part with weights after the base.

    None where there is none: a bare base model, or a language model, whose output layer is its
    vocabulary and was trained with it.
    """
    prefix = getattr(model, "base_model_prefix", "")
    if not prefix or not hasattr(model, prefix):
        return None
    if model.get_output_embeddings() is not None:
        return None
    outside = [
        name
        for name, child in model.named_children()
        if name != prefix and any(True for _ in child.parameters())
    ]
    return outside[-1] if outside else None


def shortest_ends(model: nn.Module, paths: Iterable[str]) -> list[str]:
    """Return the shortest ends of paths that match the modules at `paths` and no other module.

    An end matches as in PEFT's `target_modules`: it is the path, or what follows one of its dots.
    """
    chosen = set(paths)
    every = [path for path, _ in model.named_modules()]
    only_chosen: dict[str, bool] = {}
    ends: dict[str, None] = {}  # a set that keeps its order
    for path in (p for p in every if p in chosen):
        parts = path.split(".")
        for length in range(1, len(parts) + 1):
            end = ".".join(parts[-length:])
            if end not in only_chosen:
                hits = {p for p in every if p == end or p.endswith(f".{end}")}
                only_chosen[end] = hits <= chosen
            if only_chosen[end]:
                ends[end] = None
                break
        else:
            ends[path] = None  # a path that is also the end of another's: PEFT cannot tell them
    return list(ends)
