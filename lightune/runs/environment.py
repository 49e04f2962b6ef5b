"""The machine and the software a run was made with, as a dict for `environment.json`.

Invariants: nothing is imported to learn its version, torch least of all, and no device is woken.
            No user, host or folder name is in it: run folders are shared.
Holds:      what decides speed and rounding: versions, processor and its number formats, cores,
            memory, thread settings, graphics cards, and a hash of Lightune's own code.
Not here:   the engine's plan, seeds, and hashes of data and models (the caller passes them).
"""

import hashlib
import os
import platform
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    *("torch", "transformers", "tokenizers", "safetensors", "huggingface-hub", "datasets"),
    *("pyarrow", "numpy", "scipy", "scikit-learn", "pydantic", "peft"),
)
"""Whose versions can change a result."""

FLAGS = (
    *("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("avx_vnni", "amx_tile", "amx_bf16", "amx_int8"),
    *("asimd", "asimddp", "bf16", "i8mm", "sve", "sve2"),
)
"""Processor features that decide which arithmetic is fast, on x86 and on ARM."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def environment(more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what this process runs on.

    Args:
        more: what only the caller knows (`plan`, `seed`, `threads`, `gpus`, `data_sha256`, `base`
            …); added at the top level, and wins over what is found here.
    """
    return {
        "lightune": package_version("lightune"),
        "code_sha256": code_hash(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": {name: found for name in PACKAGES if (found := package_version(name))},
        "os": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "cpu": cpu_model(),
        "cpu_flags": cpu_flags(),
        "cores": os.cpu_count() or 1,
        "usable_cores": usable_cores(),
        "memory_mb": memory_mb(),
        "thread_variables": {
            name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ
        },
        "gpus": gpus(),
    } | dict(more or {})


def package_version(name: str) -> str | None:
    """Return the version of an installed package; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def code_hash() -> str:
    """Return the SHA-256 over the files of this package, by name and content."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.suffix in (".py", ".yaml")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def cpu_model() -> str:
    """Return the processor's name as the system gives it."""
    name = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    return name[1].strip() if name else platform.processor() or platform.machine() or "unknown"


def cpu_flags() -> list[str]:
    """Return those of `FLAGS` that this processor has; empty where the system does not tell."""
    line = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    has = set(line[1].split()) if line else set()
    return [flag for flag in FLAGS if flag in has]


def usable_cores() -> int:
    """Return how many cores this process may use: its affinity, and a container's quota."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").strip().partition(" ")
    if quota.isdigit() and period.isdigit() and int(period):
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def memory_mb() -> int | None:
    """Return the memory that this process may use, in MB: the machine's, or a container's limit."""
    total = re.search(r"^MemTotal:\s*(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    sizes = [int(total[1]) * 1024] if total else []
    limit = _read("/sys/fs/cgroup/memory.max").strip()
    if limit.isdigit():
        sizes.append(int(limit))
    if not sizes and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(sizes) // 2**20 if sizes else None


def gpus() -> list[str]:
    """Return the names of NVIDIA cards that the driver lists, without waking any."""
    files = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    models = (re.search(r"^Model:\s*(.+)$", _read(str(file)), re.MULTILINE) for file in files)
    return [model[1].strip() for model in models if model]


def _cpuinfo() -> str:
    return _read("/proc/cpuinfo")


def _read(path: str) -> str:
    """Return a file of the system; nothing where there is none."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
