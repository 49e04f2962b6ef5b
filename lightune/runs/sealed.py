"""`seal.json`: that a run was proved, and which bytes were. No torch.

    {"format", "lightune", "date", "checks": {name: what was found}, "starts": {path: hash},
     "files": {relative path: {"bytes", "sha256"}}}

Invariants: every file of the run is listed, but the seal itself, checkpoints (they have manifests
            of their own) and hidden files. A run without the file is unsealed.
Not a signature: whoever can write the folder can write a seal; it tells damage, mixing up and
            edits by hand, not forgery.
Not here:   what is checked (`lightune/seal.py`).
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from lightune.errors import RunError

SEAL = "seal.json"
FORMAT = 1
KEYS = {"format", "lightune", "date", "checks", "starts", "files"}


def is_sealed(folder: Path) -> bool:
    """Return whether the run has a seal; whether it still holds, `lightune verify` tells."""
    return (folder / SEAL).is_file()


def unsealed(folder: Path) -> str:
    """Return the sentence that marks an unsealed run."""
    return f"{folder} is not sealed: that its adapter gives its scores is not proved"


def proof(folder: Path) -> str:
    return f"lightune verify {folder}"


def hashes(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of every file that a seal lists, by relative path."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_dir() or name.parts[0] in (SEAL, "checkpoints"):
            continue
        if any(part.startswith(".") for part in name.parts):
            continue
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found[name.as_posix()] = {"bytes": path.stat().st_size, "sha256": digest}
    return found


def read_seal(folder: Path) -> dict[str, Any] | None:
    """Return the seal; None where there is none.

    Raises:
        RunError: it is damaged, or of a newer format.
    """
    path = folder / SEAL
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(value, dict) or set(value) != KEYS or not isinstance(value["files"], dict):
        raise _damaged(path, "it is no seal")
    if value["format"] != FORMAT:
        raise _damaged(path, f"format {value['format']!r}, this Lightune reads {FORMAT}")
    return value


def changed(folder: Path, seal: dict[str, Any]) -> list[str]:
    """Return every file that is not as it was sealed: `NAME: changed`, `missing`, or `new`."""
    now, then = hashes(folder), seal["files"]
    wrong = [f"{n}: {'changed' if n in now else 'missing'}" for n in then if now.get(n) != then[n]]
    return [*wrong, *(f"{name}: new" for name in now if name not in then)]


def _damaged(path: Path, found: str) -> RunError:
    return RunError(
        f"{path} is damaged",
        found=found,
        mend="copy it again from where it came; or delete it, and prove the run anew with "
        f"lightune verify {path.parent} --seal",
    )
