"""How much memory this process holds and may still take, in megabytes (10^6 bytes). No torch.

Linux tells the present and the highest value under /proc; elsewhere the highest value stands in
for both, which is what macOS offers without further packages. What may still be taken is the least
of what the machine has free and what the limits of the process's control groups leave.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
MEMINFO = Path("/proc/meminfo")
OWN_GROUPS = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")


def rss_mb() -> float:
    """Return the memory held now."""
    return _status("VmRSS")


def peak_rss_mb() -> float:
    """Return the most memory held since the start, or since `reset_peak`."""
    return _status("VmHWM")


def reset_peak() -> None:
    """Let `peak_rss_mb` count from now; without effect where the system does not allow it."""
    if CLEAR.exists():
        try:
            CLEAR.write_text("5")
        except PermissionError:  # a container may forbid it: the peak then counts from the start
            return


def available_mb() -> float:
    """Return how much more memory this process may take before the system must swap or kill it.

    Pages of files that the system can drop count as free, in the machine as in a control group.
    """
    free = [_meminfo("MemAvailable")] if MEMINFO.exists() else [_free_by_sysconf()]
    free += [left for group in _groups() if (left := _left_in(group)) is not None]
    return max(0.0, min(free)) / 1e6


def give_back() -> None:
    """Return freed memory to the system, where the C library can: what loading left behind in
    small pieces would otherwise count as held for the rest of the run."""
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl has not
    if trim is not None:
        trim(0)


@contextlib.contextmanager
def collector_off() -> Iterator[None]:
    """Do something without Python's cyclic garbage collector, then have it as it was.

    Reading and tokenising make millions of small lists that all stay; the collector would walk
    through them again and again, which is a third of the time for 50,000 texts.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _status(key: str) -> float:
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _meminfo(key: str) -> float:
    for line in MEMINFO.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024.0
    return _free_by_sysconf()  # kernels before 3.14 do not tell


def _free_by_sysconf() -> float:
    """Return half of the machine's memory in bytes, where it does not say what is free."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2


def _groups() -> list[Path]:
    """Return the folders of this process's memory control groups, inner ones first."""
    if not OWN_GROUPS.exists():
        return []
    folders = []
    for line in OWN_GROUPS.read_text().splitlines():
        _, kinds, path = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        root = GROUPS / "memory" if kinds else GROUPS
        # inside a container the path may be that of the host, where only the root can be seen
        inner = root / path.lstrip("/")
        folders += [folder for folder in (inner, *inner.parents) if folder.is_relative_to(root)]
    return [folder for folder in folders if folder.is_dir()]


def _left_in(group: Path) -> float | None:
    """Return the bytes that a control group may still take; None where it has no limit."""
    names = ("memory.max", "memory.current", "inactive_file")
    if (group / "memory.limit_in_bytes").exists():
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    try:
        limit, used = ((group / name).read_text().strip() for name in names[:2])
        droppable = [
            int(line.split()[1])
            for line in (group / "memory.stat").read_text().splitlines()
            if line.startswith(f"{names[2]} ")
        ]
    except OSError:
        return None
    if not limit.isdigit():
        return None
    return float(int(limit) - int(used) + sum(droppable))
