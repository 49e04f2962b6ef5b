"""The run folder: where everything one training leaves is, and whether it is all there.

    runs/mine/
    ├── recipe.yaml          resolved: every default written out
    ├── environment.json     versions, machine, plan, seeds, hashes
    ├── data_report.json     what the checks found, per split
    ├── warnings.json        what was odd before and while training, and what was looked at
    ├── metrics.jsonl        one line per logged step and per evaluation
    ├── eval.json            final metrics with intervals; written last
    ├── predictions.jsonl    one line per test record
    ├── loss.png  confusion_matrix.png
    ├── README.md            the model card
    ├── adapter/             the trained weights and their manifest, lightune.json
    └── checkpoints/         what a stopped run resumes from

Invariants: a folder that exists is never written into by a new run. A run is finished when all of
            `REQUIRED` is there; `eval.json` is the last of them to be written.
Errors:     `RunError` for what exists, lacks, or is no run; `ResourceError` for a full disk.
Not here:   the content of the files (their writers), the weights (`adapters/`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import count
from pathlib import Path
from typing import Any

from lightune import strict_yaml
from lightune.errors import RunError
from lightune.runs.files import disk_errors, sync_folder, write_json, write_jsonl, write_text

RECIPE = "recipe.yaml"
REQUIRED = (RECIPE, "environment.json", "data_report.json", "adapter/lightune.json", "eval.json")
"""What a finished run has, in the order of writing."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run. Made by `create` or `open`.

    Attributes:
        path: of the folder.
    """

    path: Path

    @classmethod
    def create(cls, path: str | Path) -> RunFolder:
        """Make a new, empty run folder, its parents as needed.

        Raises:
            RunError: something of that name exists; a free name is proposed.
            ResourceError: the disk is full.
        """
        path = Path(path)
        try:
            with disk_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.mkdir()
                sync_folder(path.parent)
        except (FileExistsError, NotADirectoryError):
            check_free(path)
            raise RunError(
                f"{path} was made by another process just now",
                found="a folder of that name",
                mend="choose another folder: --out DIR",
            ) from None
        return cls(path)

    @classmethod
    def create_default(cls, task: str, model: str, method: str) -> RunFolder:
        """Make `runs/<task>-<model>-<method>`, with `-2`, `-3` … behind it until it is free."""
        path = default_path(task, model, method)
        while True:
            try:
                return cls.create(free_path(path))
            except RunError:
                if not path.exists():  # not another run's race for the name, but a real obstacle
                    raise

    @classmethod
    def open(cls, path: str | Path, finished: bool = True) -> RunFolder:
        """Return the run in an existing folder.

        Args:
            path: the run folder; its `adapter` folder is understood as well.
            finished: refuse a run whose training did not end.

        Raises:
            RunError: no such folder, no run folder, or a file is missing; which, is named.
        """
        path = Path(path)
        if not path.is_dir():
            raise _no_such(path)
        if not (path / RECIPE).is_file() and (path.parent / RECIPE).is_file():
            path = path.parent if path.name == "adapter" else path
        missing = [name for name in REQUIRED if not (path / name).is_file()]
        if RECIPE in missing:
            raise RunError(
                f"{path} is not a run folder",
                found=f"no {RECIPE} in it; {_listing(path)}",
                mend="name the folder that `lightune train --out` wrote",
            )
        if missing and finished:
            done = "eval.json" not in missing
            raise RunError(
                f"{path} is incomplete" if done else f"the training in {path} did not finish",
                found=f"missing: {', '.join(missing)}",
                mend="copy the folder again from where it came"
                if done
                else f"lightune train --resume {path}"
                if (path / "checkpoints").is_dir()
                else f"lightune train {path / RECIPE} --out {free_path(path)}",
            )
        return cls(path)

    @property
    def recipe(self) -> Path:
        return self.path / RECIPE

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def data_report(self) -> Path:
        return self.path / "data_report.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def eval(self) -> Path:
        return self.path / "eval.json"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions.jsonl"

    @property
    def loss_plot(self) -> Path:
        return self.path / "loss.png"

    @property
    def confusion_plot(self) -> Path:
        return self.path / "confusion_matrix.png"

    @property
    def card(self) -> Path:
        return self.path / "README.md"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def manifest(self) -> Path:
        return self.adapter / "lightune.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def finished(self) -> bool:
        """Whether everything that a finished run has is there."""
        return all((self.path / name).is_file() for name in REQUIRED)

    def write(self, file: Path, value: Any) -> None:
        """Write one of the run's files whole: JSON, JSONL and text by the name's ending.

        Raises:
            ResourceError: the disk is full. What was there before is unharmed.
        """
        if file.suffix == ".json":
            write_json(file, value)
        elif file.suffix == ".jsonl":
            write_jsonl(file, value)
        else:
            write_text(file, value)

    def read(self, file: Path) -> dict[str, Any]:
        """Return what one of the run's JSON or YAML files holds.

        Raises:
            RunError: it is missing or damaged.
        """
        try:
            if file.suffix == ".yaml":
                value = strict_yaml.read_file(file)
            else:
                value = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(
                f"{file} is missing",
                found=_listing(file.parent),
                mend="copy the folder again from where it came",
            ) from None
        except ValueError as error:  # a ConfigError of YAML is one as well
            raise _damaged(file, str(error).splitlines()[0]) from None
        if not isinstance(value, Mapping):
            raise _damaged(file, f"holds {type(value).__name__}, not a mapping")
        return dict(value)


def check_free(path: str | Path) -> None:
    """Refuse a path for a new run where something is already, before any work is done.

    Raises:
        RunError: it exists, or a file stands where one of its parents should be.
    """
    path = Path(path)
    if path.is_symlink() or path.exists():
        what = _listing(path) if path.is_dir() else "it is a file"
        raise RunError(
            f"{path} exists already, and a run is never overwritten",
            found=what,
            mend=f"--out {free_path(path)}",
        )
    for parent in path.parents:
        if parent.exists() and not parent.is_dir():
            raise RunError(
                f"{path} cannot be made: {parent} is a file",
                found=f"a file of {parent.stat().st_size:,} bytes",
                mend="choose another folder: --out DIR",
            )


def default_path(task: str, model: str, method: str) -> Path:
    """Return `runs/<task>-<model>-<method>`, the name a run has when none is given."""
    return Path("runs") / "-".join(_word(name) for name in (task, model, method))


def free_path(path: Path) -> Path:
    """Return `path`, or the first of `path-2`, `path-3` … where nothing is."""
    if not (path.is_symlink() or path.exists()):
        return path
    base, name = re.sub(r"-\d+$", "", path.name), path.name
    if path.with_name(base).exists():  # `mine-2` beside `mine`: go on with `mine-3`
        name = base
    candidates = (path.with_name(f"{name}-{number}") for number in count(2))
    return next(free for free in candidates if not (free.is_symlink() or free.exists()))


def _word(name: str) -> str:
    """Return the last part of a model's name or path as a word that any file system takes."""
    last = re.split(r"[/\\:]", name.rstrip("/\\"))[-1]
    return re.sub(r"[^\w.-]+", "_", last).strip("._-")[:60] or "model"


