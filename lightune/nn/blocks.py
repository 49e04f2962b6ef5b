"""Which of a model's blocks a setting names, and the linear layers inside them.

    last-2      the two blocks nearest to the output
    [4, 5]      by number, from 0 at the input, as PEFT's `layers_to_transform`

Numbers count inside each stack: in an encoder–decoder `last-2` is two blocks of the encoder and
two of the decoder.
Errors:     `TargetError` for a block, or a layer in these blocks, that the model does not have.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, Strict
from torch import nn

from lightune.errors import TargetError
from lightune.nn.surgery import ALL_LINEAR, block_paths, find_linears

LAST = re.compile(r"last-([1-9][0-9]*)")


def _check(choice: str | list[int] | None) -> str | list[int] | None:
    if isinstance(choice, str) and not LAST.fullmatch(choice):
        raise ValueError("neither `last-N` nor block numbers | layers: last-2")
    if choice == []:
        raise ValueError("no block is named | layers: last-2")
    return choice


Layers = Annotated[
    str | list[Annotated[int, Strict(), Field(ge=0)]] | None,
    AfterValidator(_check),
]
"""The setting's type: `last-N`, block numbers, or None for every block."""


def stacks(model: nn.Module) -> list[list[str]]:
    """Return the paths of the blocks, one list for each stack of them, in the model's order."""
    found: dict[str, list[str]] = {}
    for path in block_paths(model):
        found.setdefault(path.rpartition(".")[0], []).append(path)
    return list(found.values())


def chosen_blocks(model: nn.Module, choice: str | list[int]) -> list[str]:
    """Return the paths of the blocks that `choice` names.

    Raises:
        TargetError: a stack has no block of that number, or the model has no blocks.
    """
    chosen: list[str] = []
    for stack in stacks(model):
        numbers = _numbers(choice, len(stack))
        if not all(0 <= number < len(stack) for number in numbers):
            raise TargetError(
                f"method.layers: {type(model).__name__} has {len(stack)} blocks",
                found=f"layers: {choice}",
                mend=f"layers: last-{len(stack)} at most, or numbers from 0 to {len(stack) - 1}",
            )
        chosen += [stack[number] for number in numbers]
    if not chosen:
        raise TargetError(
            f"method.layers: {type(model).__name__} has no repeated blocks",
            found=f"layers: {choice}",
            mend="leave `layers` out, and name the layers by `targets`",
        )
    return chosen


def _numbers(choice: str | list[int], blocks: int) -> list[int]:
    if isinstance(choice, str):
        return list(range(blocks - int(choice.removeprefix("last-")), blocks))
    return sorted(set(choice))


def linears_in(
    model: nn.Module, targets: list[str] | str, choice: str | list[int] | None
) -> dict[str, nn.Module]:
    """Return `{path: layer}` of the linear layers that `targets` name inside the chosen blocks.

    Args:
        targets: see `find_linears`.
        choice: None takes them wherever they are.

    Raises:
        TargetError: a target matches nothing, or nothing in these blocks.
    """
    every = find_linears(model, targets)
    if choice is None:
        return every
    blocks = tuple(f"{path}." for path in chosen_blocks(model, choice))
    inside = {path: layer for path, layer in every.items() if path.startswith(blocks)}
    wanted = [targets] if isinstance(targets, str) else targets
    for target in wanted:
        if not any(target in (ALL_LINEAR, p) or p.endswith(f".{target}") for p in inside):
            raise TargetError(
                f"method.targets: {target!r} is in none of the chosen blocks",
                found=f"layers: {choice}",
                mend="leave `layers` out, or that target",
            )
    return inside
