"""A safetensors file against what a model expects, checked in full before a tensor is read.

Invariants: names, shapes and dtypes come from the header, so a wrong file is refused before
            anything is allocated; every mistake of a file is listed at once, with both shapes;
            values that are not finite are refused.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lightune.errors import AdapterError

FLOATS = {"F64", "F32", "F16", "BF16"}
LISTED = 8
"""How many wrong tensors a message names."""

Shapes = Mapping[str, tuple[int, ...]]


def header(path: Path) -> dict[str, tuple[int, ...]]:
    """Return `{name: shape}` of a safetensors file; no tensor is read.

    Raises:
        AdapterError: the file is damaged, or holds something else than floating-point numbers.
    """
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            dtypes = {name: part.get_dtype() for name, part in slices.items()}
            shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
    except SafetensorError as error:
        raise _damaged(path, error) from None
    other = {name: dtype for name, dtype in dtypes.items() if dtype not in FLOATS}
    if other:
        raise AdapterError(
            f"{path} holds tensors that are not floating-point numbers",
            found=", ".join(f"{n}: {d}" for n, d in list(other.items())[:LISTED]),
            mend="quantised or integer weights are not read; save them as float32 or bfloat16",
        )
    return shapes


def check_shapes(path: Path, found: Shapes, expected: Shapes) -> None:
    """Compare a file's tensors with those the model expects.

    Raises:
        AdapterError: lists every missing, unexpected and misshapen tensor, with both shapes.
    """
    wrong = [f"missing {name} {expected[name]}" for name in expected if name not in found]
    wrong += [f"unexpected {name} {found[name]}" for name in found if name not in expected]
    wrong += [
        f"misshapen {name}: file {found[name]}, model {expected[name]}"
        for name in expected
        if name in found and found[name] != expected[name]
    ]
    if wrong:
        more = f"; and {len(wrong) - LISTED} more" if len(wrong) > LISTED else ""
        raise AdapterError(
            f"{path} does not fit the model: {len(wrong)} tensors differ",
            found="; ".join(wrong[:LISTED]) + more,
            mend="load it onto the base model, and with the labels, that it was trained with",
        )


def tensors(path: Path, names: Mapping[str, str]) -> Iterator[tuple[str, Tensor]]:
    """Yield `(key, tensor)` for `{key: name in the file}`, one tensor in memory at a time.

    Raises:
        AdapterError: the file is damaged, or a value is not finite.
    """
    try:
        with safe_open(path, framework="pt") as file:
            for key, name in names.items():
                tensor = file.get_tensor(name)
                if not torch.isfinite(tensor).all():
                    raise AdapterError(
                        f"{path}: {name} holds values that are not finite",
                        found=f"{int((~torch.isfinite(tensor)).sum())} of {tensor.numel()}",
                        mend="train again with a lower learning rate; this adapter is broken",
                    )
                yield key, tensor
    except SafetensorError as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: SafetensorError) -> AdapterError:
    return AdapterError(
        f"{path} is damaged",
        found=str(error),
        mend="copy the file again from where it came, or train again",
    )