def _listing(path: Path) -> str:
    names = sorted(entry.name for entry in path.iterdir())
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return f"it holds {', '.join(names[:6])}{more}" if names else "it is empty"


def _no_such(path: Path) -> RunError:
    if path.exists():
        return _a_file(path)
    around = path.parent if path.parent.is_dir() else Path(".")
    runs = sorted(folder.name for folder in around.iterdir() if (folder / RECIPE).is_file())
    near = get_close_matches(path.name, runs, n=1, cutoff=0.4) or runs[-1:]
    return RunError(
        f"there is no run folder {path}",
        found=f"runs in {around}: {', '.join(runs[:8]) or 'none'}",
        mend=f"did you mean `{around / near[0]}`?" if near else "`lightune train` makes one",
    )


def _a_file(path: Path) -> RunError:
    inside = next((folder for folder in path.parents if (folder / RECIPE).is_file()), None)
    return RunError(
        f"{path} is a file, not a run folder",
        found=f"a file of {path.stat().st_size:,} bytes",
        mend=f"name the run it is in: `{inside}`"
        if inside
        else "name the folder that `lightune train --out` wrote, and the file behind it",
    )


def _damaged(file: Path, reason: str) -> RunError:
    return RunError(
        f"{file} is damaged", found=reason, mend="copy the file again from where it came"
    )
