"""A training's state as a folder that is whole, or is known not to be.

    checkpoints/step-000000400/
    ├── weights.safetensors   the trained weights, float32
    ├── moments.safetensors   AdamW's state: step, exp_avg, exp_avg_sq of each weight
    ├── best.safetensors      the weights that scored best so far, where they are kept
    ├── state.json            counters, early stopping, best scores, what the caller adds
    └── manifest.json         size and SHA-256 of each of these files; written last

Writing:    into a hidden folder beside, each file fsynced, the manifest last; the folder fsynced,
            renamed, its parent fsynced. A crash at any moment leaves the former checkpoints and
            perhaps a hidden folder, which nobody reads.
Reading:    nothing is believed before every hash is right and no file lacks or is too many. A
            damaged one is set aside under another name, said, and the one before it is taken.
Random:     no random state is among it: what a step draws (`torch.manual_seed`, dropout's pools
            and places) and the order of the records are pure functions of seed, epoch and step.
Not here:   when to save and how many are kept (`saver.py`), what a resume compares (`resume.py`).
"""

import hashlib
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lightune.errors import RunError
from lightune.runs.files import sync_folder
from lightune.train.state import Best, LoopState
from lightune.train.tensor_file import write_tensors

FORMAT = 1
"""Rises when an older Lightune could misread a newer checkpoint."""

WEIGHTS, MOMENTS, BEST = "weights.safetensors", "moments.safetensors", "best.safetensors"
STATE, MANIFEST = "state.json", "manifest.json"
COUNTERS = ("step", "epoch", "position", "stale", "skipped")
JSON_LIMIT = 16 * 2**20
"""Largest JSON file read, in bytes."""

AGAIN = "copy the folder again from where it came"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint as read.

    Attributes:
        path: of its folder.
        state: of the loop.
        facts: what the caller added when it was written.
    """

    path: Path
    state: LoopState
    facts: dict[str, Any]


def folders(parent: Path) -> list[Path]:
    """Return the folders of checkpoints in `parent`, the oldest first."""
    found = parent.iterdir() if parent.is_dir() else ()
    named = [folder for folder in found if re.fullmatch(r"step-[0-9]{9,}", folder.name)]
    return sorted(named, key=lambda folder: int(folder.name[5:]))


def write(parent: Path, state: LoopState, facts: Mapping[str, Any]) -> Path:
    """Write a checkpoint into `parent`, all of it or nothing.

    Args:
        parent: the run's folder of checkpoints; made where it is not there.
        state: complete, as `capture` gives it.
        facts: JSON values to keep with it.

    Raises:
        OSError: the disk is full, or may not be written. What was there before is unharmed.
    """
    final = parent / f"step-{state.step:09d}"
    parent.mkdir(exist_ok=True)
    if final.exists():  # of a run that went on from here and stopped at once
        try:
            return read(final).path
        except RunError:
            _rename_away(final, "damaged")
    part = parent / f".{final.name}.{os.getpid()}.part"
    try:
        part.mkdir()
        files = {WEIGHTS: state.weights, MOMENTS: _flat(state.moments)}
        if state.best and state.best.weights:
            files[BEST] = state.best.weights
        hashes = {name: write_tensors(part / name, tensors) for name, tensors in files.items()}
        hashes[STATE] = _write_json(part / STATE, _described(state, facts))
        listed = {
            name: {"bytes": (part / name).stat().st_size, "sha256": digest}
            for name, digest in hashes.items()
        }
        _write_json(part / MANIFEST, {"format": FORMAT, "step": state.step, "files": listed})
        sync_folder(part)
        part.rename(final)
        sync_folder(parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return final


def read(folder: Path) -> Checkpoint:
    """Return the checkpoint in `folder`, every byte of it checked.

    Raises:
        RunError: a file is missing, damaged, too many, a link, or of another format.
    """
    manifest = _json(folder, MANIFEST)
    listed = manifest.get("files")
    if set(manifest) != {"format", "step", "files"} or not isinstance(listed, dict):
        raise _bad(folder / MANIFEST, "it is no manifest of a checkpoint")
    if manifest["format"] != FORMAT:
        raise RunError(
            f"{folder} has a format that this Lightune does not read",
            found=f"format {manifest['format']!r}; this one reads {FORMAT}",
            mend="go on with the Lightune that wrote it",
        )
    there = {entry.name for entry in folder.iterdir()} - {MANIFEST}
    if there != set(listed):
        lacking, more = sorted(set(listed) - there), sorted(there - set(listed))
        raise _bad(folder, f"missing: {lacking or 'none'}; not of it: {more or 'none'}")
    for name, expected in listed.items():
        _check_file(folder / name, expected)
    needed = {WEIGHTS, MOMENTS, STATE}
    if not needed <= there <= needed | {BEST}:
        raise _bad(folder, f"it lists {', '.join(sorted(there))}")
    described = _json(folder, STATE)
    try:
        state = LoopState(
            **{name: int(described[name]) for name in COUNTERS},
            best=_best(described["best"], _tensors(folder / BEST) if BEST in there else {}),
            weights=_tensors(folder / WEIGHTS),
            moments=_nested(_tensors(folder / MOMENTS)),
            loss_scale=described["loss_scale"],
        )
        facts = dict(described["facts"])
    except (KeyError, TypeError, ValueError) as error:
        raise _bad(folder / STATE, f"{type(error).__name__}: {error}") from None
    if state.step != manifest["step"] or folder.name != f"step-{state.step:09d}":
        raise _bad(folder, f"it says step {state.step}")
    return Checkpoint(folder, state, facts)


def latest(parent: Path, note: Callable[[str], None]) -> Checkpoint | None:
    """Return the newest checkpoint that is whole; None where there is none at all.

    Args:
        note: told of each damaged one, which is renamed to `damaged-step-…` where an older one is
            whole.

    Raises:
        RunError: there are some, or were some, and none of them is whole; all stay as they are.
    """
    refused: dict[Path, RunError] = {}
    for folder in reversed(folders(parent)):
        try:
            found = read(folder)
        except RunError as error:
            refused[folder] = error
            continue
        for bad, why in refused.items():
            aside = _rename_away(bad, "damaged")
            note(f"{why.problem} ({why.found}); set aside as {aside.name}")
        return found
    before = sorted(folder.name for folder in parent.glob("damaged-*"))
    if refused or before:
        raise RunError(
            f"no checkpoint in {parent} is whole",
            found="; ".join([*(f"{e.problem}: {e.found}" for e in refused.values()), *before]),
            mend=f"{AGAIN}, or train anew",
        )
    return None


def check_fits(checkpoint: Checkpoint, trainable: Mapping[str, nn.Parameter]) -> None:
    """Refuse a state of other weights than those to be trained.

    Raises:
        RunError: names or shapes differ; some are named.
    """
    expected = {path: tuple(weight.shape) for path, weight in trainable.items()}
    state = checkpoint.state
    sets = {WEIGHTS: state.weights}
    if state.best and state.best.weights:
        sets[BEST] = state.best.weights
    for key in ("exp_avg", "exp_avg_sq"):
        sets[f"{MOMENTS} ({key})"] = {p: m[key] for p, m in state.moments.items() if key in m}
    for name, tensors in sets.items():
        found = {path: tuple(tensor.shape) for path, tensor in tensors.items()}
        wrong = sorted(p for p in expected.keys() | found.keys() if expected.get(p) != found.get(p))
        if name.startswith(MOMENTS):  # a weight that no gradient reached has no moments
            wrong = [path for path in wrong if path in found]
        if wrong:
            path = wrong[0]
            raise RunError(
                f"{checkpoint.path / name.partition(' ')[0]} is not of this training: "
                f"{len(wrong)} tensors differ",
                found=f"{path}: saved {found.get(path)}, to be trained {expected.get(path)}",
                mend="go on with the recipe, the data and the model that the run began with",
            )


def _described(state: LoopState, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return all of a state but its tensors."""
    best = state.best and {
        "step": state.best.step,
        "value": _number(state.best.value),
        "metrics": {name: _number(value) for name, value in state.best.metrics.items()},
    }
    counters = {name: getattr(state, name) for name in COUNTERS}
    return {**counters, "best": best, "loss_scale": state.loss_scale, "facts": dict(facts)}


