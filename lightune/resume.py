"""What a stopped or killed run goes on from, and that it is still the same training.

Why:        a run that goes on with other data, another base or another rank would be neither of
            two trainings. So all that decides the result is compared with what the run recorded,
            and the machine's plan is taken from there instead of being measured again.
May change: what `CHANGEABLE` names, and only where the user names it (`-s train.epochs=6`).
Errors:     `RunError` for a run that cannot go on; nothing has been changed then.
Not here:   the checkpoint's files (`train/checkpoint.py`), the training (`pipeline.py`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightune import strict_yaml
from lightune.assembly import Job
from lightune.engine.plan import Plan, default_device
from lightune.errors import ConfigError, LightuneError, RunError
from lightune.methods.base import Attachment
from lightune.recipe import Recipe, dump, load_recipe
from lightune.runs.environment import environment
from lightune.runs.files import write_jsonl
from lightune.runs.folder import RunFolder, free_path
from lightune.runs.log import read_log
from lightune.runs.sealed import SEAL
from lightune.runs.warned import WARNINGS
from lightune.sealing import INPUT
from lightune.train.checkpoint import Checkpoint, check_fits, folders, latest
from lightune.train.loop import planned_steps

MORE = ("train.epochs", "train.max_steps")
"""May grow."""

CHANGEABLE = (
    *MORE,
    *("train.save_steps", "train.seal", "train.trackers", "train.evaluation.log_every"),
    "train.engine.token_cache",
)
"""What a run may go on with otherwise than it began."""

HALF_WRITTEN = (".prefix-*", ".adapter.*.tmp", ".*.part", INPUT)
"""Names of what a killed training leaves in its folder; other hidden files are the user's."""

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Earlier:
    """A run as it was left.

    Attributes:
        folder: of the run.
        recipe: to go on with.
        plan: recorded; None where the run was killed before there was one.
        checkpoint: to go on from; None where the run was killed before it saved any.
        changes: key -> then and now, of what the user changes.
        environment: recorded.
        report: recorded, of the data.
    """

    folder: RunFolder
    recipe: Recipe
    plan: Plan | None
    checkpoint: Checkpoint | None
    changes: dict[str, list[Any]]
    environment: dict[str, Any]
    report: dict[str, Any]

    @property
    def seconds(self) -> float:
        """Time that was trained until the checkpoint."""
        return float(self.checkpoint.facts["seconds"]) if self.checkpoint else 0.0


def reopen(folder: RunFolder, overrides: Sequence[str] | Mapping[str, Any], note: Note) -> Earlier:
    """Return what the run in `folder` goes on from. Its lock is held.

    Args:
        overrides: what the user changes, as `load_recipe` takes it.
        note: told of damaged checkpoints, and of a machine that differs.

    Raises:
        RunError: it has ended, its checkpoints are missing or damaged, or something must not be
            changed.
    """
    before = load_recipe(folder.recipe)
    recipe = load_recipe(before, overrides) if overrides else before
    known = folder.environment.is_file() and folder.data_report.is_file()
    recorded = folder.read(folder.environment) if known else {}
    report = folder.read(folder.data_report) if known else {}
    changes = differences(before, recipe)
    _check_changes(changes)
    _check_open(folder, before, changes)
    checkpoint = latest(folder.checkpoints, note) if folder.checkpoints.is_dir() else None
    if checkpoint is None and (folder.finished or not folder.checkpoints.is_dir()):
        raise RunError(
            f"{folder.path} has no checkpoints to go on from",
            found=f"none in {folder.checkpoints}",
            mend=_anew(folder),
        )
    if checkpoint is None:
        note(f"{folder.path} was stopped before its first checkpoint: it begins anew")
    else:
        _check_recipe(checkpoint, recipe, changes, recorded)
    plan = Plan.model_validate(recorded["plan"]) if known else None
    if plan and plan.device != "cpu" and plan.device != default_device():
        note(f"the run used {plan.device}, which is not here: it goes on on {default_device()}")
        plan = None
    for sentence in _elsewhere(recorded) if known else ():
        note(sentence)
    return Earlier(folder, recipe, plan, checkpoint, changes, recorded, report)


