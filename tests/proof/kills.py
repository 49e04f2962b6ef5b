"""Kill tiny trainings with SIGKILL at random moments, go on, and compare the adapters' bytes.

    python tests/proof/kills.py --kills 100

Each case (method x number format) is trained once undisturbed, without saving. Then a run that
saves after every step is begun and killed after a random time, counted from shortly before its
first step; it is resumed and killed again, until `--kills` are spent; each run is brought to its
end and its adapter compared, byte for byte, with that of the undisturbed one. Children are forked
from this process, which has imported everything, so that a kill costs no import.

Prints one JSON object: kills, how many fell before the first checkpoint, lost runs, unequal ones.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from small_runs import files, recipe, rows, write_csv

from lightune import pipeline
from lightune.cli.messages import of_environment
from lightune.errors import LightuneError
from lightune.evaluate import plots
from lightune.models.tiny import save_tiny
from lightune.train import checkpoint

METHODS: tuple[Any, ...] = (
    "lora",
    "full",
    {"name": "bottleneck"},
    {"name": "prompt_tuning", "tokens": 4},
)
FORMATS = ("fp32", "bf16")
STEPS = 30
PER_RUN = 4
"""Kills that one run suffers at most before it may end."""


def in_child(
    work: Callable[[], Any], log: Path, out: Path, killed_after: float | None = None
) -> int | None:
    """Return the exit status of `work` done in a forked child; None where it was killed.

    The status is the command line's: 0, 2 for an error that names its mend, 1 for any other.

    Args:
        out: the run's folder.
        killed_after: seconds after the training's files are there, shortly before its first step.
    """
    before = begun_at(out)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(out, 1), os.dup2(out, 2)
            work()
            status = 0
        except BaseException as error:
            status = 2 if isinstance(error, LightuneError) or of_environment(error) else 1
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(status)
    if killed_after is not None:
        ended = 0
        while begun_at(out) == before and not ended:
            time.sleep(0.005)
            ended, code = os.waitpid(child, os.WNOHANG)
        time.sleep(killed_after)
        if not ended:
            os.kill(child, signal.SIGKILL)
            _, code = os.waitpid(child, 0)
    else:
        _, code = os.waitpid(child, 0)
    return None if os.WIFSIGNALED(code) else os.WEXITSTATUS(code)


def begun_at(out: Path) -> float:
    """Return when the last training in `out` wrote its files; 0 where none did."""
    file = out / "environment.json"
    return file.stat().st_mtime if file.exists() else 0.0


def prove(kills: int, seed: int, place: Path) -> dict[str, Any]:
    """Spend `kills` over all cases; return the counts."""
    chance = random.Random(seed)
    model = place / "model"
    save_tiny(model, "bert")
    data = str(write_csv(place / "rows.csv", rows()))
    log = place / "log.txt"
    for name in ("loss_curve", "confusion_matrix"):  # slower than the whole training
        setattr(plots, name, lambda *arguments: None)
    first = recipe(model, "lora", data=data, max_steps=2, seal=False)
    fresh(first, place / "first")  # whatever is imported late is imported once
    cases = [(method, dtype) for dtype in FORMATS for method in METHODS]
    found: dict[str, Any] = {
        "kills": 0, "runs": 0, "before_the_run": 0, "before_a_checkpoint": 0, "after_its_end": 0,
        "while_saving": 0, "lost": 0, "unequal": 0, "cases": len(cases), "failures": [],
    }  # fmt: skip
    undisturbed: dict[int, tuple[dict[str, bytes], float]] = {}  # the adapter, and its seconds
    while found["kills"] < kills:
        number = found["runs"] % len(cases)
        method, dtype = cases[number]
        given = recipe(
            model, method, data=data, max_steps=STEPS, save_steps=1, precision=dtype, seal=False
        )
        if number not in undisturbed:
            out = place / f"undisturbed-{number}"
            plain = given | {"train": given["train"] | {"save_steps": None}}
            status = in_child(lambda p=plain, o=out: fresh(p, o), log, out)
            assert status == 0, log.read_text()
            undisturbed[number] = files(out / "adapter"), time.time() - begun_at(out)
        expected, seconds = undisturbed[number]
        out, found["runs"] = place / f"run-{found['runs']}", found["runs"] + 1
        for attempt in range(PER_RUN + 1):
            may_kill = attempt < PER_RUN and found["kills"] < kills
            if out.exists() and not (out / "recipe.yaml").exists():
                shutil.rmtree(out)  # nothing was there yet
            work = (lambda g=given, o=out: fresh(g, o)) if not out.exists() else lambda o=out: on(o)
            after = chance.uniform(0, 1.5 * seconds) if may_kill else None
            status = in_child(work, log, out, after)
            if status is None:
                found["kills"] += 1
                count_moment(found, out)
            elif status:
                found["lost"] += 1
                found["failures"].append(log.read_text()[-500:])
                break
            if (out / "eval.json").exists():
                break
        if (out / "eval.json").exists() and files(out / "adapter") != expected:
            found["unequal"] += 1
        shutil.rmtree(out, ignore_errors=True)
    return found


def fresh(given: dict[str, Any], out: Path) -> None:
    pipeline.train(given, out=out, progress="silent")


def on(out: Path) -> None:
    pipeline.train(resume=out, progress="silent")


def count_moment(found: dict[str, Any], out: Path) -> None:
    """Note at which moment a kill fell."""
    parent = out / "checkpoints"
    if not (out / "recipe.yaml").exists():
        found["before_the_run"] += 1
    elif (out / "eval.json").exists():
        found["after_its_end"] += 1
    elif not checkpoint.folders(parent):
        found["before_a_checkpoint"] += 1
    elif any(parent.glob(".step-*.part")):
        found["while_saving"] += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        found = prove(chosen.kills, chosen.seed, Path(place))
    print(json.dumps(found | {"seconds": round(time.monotonic() - begun)}, indent=1))
    sys.exit(bool(found["lost"] or found["unequal"]))


if __name__ == "__main__":
    main()
