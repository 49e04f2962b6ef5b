"""One writer for each run folder: a lock that its owner's death releases.

How:        the file `.lock` in the folder is locked by the system (`flock`, on Windows
            `msvcrt.locking`), which lets go of it when the process ends, however it ends. What is
            written into it only tells people who holds it.
Stale:      a file that nobody has locked was left by a process that was killed: it is taken over,
            and said.
Without:    a file system that cannot lock (some shared ones) is used nevertheless, and it is said.
Errors:     `RunError` when another process writes this run.
"""

import errno
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from lightune.errors import RunError
from lightune.runs.files import disk_errors

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK = ".lock"

HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}
"""What the system says of a file that another process has locked; EDEADLK is Windows'."""


@contextmanager
def writing(folder: Path, note: Callable[[str], None]) -> Iterator[None]:
    """Hold the folder's lock while open.

    Args:
        folder: of the run; exists.
        note: told when a killed process left its lock behind, and where nothing can be locked.

    Raises:
        RunError: another process holds it, or the folder may not be written.
    """
    path = folder / LOCK
    handle, locked = _locked(path, note)
    try:
        before = os.pread(handle, 4096, 0) if hasattr(os, "pread") else b""
        if before and locked:
            note(f"{folder}: the process that wrote this run was killed ({_owner(before)})")
        me = {"pid": os.getpid(), "host": platform.node()}
        me["since"] = datetime.now(UTC).isoformat(timespec="seconds")
        with disk_errors(path):
            os.ftruncate(handle, 0)
            os.write(handle, json.dumps(me).encode())
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(handle)


def _locked(path: Path, note: Callable[[str], None]) -> tuple[int, bool]:
    """Return an open file that this process alone has locked, and that stands at `path`, and
    True; an unlocked one and False, with a note, where the file system cannot lock."""
    while True:
        with disk_errors(path):
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _take(handle)
        except OSError as error:
            if error.errno not in HELD:
                note(
                    f"{path.parent} cannot be locked ({error.strerror}): see to it that no other "
                    "process writes this run"
                )
                return handle, False
            owner = _owner(path.read_bytes() if path.exists() else b"")
            os.close(handle)
            raise RunError(
                f"{path.parent} is being written by another process",
                found=owner,
                mend="wait until it has ended, or stop it",
            ) from None
        # The former owner may have removed the file between the two calls: then this is no lock.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle, True
        os.close(handle)


def _take(handle: int) -> None:
    """Lock an open file, or raise OSError at once."""
    if sys.platform == "win32":
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _owner(content: bytes) -> str:
    """Return what the lock's file tells of its owner."""
    try:
        said = json.loads(content)
        return f"process {int(said['pid'])} on {said['host']}, since {said['since']}"
    except (ValueError, KeyError, TypeError):
        return "it does not say which"
