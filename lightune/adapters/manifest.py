"""The manifest `lightune.json`: what binds an adapter to its base model, task and labels.

Why:        PEFT's `adapter_config.json` has no hash of the base, so an adapter loads in silence
            onto another model of the same shape, and no labels, so class 0 has no name.
Invariants: unknown keys are refused, so that a newer file is never read by half; it holds nothing
            that differs between two equal runs (no time, no folder names), so that equal runs give
            equal adapters, byte for byte.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError

from lightune import __version__
from lightune.adapters.files import MANIFEST, read_json, regular_file, sha256
from lightune.errors import AdapterError
from lightune.methods.base import Layout, Method
from lightune.settings import Settings
from lightune.types import HeadKind

FORMAT: Literal[1] = 1
"""Version of the manifest. It rises when an older Lightune could misread a newer file."""

PlainName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class BaseModelId(Settings):
    """Which base model an adapter was trained on."""

    name: str = ""
    """What the recipe called it."""
    source: str = ""
    """Where it came from: a hub id, a package or a folder."""
    revision: str = ""
    """The hub's revision, where there is one."""
    tensors_sha256: Sha256 | None = None
    """Hash of the base's tensors, new modules left out. None in folders that PEFT wrote."""
    tokenizer_sha256: Sha256 | None = None
    """Hash of the tokenizer's file."""


class HeadId(Settings):
    """The output layer an adapter was trained with."""

    kind: HeadKind
    """Which output layer."""
    labels: tuple[str, ...] = ()
    """Class names in the order of the logits."""
    multi_label: bool = False
    """Several classes may hold at once."""


class Manifest(Settings):
    """Everything needed to use an adapter again, and to refuse where it does not belong."""

    format: Literal[1] = FORMAT
    """Version of this file."""
    lightune: str = __version__
    """The Lightune that wrote it."""
    base: BaseModelId = BaseModelId()
    """The base model."""
    method: dict[str, Any]
    """The method's name and every setting."""
    task: dict[str, Any] = {}
    """The task's name and every setting."""
    state: dict[str, Any] = {}
    """What the training data taught the task (label names …)."""
    head: HeadId | None = None
    """The output layer."""
    new_modules: tuple[str, ...] = ()
    """Modules trained whole beside the method, by path."""
    max_length: int | None = Field(default=None, ge=1)
    """Longest input in training, in tokens."""
    metrics: dict[str, float] = {}
    """Scores on the test data, by metric."""
    layout: Layout = "peft"
    """How the tensors are saved."""
    files: dict[PlainName, Sha256] = {}
    """SHA-256 of every other file of the folder."""


def describe_method(method: Method) -> dict[str, Any]:
    """Return a method's name and settings as they stand in a manifest and a recipe."""
    return {"name": method.name, **method.model_dump(mode="json")}


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of an adapter folder.

    Raises:
        AdapterError: there is none, or it is damaged or of a newer format.
    """
    folder = Path(folder)
    values = read_json(folder, MANIFEST)
    if values.get("format") != FORMAT:
        raise AdapterError(
            f"{folder / MANIFEST} has a format that this Lightune does not read",
            found=f"format {values.get('format')!r}, written by Lightune {values.get('lightune')}",
            mend=f"update Lightune; this is {__version__}, which reads format {FORMAT}",
        )
    try:
        return Manifest.model_validate(values)
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise AdapterError(
            f"{folder / MANIFEST} is not a manifest of format {FORMAT}",
            found="; ".join(wrong[:5]),
            mend="copy the file again from where it came",
        ) from None


def check_files(folder: Path, manifest: Manifest) -> None:
    """Compare every file with the hash in the manifest.

    Raises:
        AdapterError: one is missing, or not what it was.
    """
    for name, expected in manifest.files.items():
        found = sha256(regular_file(folder, name))
        if found != expected:
            raise AdapterError(
                f"{folder / name} is not the file that was saved: it is damaged or was changed",
                found=f"SHA-256 {found}",
                mend=f"copy it again from where it came; its SHA-256 was {expected}",
            )
