"""Write files so that a reader, or a crash, never meets half of one.

How:        into a hidden file beside the target, fsync, rename over it, fsync the folder.
Errors:     a full or broken disk (or quota) becomes `ResourceError`, a folder that may not be
            written `RunError`.
Not here:   the log, which grows line by line (`log.py`).
"""

import errno
import json
import math
import numbers
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lightune.errors import ResourceError, RunError

LONE = "backslashreplace"
"""Half of a surrogate pair, which some files hold, is written as JSON escapes it: `\\ud83d`."""

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What the system says of a disk, quota or file-size limit that is used up."""


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the system says of writing `path` into errors that name the mend."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise ResourceError(
                f"{path} cannot be written: the disk is full",
                found=str(error.strerror),
                mend=f"free space where {path.parent} is, or choose another folder: --out DIR",
            ) from error
        if error.errno == errno.EIO:
            raise ResourceError(
                f"{path} cannot be written: the disk failed",
                found=str(error.strerror),
                mend=f"look after the disk that {path.parent} is on; or another folder: --out DIR",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise RunError(
                f"{path} cannot be written",
                found=str(error.strerror),
                mend="choose a folder that you may write: --out DIR",
            ) from error
        raise


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file whole, or leave what was there.

    Args:
        lines: without line ends.

    Raises:
        ResourceError: the disk is full.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with disk_errors(path):
        try:
            with part.open("w", encoding="utf-8", errors=LONE, newline="\n") as file:
                file.writelines(f"{line}\n" for line in lines)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            with suppress(FileNotFoundError):
                part.unlink()
        sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, or leave what was there."""
    write_lines(path, [text.removesuffix("\n")])


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole, or leave what was there. See `to_json` for what it takes."""
    write_text(path, json.dumps(to_json(value), ensure_ascii=False, indent=2, allow_nan=False))


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Write one JSON value per line, the file whole or not at all."""
    write_lines(path, map(json_line, rows))


def json_line(row: Any) -> str:
    """Return one value as JSON on one line."""
    return json.dumps(to_json(row), ensure_ascii=False, allow_nan=False)


def to_json(value: Any) -> Any:
    """Return `value` as plain JSON: NumPy's scalars as numbers, paths as text.

    A number that is not finite becomes null: JSON has no NaN, and readers choke on it.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` last. Windows has no such call and needs none."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
