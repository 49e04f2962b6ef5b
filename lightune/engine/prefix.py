"""The frozen prefix: blocks whose output is the same whenever a text comes by again.

Why:        where only the last blocks are trained, everything below them gives the same hidden
            states in every epoch; `prefix_cache.py` keeps these and lets them stand in for the
            blocks.
How:        nothing is asked of the method or the model's class. One forward pass is watched: the
            prefix is the run of blocks, from the first on, whose results carry no gradient. Then
            stand-ins are tried on real batches against the whole model.
Invariants: what runs before the last block of the prefix has ended runs without dropout, with
            stand-ins or without: `set_mode`. Stand-ins are in the model only while
            `replaced_by` is open.
Errors:     none: a model for which it does not work has `refusal`, in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lightune.nn.surgery import block_paths
from lightune.types import Batch

TOLERANCE = 1e-4
"""Largest difference that stand-ins may make to a loss, relative to it where it is above 1."""
PADDING_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}
LOW_PRECISION_TOLERANCE = 0.1
"""Largest difference that padding may make to a hidden state, relative to the largest."""

Loss = Callable[[Batch], Tensor]


@dataclass(frozen=True)
class Prefix:
    """The frozen lower part of one model.

    Attributes:
        blocks: its paths, in the order of running; empty where there is no such part.
        front: every module that is done when the last of them is.
        length: of the tuple that a block returns; None where it returns a tensor.
        refusal: why nothing can stand in for these blocks; empty where something can.
    """

    model: nn.Module
    blocks: tuple[str, ...] = ()
    front: tuple[nn.Module, ...] = ()
    length: int | None = None
    refusal: str = ""

    def set_mode(self, model: nn.Module) -> None:
        """Put the model into train mode, and what is in front into evaluation mode."""
        model.train()
        for module in self.front:
            module.eval()

    @torch.no_grad()
    def states(self, run: Callable[[], object]) -> Tensor:
        """Return the prefix's output `[batch, seq, width]` in `run()`, which ends there."""
        found: list[Tensor] = []

        def stop(module: nn.Module, args: Any, output: Any) -> None:
            found.append(_hidden(output))
            raise _Reached

        handle = self.model.get_submodule(self.blocks[-1]).register_forward_hook(stop)
        try:
            run()
        except _Reached:
            pass
        finally:
            handle.remove()
        return found[0]

    @contextmanager
    def replaced_by(self, hidden: Tensor) -> Iterator[None]:
        """Let `hidden` `[batch, seq, width]` stand in for what the prefix would give."""
        output = hidden if self.length is None else (hidden, *[None] * (self.length - 1))
        places = []
        for path in self.blocks:
            parent, _, name = path.rpartition(".")
            places.append((self.model.get_submodule(parent), name))
        blocks = [getattr(stack, name) for stack, name in places]
        try:
            for (stack, name), block in zip(places, blocks, strict=True):
                setattr(stack, name, StandIn(block, output))
            yield
        finally:
            for (stack, name), block in zip(places, blocks, strict=True):
                setattr(stack, name, block)


class StandIn(nn.Module):
    """Returns what is known instead of computing it; in all else it answers as the block.

    Args:
        block: some models ask their blocks for `attention_type` and the like.
        output: of `forward`.
    """

    def __init__(self, block: nn.Module, output: Any) -> None:
        super().__init__()
        self._block = (block,)  # in a tuple, so that it is no submodule
        self._output = output

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_block"][0], name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._output


class _Reached(Exception):
    """The last block of the prefix has answered; the rest need not run."""


def find_prefix(model: nn.Module, loss: Loss, batches: Callable[[], list[Batch]]) -> Prefix:
    """Return the frozen lower part of a model whose method is attached.

    Args:
        loss: of one batch that is still on the CPU.
        batches: gives the same few examples once together, then each alone; only called where
            the first block has nothing to train.

    Returns:
        Without blocks where the first block, or something before it, is trained.
    """
    nothing = Prefix(model)
    paths = block_paths(model)
    if not paths or any(p.requires_grad for p in model.get_submodule(paths[0]).parameters()):
        return nothing
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.random.fork_rng():
            together, *alone = batches()
            prefix = _watch(model, paths, lambda: loss(together))
            if prefix.blocks and not prefix.refusal:
                prefix = replace(prefix, refusal=_try(prefix, loss, together, alone))
            return prefix
    finally:
        for module, training in modes:
            module.training = training


