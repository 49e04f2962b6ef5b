"""Run programs that nobody has read, each in a sandbox of its own, and say which came to its end.

Why:        code generation is scored by running what a model wrote. It may delete files, fork
            without end, fill the disk or call home, mostly by accident.
How:        see `sandbox_child.py`: namespaces of their own, an empty root folder in memory, no
            network, limits on time, memory, disk and processes; killed whole.
Invariants: without isolation nothing runs, unless the caller takes the risk on itself. Whether
            there is isolation is tried out, not guessed. No process and no file is left behind.
Platforms:  isolation needs Linux, with user namespaces open to users, or root.
Errors:     `ResourceError` where there is no isolation, with the reason.
"""

import json
import os
import platform
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal

from lightune.errors import ResourceError
from lightune.runs.environment import usable_cores
from lightune.tasks import sandbox_child

UNISOLATED = "LIGHTUNE_RUN_UNISOLATED"
"""Set to 1 in the environment, programs run without isolation where there is none. No recipe can
say so, since recipes are shared."""

WALL = 3.0
"""A program that computes less than its time, but is there so many times as long, is stopped."""

GRACE = 10.0
"""Seconds after its limit at which a sandbox that does not answer is killed from outside."""

READ = 1 << 16
"""Bytes that are read of what programs and sandboxes answer, the last of them."""

SHOWN = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/dev/null")
"""What a program sees of the machine, beside the interpreter."""

PROBE = """
import os, socket
assert os.getppid() == 1 and os.getuid() != 0, "processes or user are not its own"
assert not os.path.exists("/proc") and not os.path.exists("/root/.ssh"), "files are seen"
assert all(name == "lo" for _, name in socket.if_nameindex()), "there is a network"
open("file", "w").close()
"""
"""Fails where the isolation is not what it should be."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use: processor time and memory, each of its processes so much; disk; and
    processes at a time.

    Why not the time on the clock: whether a program passes would depend on what else runs.
    """

    seconds: float = 5.0
    memory_mb: int = 512
    disk_mb: int = 16
    processes: int = 16


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one program ended.

    Attributes:
        status: `passed` if it came to its end; else `failed`, `timeout`, or `refused` by a sandbox
            that could not be made.
        detail: what was raised, or why it was refused.
    """

    status: Literal["passed", "failed", "timeout", "refused"]
    detail: str = ""


COMPUTED = Outcome("timeout", "it used up its time")
WAITED = Outcome("timeout", "it did not end, waiting for something")


def run_all(
    programs: Sequence[str],
    limits: Limits | None = None,
    isolated: bool = True,
    on_done: Callable[[int, int], None] | None = None,
) -> list[Outcome]:
    """Run programs, as many at a time as there are processors to use; in order.

    One that did not end, though it had not used up its time, is run once more, alone.

    Args:
        isolated: False runs them as the user, with the limits alone.
        on_done: called with the number of those done and of all.

    Raises:
        ResourceError: a sandbox could not be made.
    """
    made = []
    with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
        for outcome in pool.map(lambda text: run_one(text, limits, isolated), programs):
            made.append(outcome)
            if on_done:
                on_done(len(made), len(programs))
    for number, outcome in enumerate(made):
        # what many were short of at once, time as well as room, may be there for one
        if outcome.status == "refused" or outcome == WAITED:
            made[number] = run_one(programs[number], limits, isolated)
            if made[number].status == "refused":
                raise _refusal(made[number].detail)
    return made


def run_one(program: str, limits: Limits | None = None, isolated: bool = True) -> Outcome:
    """Run one program to its end, or until a limit stops it."""
    limits = limits or Limits()
    token = secrets.token_hex(16)
    given = json.dumps({"token": token, "program": program}).encode("utf-8", "surrogatepass")
    with (
        tempfile.TemporaryDirectory(prefix="lightune-program-") as folder,
        tempfile.TemporaryFile() as answers,
        tempfile.TemporaryFile() as verdicts,
        tempfile.TemporaryFile() as asked,
    ):
        asked.write(given)
        asked.seek(0)
        plan = json.dumps(_plan(folder, limits, isolated))
        process = subprocess.Popen(
            [_python(), "-I", "-S", _script(), "start", plan],
            stdin=asked,
            stdout=answers,
            stderr=verdicts,
            cwd="/",
            env={},
            start_new_session=True,
        )
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(WALL * limits.seconds + GRACE)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return _outcome(_end_of(answers), _end_of(verdicts), token)


def require() -> bool:
    """Return whether programs run isolated here.

    Raises:
        ResourceError: they could not, and the user did not say that they may run all the same.
    """
    reason = why_not_isolated()
    if reason is not None and os.environ.get(UNISOLATED) != "1":
        raise _refusal(reason)
    return reason is None


@cache
def why_not_isolated() -> str | None:
    """Return why a program cannot be isolated here, found out by trying; None where it can."""
    if not sys.platform.startswith("linux"):
        return f"it needs Linux, and this is {platform.system() or sys.platform}"
    outcome = run_one(PROBE, Limits(seconds=20.0))
    return None if outcome.status == "passed" else outcome.detail or outcome.status


def _plan(folder: str, limits: Limits, isolated: bool) -> dict[str, Any]:
    shown = [path for path in SHOWN if os.path.lexists(path)]
    prefix = os.path.realpath(sys.base_prefix)
    shown += [path for path in (prefix, _python(), _script()) if not _inside(path, shown)]
    return {
        **asdict(limits),
        "wall": WALL * limits.seconds,
        "isolated": isolated,
        "folder": folder,
        "python": _python(),
        "script": _script(),
        "shown": [path for i, path in enumerate(shown) if not _inside(path, shown[:i])],
    }


def _inside(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


@cache
def _python() -> str:
    """Return the interpreter itself: a virtual environment's is a link to it."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


@cache
def _script() -> str:
    return str(Path(sandbox_child.__file__).resolve())


def _end_of(file: IO[bytes]) -> str:
    """Return the last lines of what was written: a program may have filled a file before them."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - READ))
    return file.read().decode("utf-8", "replace")


def _outcome(answers: str, verdicts: str, token: str) -> Outcome:
    ends: dict[str, dict[str, Any]] = {}
    for line in verdicts.splitlines():
        if line.startswith('{"end": '):
            said = json.loads(line)
            ends.setdefault(said["end"], said)
    if "refused" in ends:
        return Outcome("refused", str(ends["refused"]["reason"]))
    if "timeout" in ends:
        return COMPUTED if ends["timeout"]["computed"] else WAITED
    if "exit" not in ends:
        last = verdicts.strip().rpartition("\n")[2]
        return Outcome("refused", last or "the sandbox ended, or was killed, without a word")
    words = (line.partition(" ") for line in answers.splitlines())
    passed = next((rest for word, _, rest in words if word == token), None)
    if passed == "ok":
        return Outcome("passed")
    code = ends["exit"]["code"]
    return Outcome("failed", passed or f"ended before its tests did, with status {code}")


def _refusal(reason: str) -> ResourceError:
    return ResourceError(
        "programs are not run: they cannot be isolated here",
        found=reason,
        mend="Linux with user namespaces (`sysctl user.max_user_namespaces`), or root; to run them "
        f"without isolation, at your own risk, set {UNISOLATED}=1 in the environment",
    )
