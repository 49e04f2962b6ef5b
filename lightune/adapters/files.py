"""Reading the files of an adapter folder that may come from a stranger.

Rules:      only files with known names are opened, never what a file names beyond a plain name;
            links and anything that is not a regular file are refused; a JSON file has a size limit;
            pickle is refused by name and by content, and never opened as such.
Not here:   what the files mean (`manifest.py`, `tensors.py`).
"""

import hashlib
import json
import stat
from pathlib import Path
from typing import Any

from lightune.errors import AdapterError

MANIFEST = "lightune.json"
PEFT_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
MODEL_WEIGHTS = "model.safetensors"
OURS = "+lightune"
"""Ends `peft_version` in the configs we write, so that a manifest that got lost is missed."""

JSON_LIMIT = 16 * 2**20
"""Largest JSON file read, in bytes. A manifest with 10,000 labels has about a tenth of it."""

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")


def regular_file(folder: Path, name: str) -> Path:
    """Return the path of `name` in `folder` when it is a plain file there.

    Raises:
        AdapterError: it is missing, a link, or not a file.
    """
    path = folder / name
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        raise AdapterError(
            f"{folder} has no {name}",
            found=f"files: {', '.join(_names(folder)) or 'none'}",
            mend="give the folder that `lightune train` or PEFT wrote, with all of its files",
        ) from None
    except NotADirectoryError:
        raise _no_folder(folder) from None
    if not stat.S_ISREG(mode):
        raise AdapterError(
            f"{path} is a link or not a file, and only plain files are read",
            found="a link" if stat.S_ISLNK(mode) else "not a regular file",
            mend=f"copy the file itself to {path}",
        )
    return path


def weights_file(folder: Path, name: str) -> Path:
    """Return the path of the safetensors file `name` in `folder`.

    Raises:
        AdapterError: it is missing (a pickle in its place is named), a link, no safetensors, or
            its header is too large.
    """
    pickles = [other for other in _names(folder) if other.endswith(PICKLES)]
    if not (folder / name).exists() and pickles:
        raise AdapterError(
            f"{folder} holds its weights as pickle, which can run any code when it is read",
            found=", ".join(pickles),
            mend=f"have whoever made it save {name} instead (PEFT: `safe_serialization=True`)",
        )
    path = regular_file(folder, name)
    with path.open("rb") as file:
        start = file.read(9)
    # Eight bytes of length, then JSON. The length may begin with the bytes of a pickle by chance.
    if start[8:9] != b"{":
        pickle = start.startswith((b"\x80", b"PK\x03\x04"))
        raise AdapterError(
            f"{path} is not a safetensors file" + (" but a pickle" if pickle else ""),
            found=f"it begins with {start!r}",
            mend="copy the file again from where it came",
        )
    header = int.from_bytes(start[:8], "little")
    if header > JSON_LIMIT:
        raise AdapterError(
            f"{path} has a header that is too large",
            found=f"{header:,} bytes",
            mend=f"at most {JSON_LIMIT:,} bytes; copy the file again from where it came",
        )
    return path


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Return the JSON object in the file `name` of `folder`.

    Raises:
        AdapterError: it is missing, a link, too large, or not a JSON object.
    """
    path = regular_file(folder, name)
    size = path.stat().st_size
    if size > JSON_LIMIT:
        raise AdapterError(
            f"{path} is too large to be what its name says",
            found=f"{size} bytes",
            mend=f"at most {JSON_LIMIT} bytes",
        )
    try:
        values = json.loads(path.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise AdapterError(
            f"{path} is not readable as JSON",
            found=str(error),
            mend="copy the file again from where it came",
        ) from None
    if not isinstance(values, dict):
        raise AdapterError(
            f"{path} must hold a JSON object",
            found=type(values).__name__,
            mend="copy the file again from where it came",
        )
    return values


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _names(folder: Path) -> list[str]:
    """Return the names in `folder`, sorted."""
    if not folder.is_dir():
        raise _no_folder(folder)
    return sorted(entry.name for entry in folder.iterdir())


def _no_folder(folder: Path) -> AdapterError:
    return AdapterError(
        f"there is no adapter folder {folder}",
        found="a file" if folder.exists() else "nothing",
        mend="give the folder that holds adapter_model.safetensors; in a run it is RUN/adapter",
    )