def _watch(model: nn.Module, paths: list[str], run: Callable[[], object]) -> Prefix:
    """Run the model once; return the blocks whose arguments and results carry no gradient."""
    name = {id(model.get_submodule(path)): path for path in paths}
    done: list[nn.Module] = []
    calls: list[tuple[str, bool, int, Any]] = []  # path, frozen, modules done, output

    def after(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        done.append(module)
        if id(module) in name:
            tensors = [*_tensors(args), *_tensors(list(kwargs.values())), *_tensors(output)]
            frozen = not any(t.requires_grad for t in tensors)
            calls.append((name[id(module)], frozen, len(done), output))

    model.eval()
    with ExitStack() as hooks, torch.enable_grad():
        for module in model.modules():
            hooks.callback(module.register_forward_hook(after, with_kwargs=True).remove)
        run()
    frozen = 0
    while frozen < len(calls) and calls[frozen][1]:
        frozen += 1
    if not frozen:
        return Prefix(model)
    if getattr(model.config, "is_encoder_decoder", False):
        return Prefix(model, refusal="its decoder reads the encoder's output in every block")
    if len({path for path, *_ in calls}) < len(calls):
        return Prefix(model, refusal="its blocks share their weights and run several times")
    blocks = tuple(path for path, *_ in calls[:frozen])
    outputs = [output for *_, output in calls[:frozen]]
    front = tuple(dict.fromkeys(done[: calls[frozen - 1][2]]))
    refusal = ""
    lengths = {len(output) if isinstance(output, tuple) else None for output in outputs}
    if len(lengths) > 1 or any(_more_than_hidden(output) for output in outputs):
        refusal = "its blocks return more than hidden states"
    return Prefix(model, blocks, front, lengths.pop(), refusal)


def _try(prefix: Prefix, loss: Loss, together: Batch, alone: list[Batch]) -> str:
    """Return why stand-ins do not do, or nothing: tried in train mode on real examples."""
    prefix.set_mode(prefix.model)
    torch.manual_seed(0)
    states = prefix.states(lambda: loss(together))
    torch.manual_seed(1)
    if not torch.equal(states, prefix.states(lambda: loss(together))):
        return "what its frozen blocks give is random"
    mask = together.inputs["attention_mask"].bool().to(states.device)
    if states.shape[:2] != mask.shape:
        return "its hidden states are not one for each token"
    with torch.no_grad():
        torch.manual_seed(0)
        whole = loss(together)
        torch.manual_seed(0)
        with prefix.replaced_by(states * mask.unsqueeze(-1).to(states.dtype)):
            stood_in = loss(together)
    if not abs(whole - stood_in) <= TOLERANCE * max(1.0, abs(float(whole))):
        return f"the loss with stand-ins is {float(stood_in):.6g}, without {float(whole):.6g}"
    joint = [row[row_mask] for row, row_mask in zip(states, mask, strict=True)]
    allowed = PADDING_TOLERANCE.get(states.dtype, LOW_PRECISION_TOLERANCE)
    for expected, batch in zip(joint, alone, strict=True):
        single = prefix.states(lambda batch=batch: loss(batch))  # type: ignore[misc]
        single = single[batch.inputs["attention_mask"].bool().to(single.device)]
        if float((single - expected).abs().max()) > allowed * float(expected.abs().max()):
            return "what its frozen blocks give depends on the padding"
    return ""


def _hidden(output: Any) -> Tensor:
    hidden: Tensor = output[0] if isinstance(output, tuple) else output
    return hidden


def _more_than_hidden(output: Any) -> bool:
    if isinstance(output, tuple):
        return not isinstance(output[0], Tensor) or any(part is not None for part in output[1:])
    return not isinstance(output, Tensor)


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples and lists."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)
