"""End, or fail, a tiny training at every call that changes its folder; go on; compare the bytes.

    python tests/proof/crash_points.py                 # all of it
    python tests/proof/crash_points.py --every 10      # each tenth call

A training of three steps saves after each (the first save, one with another copy of the best
weights, one after which the oldest goes), writes its adapter and its results. `crash.c`,
preloaded into this process, counts its creates, writes, fsyncs, renames, unlinks, mkdirs, rmdirs
and truncations below the run's folder. For each of them alone a child process is forked that

    kill     is killed with SIGKILL at that call, half a write done
    full     finds the disk full (ENOSPC) from that call on
    broken   gets EIO from that one call

and another child goes on (`train --resume`) without any fault. The same is done to every call of a
training that goes on. Counted as recovered: the adapter at the end has the bytes of the
undisturbed training's, and whatever ended a child was an error that names its mend.

Prints one JSON object: for each, the calls, those recovered, and those begun anew, as nothing but
an empty folder was there yet.
"""

import argparse
import ctypes
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from kills import fresh, in_child, on
from small_runs import files, recipe, rows, write_csv

from lightune.evaluate import plots
from lightune.models.tiny import save_tiny

SOURCE = Path(__file__).with_name("crash.c")
PRELOADED = "LIGHTUNE_PROOF_CRASH"
"""Environment variable that names the library once this process has it."""
KINDS = ("create", "write", "fsync", "rename", "unlink", "mkdir", "rmdir", "truncate")
FAULTS = {"kill": (signal.SIGKILL, 0), "full": (errno.ENOSPC, 1), "broken": (errno.EIO, 0)}
"""Name -> what happens to the call, and whether it stays."""


def preload(place: Path) -> str | None:
    """Start this script again with the counting library; return why that cannot be."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        return "needs Linux and a C compiler"
    library = place / "crash.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"the compiler failed: {done.stderr[-200:]}"
    given = {"LD_PRELOAD": str(library), PRELOADED: str(library)}
    again = subprocess.run([sys.executable, *sys.argv], env=os.environ | given, check=False)
    sys.exit(again.returncode)


class Points:
    """One training and the ways in which it is disturbed.

    Args:
        place: a folder for all files.

    Attributes:
        given: its recipe.
        whole, expected: the folder of the undisturbed training, and its adapter's bytes.
        half: a copy of it as a kill before the last save leaves it.
    """

    def __init__(self, place: Path, steps: int = 3) -> None:
        library = os.environ.get(PRELOADED)
        self.library = ctypes.CDLL(library) if library else None
        self.place, self.log = place, place / "log.txt"
        save_tiny(place / "model", "bert")
        data = {"train": str(write_csv(place / "rows.csv", rows(count=24)))}
        changes = {"max_steps": steps, "save_steps": 1, "evaluation": {"every": 1, "best": True}}
        shares = {"test": 0.2, "validation": 0.2}
        method = {"name": "lora", "targets": ["query"]}
        self.given = recipe(place / "model", method, data=data | shares, seal=False, **changes)
        for name in ("loss_curve", "confusion_matrix"):  # slower than the whole training
            setattr(plots, name, lambda *arguments: None)
        fresh(self.given, place / "first")  # whatever is imported late is imported once
        self.whole = place / "whole"
        assert self.child(lambda: fresh(self.given, self.whole), self.whole) == 0, self.said()
        self.expected = files(self.whole / "adapter")
        self.half = place / "half"
        shutil.copytree(self.whole, self.half)
        for gone in ("eval.json", "predictions.jsonl", "README.md", f"checkpoints/{self.last()}"):
            path = self.half / gone
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def last(self) -> str:
        return max(path.name for path in (self.whole / "checkpoints").iterdir())

    def said(self) -> str:
        return self.log.read_text()[-2000:] if self.log.exists() else ""

    def child(self, work: Callable[[], Any], out: Path) -> int | None:
        self.log.unlink(missing_ok=True)
        return in_child(work, self.log, out)

    def calls(self, resumed: bool) -> Counter[str]:
        """Return how many calls of each kind an undisturbed training makes."""
        out, told = self.place / "counted", self.place / "counts.json"

        def work() -> None:
            self.arm(out, 0, "kill")
            self.train(out, resumed)
            counts = {name: self.library.crash_count(i) for i, name in enumerate(KINDS)}
            told.write_text(json.dumps(counts))

        self.begin(out, resumed)
        assert self.child(work, out) == 0, self.said()
        shutil.rmtree(out)
        return Counter(json.loads(told.read_text()))

    def arm(self, out: Path, number: int, fault: str) -> None:
        action, stays = FAULTS[fault]
        self.library.crash_arm(str(out).encode(), ctypes.c_long(number), int(action), stays)

    def begin(self, out: Path, resumed: bool) -> None:
        """Put what is there before the disturbed training."""
        if resumed:
            shutil.copytree(self.half, out)

    def train(self, out: Path, resumed: bool) -> None:
        on(out) if resumed else fresh(self.given, out)

    def disturb(self, number: int, fault: str, resumed: bool) -> tuple[bool, bool, str]:
        """Disturb call `number`; return whether it was recovered, whether it had to begin anew,
        and what went wrong."""
        out = self.place / "run"
        shutil.rmtree(out, ignore_errors=True)
        self.begin(out, resumed)

        def work() -> None:
            self.arm(out, number, fault)
            self.train(out, resumed)

        status = self.child(work, out)
        if fault == "kill" and status is not None:
            return False, False, f"it was not killed: {self.said()}"
        if status == 1:
            return False, False, f"ended by a foreign error: {self.said()}"
        anew = not (out / "recipe.yaml").exists()
        if anew:
            shutil.rmtree(out, ignore_errors=True)
        if not (out / "eval.json").exists():
            work = (lambda: fresh(self.given, out)) if anew else (lambda: on(out))
            if self.child(work, out) != 0:
                return False, anew, self.said()
        if files(out / "adapter") != self.expected:
            return False, anew, "the adapter's bytes differ"
        return True, anew, ""


def sweep(points: Points, fault: str, resumed: bool, every: int, total: int) -> dict[str, Any]:
    """Disturb each `every`-th call; return the counts."""
    found: dict[str, Any] = {"calls": 0, "recovered": 0, "begun_anew": 0, "failures": []}
    for number in range(1, total + 1, every):
        good, anew, why = points.disturb(number, fault, resumed)
        found["calls"] += 1
        found["recovered"] += good
        found["begun_anew"] += anew
        if not good:
            found["failures"].append(f"call {number}: {why}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--fault", choices=tuple(FAULTS), action="append")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        if PRELOADED not in os.environ:
            print(json.dumps({"skipped": preload(Path(place))}))
            return
        begun = time.monotonic()
        points, found = Points(Path(place)), {}
        for name, resumed in (("train", False), ("resume", True)):
            kinds = points.calls(resumed)
            found[name] = {"kinds": dict(kinds)} | {
                fault: sweep(points, fault, resumed, chosen.every, kinds.total())
                for fault in chosen.fault or FAULTS
            }
    print(json.dumps(found | {"seconds": round(time.monotonic() - begun)}, indent=1))
    sweeps = [part[fault] for part in found.values() for fault in FAULTS if fault in part]
    sys.exit(any(one["calls"] != one["recovered"] for one in sweeps))


if __name__ == "__main__":
    main()
