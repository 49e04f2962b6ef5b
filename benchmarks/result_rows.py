"""Rows of results as JSON lines: what was run, with what came out, on which machine.

Why:     a full round of benchmarks takes hours. Each row is appended as soon as it is there, and
         a row whose key is in the file is not run again, so that a stopped benchmark goes on.
Holds:   every row has `key` (a dict: the settings that make it that row and no other), what was
         measured, and `machine` (processor, cores, versions, load when it began).
Machine: a row counts as done only on the machine it was run on (processor, cores, versions of
         torch, transformers and peft): on another one, the published rows are run anew beside them.
         To measure anew on the same machine, move the file away.
Errors:  a half line, left by a kill while writing, is passed over and its row run again.
"""

import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lightune.runs.environment import code_hash, cpu_flags, cpu_model, memory_mb, usable_cores

RESULTS = Path(__file__).parent / "results"
HELD = ("torch", "transformers", "peft")
_WRITING = threading.Lock()
PACKAGES = ("torch", "transformers", "peft", "accelerate", "lightune")


def read(path: Path) -> list[dict[str, Any]]:
    """Return the whole rows of a file, oldest first; nothing where there is no file."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and "key" in row and "machine" in row:
            rows.append(row)
    return rows


def same_machine(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether rows of two machines may stand in one table."""
    versions = [{n: m["packages"].get(n) for n in HELD} for m in (one, other)]
    return versions[0] == versions[1] and all(one[k] == other[k] for k in ("cpu", "cores"))


def newest_machine(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the machine that the last of them was run on."""
    return [row for row in rows if same_machine(row["machine"], rows[-1]["machine"])]


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Add a row at the end; a half line before it is ended first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _WRITING, path.open("a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write((json.dumps(row) + "\n").encode())


def fill(
    path: Path,
    keys: Iterable[dict[str, Any]],
    run: Callable[[dict[str, Any]], dict[str, Any]],
    go_on: Callable[[], bool] = lambda: True,
    tell: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Run every key that the file lacks, in order, and append its row.

    Args:
        run: key -> what was measured.
        go_on: asked before each row; False ends the work.

    Returns:
        The keys that were not run.
    """
    here = machine()
    have = [row["key"] for row in read(path) if same_machine(row["machine"], here)]
    left = []
    for key in keys:
        if key in have:
            continue
        if not go_on():
            left.append(key)
            continue
        begun = machine()
        result = {"key": key, **run(key)}
        append(path, {**result, "machine": begun})
        have.append(key)
        tell(json.dumps(result))
    return left


def machine() -> dict[str, Any]:
    """Return processor, cores, memory, versions, and the load of the last minute."""
    return {
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "memory_mb": memory_mb(),
        "flags": cpu_flags(),
        "load": round(os.getloadavg()[0], 2),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "code": code_hash()[:12],
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