def check_same(earlier: Earlier, job: Job) -> None:
    """Refuse to go on with other records, another base model, or another start.

    Raises:
        RunError: what differs, then and now; or there is nothing left to train.
    """
    _check_more(earlier, job)
    then, now = earlier.report.get("splits", {}), job.splits.report["splits"]
    for split in sorted(then.keys() | now.keys()) if then else ():
        a, b = (side.get(split, {}).get("sha256") for side in (then, now))
        if a != b:
            raise RunError(
                f"the {split} records of {earlier.folder.path} changed since it began",
                found=f"{now.get(split, {}).get('rows', 0)} rows {str(b)[:12]}…, "
                f"then {then.get(split, {}).get('rows', 0)} rows {str(a)[:12]}…",
                mend="put the data back as it was, or train anew",
            )
    base = earlier.environment.get("base", {})
    for key, value in job.manifest.base.model_dump().items():
        if key.endswith("sha256") and base and base.get(key) != value:
            raise RunError(
                f"{earlier.folder.path} began with another base model ({key.split('_')[0]})",
                found=f"now {str(value)[:16]}…, then {str(base.get(key))[:16]}…",
                mend="put the base model's files back as they were, or train anew",
            )
    if earlier.checkpoint:
        check_fits(earlier.checkpoint, job.trainable)
        if earlier.checkpoint.facts["constants"] != constants_hash(job.attachments):
            raise RunError(
                f"{job.recipe.method.name} starts from other values here than where the run began",
                found="its frozen start differs: another machine, or another version of torch",
                mend="go on where the run began, or train anew",
            )


def make_ready(earlier: Earlier) -> None:
    """Take away what the run wrote after its checkpoint, and what it left half written."""
    folder, step = earlier.folder, earlier.checkpoint.state.step if earlier.checkpoint else 0
    for file in (folder.eval, folder.path / SEAL):
        file.unlink(missing_ok=True)  # first: from now on the run is not finished
    for left in (path for name in HALF_WRITTEN for path in folder.path.glob(name)):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
    if folder.metrics.is_file():
        rows = read_log(folder.metrics)
        write_jsonl(folder.metrics, [row for row in rows if row.get("step", 0) <= step])


@contextmanager
def put_back(folder: RunFolder) -> Iterator[None]:
    """Put a finished run's files back where training it on fails; its checkpoints are left."""
    changed = [folder.recipe, folder.environment, folder.data_report, folder.metrics]
    changed += [folder.path / WARNINGS, folder.path / SEAL]
    changed += [folder.eval]  # the last: with it the run is finished again
    kept = {file: file.read_bytes() for file in changed if folder.finished and file.is_file()}
    try:
        yield
    except LightuneError:
        with suppress(OSError):
            for file, content in kept.items():
                part = file.with_name(f".{file.name}.{os.getpid()}.part")
                part.write_bytes(content)
                part.replace(file)
        raise


def history(earlier: Earlier) -> dict[str, Any]:
    """Return what `environment.json` says of how the run began (`began`), and of each time it went
    on (`resumed`), this time included."""
    here = environment()
    entry = {
        "step": earlier.checkpoint.state.step if earlier.checkpoint else 0,
        "changes": earlier.changes,
        **{key: here[key] for key in ("date", "lightune", "code_sha256", "packages", "cpu")},
    }
    recorded = {k: v for k, v in earlier.environment.items() if k not in ("began", "resumed")}
    began = earlier.environment.get("began", recorded)
    return {
        **({"began": began} if began else {}),
        "resumed": [*earlier.environment.get("resumed", []), entry],
    }


def differences(before: Recipe, after: Recipe) -> dict[str, list[Any]]:
    """Return `{key: [then, now]}` of every setting that differs, by dotted key."""
    return _different(dump(before), dump(after))


def facts_of(job: Job, seconds: float) -> dict[str, Any]:
    """Return what a checkpoint keeps beside the state: recipe, constants, time spent."""
    return {
        "recipe": dump(job.recipe),
        "constants": constants_hash(job.attachments),
        "seconds": seconds,
    }


