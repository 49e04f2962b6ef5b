"""The cache of fetched models: one folder per model, whole or not there at all.

Where:      `$LIGHTUNE_HOME/models/<name>`, by default `~/.cache/lightune/models/<name>`.
Holds:      the model's files and `source.json`: where they came from, and size, time of change
            and SHA-256 of each.
Invariants: a folder appears by one rename, after its files were hashed and synced. A file whose
            size and time of change are as recorded is taken as unchanged; any other is hashed
            again, and a copy that differs counts as not there.
Errors:     `ResourceError` when the disk is full or the folder cannot be written.
Not here:   where the files come from (`sources.py`). No torch.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lightune.errors import ResourceError

STAMP = "source.json"
_STALE_S = 24 * 3600  # an unfinished folder older than this was left by a killed process
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


@dataclass(frozen=True, slots=True)
class Copy:
    """A model in the cache.

    Attributes:
        folder: its files.
        source: where they came from, in words.
        revision: of the source; empty where it has none.
        weights_sha256: see `weights_hash`.
        notes: what a user of these weights must know.
    """

    folder: Path
    source: str
    revision: str
    weights_sha256: str
    notes: tuple[str, ...] = ()


def home() -> Path:
    """Return Lightune's cache folder: `LIGHTUNE_HOME`, or `~/.cache/lightune`."""
    chosen = os.environ.get("LIGHTUNE_HOME")
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return Path(chosen).expanduser() if chosen else base / "lightune"


def find(slug: str) -> Copy | None:
    """Return the cached copy, or None where there is none or it is no longer what was fetched."""
    folder = home() / "models" / slug
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        if not all(_unchanged(folder / name, seen) for name, seen in stamp["files"].items()):
            return None
        return Copy(
            folder,
            stamp["source"],
            stamp["revision"],
            stamp["weights_sha256"],
            tuple(stamp["notes"]),
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None  # no copy, or a stamp that somebody else wrote


def is_there(slug: str) -> bool:
    """Say whether a folder of that name exists, intact or not."""
    return (home() / "models" / slug).exists()


@contextmanager
def staging(slug: str) -> Iterator[Path]:
    """Give an empty folder beside the final one, removed on the way out.

    Raises:
        ResourceError: the disk is full, or the cache cannot be written.
    """
    folder: Path | None = None
    try:
        models = home() / "models"
        models.mkdir(parents=True, exist_ok=True)
        _remove_stale(models)
        folder = _beside(models, slug)
        yield folder
    except OSError as error:
        if isinstance(error, ResourceError) or error.errno not in _DISK_ERRORS:
            raise
        raise _cannot_write(error) from None
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def commit(slug: str, staged: Path, copy: Copy) -> Copy:
    """Make the staged files the cached copy, in one rename.

    Args:
        staged: the folder from `staging`, holding the model's files and nothing else.
        copy: what to record; its folder is replaced by the final one.
    """
    seen = {}
    for path in sorted(path for path in staged.iterdir() if path.is_file()):
        _sync(path)
        info = path.stat()
        seen[path.name] = {
            "size": info.st_size,
            "mtime_ns": info.st_mtime_ns,
            "sha256": sha256_of(path),
        }
    stamp = {
        "source": copy.source,
        "revision": copy.revision,
        "weights_sha256": copy.weights_sha256,
        "notes": list(copy.notes),
        "files": seen,
    }
    (staged / STAMP).write_text(json.dumps(stamp, indent=2, ensure_ascii=False), encoding="utf-8")
    _sync(staged / STAMP)
    final = home() / "models" / slug
    other = find(slug)
    if other is not None and other.weights_sha256 == copy.weights_sha256:
        return other  # another process was quicker
    if final.exists():
        aside = _beside(final.parent, slug)
        final.rename(aside / "damaged")
        shutil.rmtree(aside, ignore_errors=True)
    staged.rename(final)
    return Copy(final, copy.source, copy.revision, copy.weights_sha256, copy.notes)


def need_space(folder: Path, needed: int) -> None:
    """Refuse early what cannot fit.

    Raises:
        ResourceError: fewer than `needed` bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ResourceError(
            f"the disk of {home()} is too full for the model",
            found=f"{free / 1e6:,.0f} MB free, {needed / 1e6:,.0f} MB needed",
            mend="free some space, or set LIGHTUNE_HOME to a folder on another disk",
        )


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_hash(files: Sequence[Path]) -> str:
    """Return the SHA-256 of the weights: of the file, or of the list of its parts' hashes."""
    if len(files) == 1:
        return sha256_of(files[0])
    listing = "".join(f"{path.name}:{sha256_of(path)}\n" for path in sorted(files))
    return hashlib.sha256(listing.encode()).hexdigest()


def _unchanged(path: Path, seen: dict) -> bool:
    info = path.stat()
    if info.st_size != seen["size"] or not _SHA256.fullmatch(seen["sha256"]):
        return False
    return info.st_mtime_ns == seen["mtime_ns"] or sha256_of(path) == seen["sha256"]


def _beside(models: Path, slug: str) -> Path:
    folder = models / f".{slug[:40]}-{secrets.token_hex(6)}"
    folder.mkdir()
    return folder


def _remove_stale(models: Path) -> None:
    for path in models.glob(".*"):
        if path.is_dir() and time.time() - path.stat().st_mtime > _STALE_S:
            shutil.rmtree(path, ignore_errors=True)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _cannot_write(error: OSError) -> ResourceError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return ResourceError(
        f"the model cannot be kept in {home()}: {'the disk is full' if full else 'no permission'}",
        found=str(error),
        mend=("free some space, or " if full else "")
        + "set LIGHTUNE_HOME to a folder that can be written",
    )
