"""What runs inside a sandbox: this file alone, by a Python that loads nothing else.

    python -I -S sandbox_child.py start PLAN    makes the sandbox, waits, kills all that is left
    python -I -S sandbox_child.py run           in it: reads a program from standard input, runs it

Sandbox:    a new mount, process, network, host name and message-queue namespace; started by root,
            a user of its own that nobody else is, else a user namespace. The new root folder is
            memory of a few megabytes with the interpreter and the system's libraries in it,
            read-only, and nothing else of the machine: no home, no /proc, no network interface.
            No capability is left, and none can be had again.
Processes:  the first process of the namespace does nothing but wait. When it ends, or whoever
            started it, the kernel kills every other one, whatever they forked or detached.
Protocol:   standard input has one JSON object: `token`, `program`. Standard output gets a line from
            the program's own process: the token and `ok`, or the token and what was raised.
            Standard error, which no program has, gets lines from those that watch over it:
            `{"end": "refused", "reason": …}`, or `{"end": "exit" | "timeout", "code": …}`. A
            program that used up its time is a timeout with `computed: true`; one that was still
            there after `wall` seconds may have been kept from computing by others.
Limits:     a program that looks for the token in its own process finds it, and can claim to have
            passed: tests measure a model that does not try to deceive. What it does stays inside.
Not here:   who starts it, and what the answers mean (`sandbox.py`).
"""

import ctypes
import errno
import json
import math
import os
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import Any

NEW_MOUNT, NEW_UTS, NEW_IPC = 0x00020000, 0x04000000, 0x08000000
NEW_USER, NEW_PID, NEW_NET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND = 1, 2, 4, 32, 4096
MS_REC, MS_PRIVATE = 16384, 1 << 18
KEPT_FLAGS = {2: MS_NOSUID, 4: MS_NODEV, 8: 8, 1024: 1024, 2048: 2048, 4096: 1 << 21}
"""What `statvfs` says of a mount -> the flag that must not be lost when it is mounted again."""
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 24, 36, 38
INSIDE, OWN = 65534, 2_000_000_000
"""The user's number as a user namespace shows it; the first of those that root gives programs."""
WORK = "/tmp"