def constants_hash(attachments: Sequence[Attachment]) -> str:
    """Return a hash of all that the methods made at their start and do not train."""
    digest = hashlib.sha256()
    for part in attachments:
        for path, tensor in part.constants.items():
            digest.update(f"{path} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def cannot_save(attachments: Sequence[Attachment]) -> str | None:
    """Return why a training has no checkpoints, or None.

    PEFT's ADALORA keeps sums over all steps in an object of its own, which only pickle would hold.
    """
    parts = [*attachments, *(p for a in attachments for p in getattr(a, "parts", ()))]
    if any(getattr(part, "budgets", None) for part in parts):
        return "ADALORA keeps a state of its own while training, which is not saved"
    return None


def _different(before: str, after: str) -> dict[str, list[Any]]:
    a, b = (_flat(strict_yaml.read(text, "recipe")) for text in (before, after))
    keys = [*a, *(key for key in b if key not in a)]
    return {key: [a.get(key), b.get(key)] for key in keys if a.get(key) != b.get(key)}


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _check_changes(changes: Mapping[str, list[Any]]) -> None:
    """Refuse to change what decides the steps that were done already."""
    for key, (then, now) in changes.items():
        if key not in CHANGEABLE:
            raise ConfigError(
                f"{key}: a run goes on with what it began with",
                found=f"then {then!r}, now {now!r}",
                mend=f"leave it out; what may change: {', '.join(CHANGEABLE)}. For another "
                f"{key} train a new run, from this one's weights with -s train.from=RUN",
            )
        if key in MORE and not _more(then, now):
            raise ConfigError(
                f"{key}: may only grow when a run goes on",
                found=f"then {then!r}, now {now!r}",
                mend=f"-s {key}={then} or more",
            )


def _more(then: Any, now: Any) -> bool:
    """Whether a limit was raised; null is none at all."""
    return now is None or (then is not None and now > then)


def _anew(folder: RunFolder) -> str:
    """Return how to train on where there is no checkpoint: from the weights, if there are any."""
    weights = f" -s train.from={folder.path}" if folder.manifest.is_file() else ""
    out = free_path(folder.path)
    return f"train it anew: lightune train {folder.recipe} --out {out}{weights}"


def _binding(recipe: Recipe, steps: int) -> str:
    """Return the key of the limit that a training of `steps` steps has reached."""
    most = recipe.train.max_steps
    return "train.max_steps" if most is not None and steps >= most else "train.epochs"


def _check_more(earlier: Earlier, job: Job) -> None:
    """Refuse to raise a limit that is not the one that ended the training."""
    step = earlier.checkpoint.state.step if earlier.checkpoint else 0
    planned = planned_steps(len(job.examples["train"]), job.recipe.train)
    if planned <= step and any(key in earlier.changes for key in MORE):
        raise RunError(
            f"{earlier.folder.path} would not train on: it has done {step} of {planned} steps",
            found=", ".join(f"{key}: {now}" for key, (_, now) in earlier.changes.items()),
            mend=f"a higher limit: -s {_binding(job.recipe, step)}=NUMBER",
        )


def _check_open(folder: RunFolder, before: Recipe, changes: Mapping[str, Any]) -> None:
    """Refuse a run that ended by itself, unless it is given more to do."""
    if not folder.finished:
        return
    report = folder.read(folder.eval)
    stopped = report.get("stopped")
    if stopped in (None, "early stopping") and not any(key in changes for key in MORE):
        raise RunError(
            f"{folder.path} has ended; there is nothing to go on with",
            found=f"stopped: {stopped or 'no, it is trained to its end'}",
            mend=f"to train on: -s {_binding(before, report.get('steps') or 0)}=NUMBER"
            if folders(folder.checkpoints)
            else _anew(folder),
        )


def _check_recipe(
    checkpoint: Checkpoint,
    recipe: Recipe,
    changes: Mapping[str, Any],
    recorded: Mapping[str, Any],
) -> None:
    """Refuse a recipe that was edited since the checkpoint."""
    past: set[str] = set()
    for entry in recorded.get("resumed", []):
        past |= set(entry["changes"])
    try:
        wrong = _different(checkpoint.facts["recipe"], dump(recipe))
    except (KeyError, ConfigError):
        wrong = _different("{}", dump(recipe))
    edited = [key for key in wrong if key not in changes and key not in past]
    if edited:
        key = edited[0]
        then, now = wrong[key]
        raise RunError(
            f"the recipe of {checkpoint.path.parents[1]} was changed since it was saved: {key}",
            found=f"then {then!r}, now {now!r}"
            + (f"; and {len(edited) - 1} more" if edited[1:] else ""),
            mend=f"put it back; to change it knowingly: -s {key}={now}"
            if key in CHANGEABLE
            else f"put it back: `{key}: {then}`",
        )


def _elsewhere(recorded: Mapping[str, Any]) -> list[str]:
    """Return in words what of machine and versions differs, as the last digits then may."""
    here = environment()
    pairs = [(key, recorded.get(key), here[key]) for key in ("cpu", "lightune", "code_sha256")]
    then = recorded.get("packages", {})
    names = [*then, *(name for name in here["packages"] if name not in then)]
    pairs += [(name, then.get(name), here["packages"].get(name)) for name in names]
    different = [
        f"{name} {str(now)[:24]} (then {str(old)[:24]})" for name, old, now in pairs if old != now
    ]
    if not different:
        return []
    return [
        f"the run goes on under other conditions, so the last digits may differ: "
        f"{'; '.join(different)}"
    ]


def remove_if_empty(folder: Path) -> None:
    """Remove the folder of checkpoints where none was written."""
    with suppress(OSError):
        folder.rmdir()
