"""Tokenised records, kept on disk by the hash of all that decides them.

Why:        methods, seeds and settings are compared on the same records, which then need not be
            tokenised for each run.
Where:      `$LIGHTUNE_HOME/tokens/<key>.safetensors`: whole numbers as flat arrays with the length
            of each list, anything else as JSON; never pickle.
Key:        records, task with its settings and state, tokenizer, longest input, and the code of
            this package and of the tokenizer libraries. There is nothing to clear by hand.
Invariants: what is read back equals what tokenising gives. A file appears by one rename. A damaged
            one is said, and made anew. All files together stay below `LIMIT_BYTES`; those not
            used for longest go first. What was tokenised in less than `MIN_SECONDS` is not kept.
Errors:     none: a folder that cannot be read or written costs the tokenising only.
Not here:   tokenising (`tasks/`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from lightune.models.store import home
from lightune.runs.environment import code_hash, package_version
from lightune.types import Example

MIN_SECONDS = 1.0
"""Below this, keeping costs about what it saves."""

LIMIT_BYTES = 2 * 10**9
SUFFIX = ".safetensors"
LIBRARIES = ("tokenizers", "transformers")

Arrays = dict[str, np.ndarray]


def encoded(
    make: Callable[[], list[Example]],
    decided_by: Mapping[str, Any],
    note: Callable[[str], None] = lambda text: None,
    folder: Path | None = None,
) -> list[Example]:
    """Return `make()`, from the cache where it is there.

    Args:
        make: tokenises.
        decided_by: JSON-ready; together with the code it decides what `make` gives.
        note: takes a sentence where a file was damaged.
        folder: None takes the user's cache folder.
    """
    folder = folder or home() / "tokens"
    file = folder / f"{key_of(decided_by)}{SUFFIX}"
    kept = _read(file, note)
    if kept is not None:
        with contextlib.suppress(OSError):
            os.utime(file)
        return kept
    begun = time.perf_counter()
    examples = make()
    if time.perf_counter() - begun >= MIN_SECONDS:
        arrays = pack(examples)
        if arrays is not None:
            with contextlib.suppress(OSError):
                _write(file, arrays)
                _make_room(folder)
    return examples


def key_of(decided_by: Mapping[str, Any]) -> str:
    """Return the name of an entry: a hash over what decides it and over the code."""
    libraries = {name: package_version(name) for name in LIBRARIES}
    whole = {"decided_by": decided_by, "code": code_hash(), "libraries": libraries}
    text = json.dumps(whole, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def pack(examples: Sequence[Example]) -> Arrays | None:
    """Return examples as arrays, or None where some part of them would not come back equal."""
    names = list(examples[0].inputs) if examples else []
    if any(list(e.inputs) != names for e in examples):
        return None
    columns = {
        "indices": [e.index for e in examples],
        "targets": [e.target for e in examples],
        "prompts": [e.prompt for e in examples],
        "dropped": [e.dropped for e in examples],
        "sources": [e.source for e in examples],
        **{f"inputs/{name}": [e.inputs[name] for e in examples] for name in names},
    }
    arrays: Arrays = {"count": np.array([len(examples)])}
    for name, values in columns.items():
        packed = _pack_column(values)
        if packed is None:
            return None
        arrays |= {f"{name}/{part}": array for part, array in packed.items()}
    return arrays


def unpack(arrays: Arrays) -> list[Example]:
    """Return the examples that `pack` was given."""
    columns: dict[str, Arrays] = {}
    for path, array in arrays.items():
        name, _, part = path.rpartition("/")
        columns.setdefault(name, {})[part] = array
    values = {name: _unpack_column(parts) for name, parts in columns.items() if name}
    inputs = {name.split("/", 1)[1]: values[name] for name in values if name.startswith("inputs/")}
    columns_of = ("indices", "targets", "dropped", "prompts", "sources")
    rows = zip(*(values[name] for name in columns_of), strict=True)
    return [
        Example(index, {name: column[i] for name, column in inputs.items()}, *rest)
        for i, (index, *rest) in enumerate(rows)
    ]


def _pack_column(values: list[Any]) -> Arrays | None:
    """Return one value per example as numbers, as lists of numbers, or as JSON."""
    if all(type(value) is int for value in values):
        return {"numbers": np.array(values, dtype=np.int64)}
    if all(type(value) is list for value in values):
        flat = [item for value in values for item in value]
        if all(type(item) is int for item in flat):
            lengths = np.array([len(value) for value in values], dtype=np.int64)
            return {"flat": np.array(flat, dtype=np.int64), "lengths": lengths}
    try:
        text = json.dumps(values, allow_nan=False)
    except (TypeError, ValueError):
        return None
    if not _same(json.loads(text), values):
        return None
    return {"json": np.frombuffer(text.encode(), dtype=np.uint8)}


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal with their types: a tuple is no list, True is not 1."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _unpack_column(parts: Arrays) -> list[Any]:
    if "numbers" in parts:
        return parts["numbers"].tolist()
    if "json" in parts:
        return list(json.loads(parts["json"].tobytes()))
    flat, ends = parts["flat"].tolist(), np.cumsum(parts["lengths"]).tolist()
    return [flat[start:end] for start, end in zip([0, *ends][:-1], ends, strict=True)]


def _digest(arrays: Arrays) -> np.ndarray:
    """Return a hash of everything else in the file, which is kept in it."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].size}\n".encode())
        digest.update(arrays[name].tobytes())
    return np.frombuffer(digest.digest(), dtype=np.uint8)


def _read(file: Path, note: Callable[[str], None]) -> list[Example] | None:
    try:
        content = file.read_bytes()
    except OSError:
        return None
    with contextlib.suppress(SafetensorError, ValueError, KeyError):  # not what we wrote: made anew
        arrays = load(content)
        if bytes(arrays.pop("sha256", np.zeros(0))) == bytes(_digest(arrays)):
            return unpack(arrays)
    note(f"{file} is damaged: its records are tokenised again")
    return None


def _write(file: Path, arrays: Arrays) -> None:
    content = save({**arrays, "sha256": _digest(arrays)})
    if len(content) > LIMIT_BYTES:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _make_room(folder: Path) -> None:
    """Remove the entries not used for longest until all fit the limit."""
    found = sorted((path.stat().st_mtime, path) for path in folder.glob(f"*{SUFFIX}"))
    total = sum(path.stat().st_size for _, path in found)
    for _, path in found:
        if total <= LIMIT_BYTES:
            return
        total -= path.stat().st_size
        path.unlink(missing_ok=True)