def start(plan: dict[str, Any]) -> None:
    """Make the sandbox, run the program in it, and say how it ended."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        _check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL), "prctl")
        _check(libc.prctl(PR_SET_CHILD_SUBREAPER, 1), "prctl")
        plan["root"] = os.geteuid() == 0
        plan["user"] = OWN + os.getpid()
        if plan["isolated"]:
            _unshare(libc, plan["root"])
        first = os.fork()
    except OSError as error:
        _say({"end": "refused", "reason": str(error)})
        return
    if first == 0:
        _first(libc, plan)
    code = _wait(first, plan["wall"])
    if code is None:
        _say({"end": "timeout", "computed": False})
    elif code < 0 and plan["isolated"]:  # no program can, so the machine had no room for it
        _say({"end": "refused", "reason": f"the sandbox was killed by signal {-code}"})
    else:
        _say({"end": "exit", "code": code})


def _first(libc: Any, plan: dict[str, Any]) -> None:
    """Be the first process of the sandbox: prepare it, start the program, wait for it."""
    code = 255
    try:
        _check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL), "prctl")
        os.umask(0o022)  # the program's user is to reach its folders, whatever the caller's says
        if plan["isolated"]:
            _new_root(libc, plan)
        program = os.fork()
        if program == 0:
            try:
                _limit(plan)
                if plan["isolated"]:
                    _drop(libc, plan)
                # as root it is lost with the user, so it is asked for again
                _check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL), "prctl")
                os.chdir(WORK if plan["isolated"] else plan["folder"])
                home = os.getcwd()
                words = [plan["python"], "-I", "-S", "-B", plan["script"], "run"]
                os.execve(words[0], words, {"HOME": home, "TMPDIR": home, "LANG": "C.UTF-8"})
            except OSError as error:
                _say({"end": "refused", "reason": str(error)})
            os._exit(254)
        while True:
            ended, status, used = os.wait4(-1, 0)
            if ended == program:
                code = os.waitstatus_to_exitcode(status)
                computed = used.ru_utime + used.ru_stime
                # the kernel stops it by the clock's ticks, which run some percent ahead of this
                if code == -signal.SIGKILL and computed > 0.8 * _most(plan):
                    _say({"end": "timeout", "computed": True})
                code %= 256
                break
    except OSError as error:
        _say({"end": "refused", "reason": str(error)})
    finally:
        os._exit(code)


def _wait(first: int, seconds: float) -> int | None:
    """Return the exit status of the first process, None where it had to be killed; then kill what
    it left behind."""
    until, status = time.monotonic() + seconds, None
    while status is None and time.monotonic() < until:
        ended, found = os.waitpid(first, os.WNOHANG)
        if ended:
            status = os.waitstatus_to_exitcode(found)
        else:
            time.sleep(0.005)
    if status is None:
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
    while left := _children():
        for child in left:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return status


def _children() -> list[int]:
    """Return the processes that were left to this one."""
    try:
        text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def _unshare(libc: Any, root: bool) -> None:
    uid, gid = os.getuid(), os.getgid()
    spaces = NEW_MOUNT | NEW_UTS | NEW_IPC | NEW_PID | NEW_NET
    _check(libc.unshare(spaces | (0 if root else NEW_USER)), "unshare")
    if not root:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{INSIDE} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{INSIDE} {gid} 1")


def _new_root(libc: Any, plan: dict[str, Any]) -> None:
    root = plan["folder"]
    _mount(libc, "none", "/", None, MS_REC | MS_PRIVATE)
    size = f"size={plan['disk_mb']}m,nr_inodes=2000,mode=755"
    _mount(libc, "tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, size)
    for path in plan["shown"]:
        target = root + path
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.islink(path):
            os.symlink(os.readlink(path), target)
            continue
        if os.path.isdir(path):
            os.makedirs(target, exist_ok=True)
        else:
            Path(target).touch()
        _mount(libc, path, target, None, MS_BIND)
        there = os.statvfs(path).f_flag
        kept = sum(flag for seen, flag in KEPT_FLAGS.items() if there & seen)
        writable = 0 if path.startswith("/dev/") else MS_RDONLY
        _mount(libc, "none", target, None, MS_BIND | MS_REMOUNT | MS_NOSUID | kept | writable)
    os.makedirs(root + WORK, exist_ok=True)
    os.chmod(root + WORK, 0o777)
    os.chroot(root)
    os.chdir("/")


def _most(plan: dict[str, Any]) -> int:
    """Return the whole seconds that a process may compute; the kernel counts no parts of them."""
    return math.ceil(plan["seconds"])


def _limit(plan: dict[str, Any]) -> None:
    import resource

    limits = {
        resource.RLIMIT_CPU: _most(plan),
        resource.RLIMIT_AS: plan["memory_mb"] << 20,
        resource.RLIMIT_FSIZE: plan["disk_mb"] << 20,
        resource.RLIMIT_NPROC: plan["processes"],
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
    }
    for name, most in limits.items():
        hard = resource.getrlimit(name)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(name, (most, most))


def _drop(libc: Any, plan: dict[str, Any]) -> None:
    """Give up root and every capability for good; a program starts without them."""
    for capability in range(64):
        if libc.prctl(PR_CAPBSET_DROP, capability) and capability == 0:
            _check(-1, "prctl")  # the kernel does not know all of the later ones
    if plan["root"]:
        os.setgroups([])
        try:
            _become(plan["user"])
        except OSError as error:  # a container that knows no such user has this one
            if error.errno != errno.EINVAL:
                raise
            _become(INSIDE)
    _check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


def _become(user: int) -> None:
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def run() -> None:
    """Run the program that standard input brings, and say whether it came to its end."""
    given = json.loads(sys.stdin.buffer.read())
    answers = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    Path("program.py").write_text(given["program"], encoding="utf-8", errors="replace")
    said = "ok"
    try:
        runpy.run_path("program.py", run_name="__main__")
    finally:  # whatever a program raises, leaving included, is its failure; this process ends here
        error = sys.exc_info()[1]
        if error is not None:
            said = f"{type(error).__name__}: {error!s:.200}".replace("\n", " ")
        os.write(answers, f"\n{given['token']} {said}\n".encode("utf-8", "replace"))
        os._exit(0)


def _mount(
    libc: Any, source: str, target: str, kind: str | None, flags: int, data: str | None = None
) -> None:
    words = [None if word is None else word.encode() for word in (source, target, kind, data)]
    done = libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3])
    _check(done, f"mount {target}")


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _say(answer: dict[str, Any]) -> None:
    os.write(2, f"\n{json.dumps(answer)}\n".encode())


if __name__ == "__main__":
    if sys.argv[1] == "start":
        start(json.loads(sys.argv[2]))
    else:
        run()