def _number(value: float) -> float | str:
    """Return a number as JSON holds it: `nan` and `inf` as text, which `float` reads."""
    value = float(value)
    return value if math.isfinite(value) else str(value)


def _best(described: Any, weights: dict[str, Tensor]) -> Best | None:
    if described is None:
        return None
    metrics = {name: float(value) for name, value in described["metrics"].items()}
    return Best(int(described["step"]), float(described["value"]), metrics, weights)


def _flat(moments: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{key}/{path}": t for path, state in moments.items() for key, t in state.items()}


def _nested(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    moments: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        key, _, path = name.partition("/")
        moments.setdefault(path, {})[key] = tensor
    return moments


def _tensors(path: Path) -> dict[str, Tensor]:
    """Return a file's tensors in memory of their own, as the file may be deleted soon."""
    try:
        return {name: tensor.clone() for name, tensor in load_file(path).items()}
    except SafetensorError as error:
        raise _bad(path, str(error)) from None


def _write_json(path: Path, value: Any) -> str:
    """Write a new JSON file and fsync it; return its SHA-256."""
    content = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False).encode()
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(content).hexdigest()


def _json(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    if _size(path) > JSON_LIMIT:
        raise _bad(path, f"{_size(path):,} bytes, at most {JSON_LIMIT:,} are read")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _bad(path, str(error)) from None
    if not isinstance(value, dict):
        raise _bad(path, f"it holds {type(value).__name__}, not a JSON object")
    return value


def _size(path: Path) -> int:
    """Return the size of a plain file."""
    try:
        found = path.lstat()
    except OSError as error:
        raise _bad(path, str(error.strerror)) from None
    if not stat.S_ISREG(found.st_mode):
        raise _bad(path, "it is not a plain file")
    return found.st_size


def _check_file(path: Path, expected: Any) -> None:
    size = _size(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if expected != {"bytes": size, "sha256": digest}:
        raise _bad(path, f"{size:,} bytes, SHA-256 {digest[:16]}…; written were {expected}")


def _bad(path: Path, found: str) -> RunError:
    return RunError(f"{path} is damaged", found=found, mend=AGAIN)


def _rename_away(folder: Path, word: str) -> Path:
    """Give a checkpoint a name that nobody looks for; return it."""
    number, aside = 1, folder.with_name(f"{word}-{folder.name}")
    while aside.exists():
        number += 1
        aside = folder.with_name(f"{word}-{folder.name}-{number}")
    folder.rename(aside)
    return aside
