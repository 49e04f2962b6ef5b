"""The sides of a comparison, and how each one's process is run.

    Lightune                       defaults
    plain                          Trainer + PEFT as the usual script has it: float32, fixed padding
    best / TRL, ATTENTION[, bf16 weights]
                                   Trainer + PEFT, or TRL's SFTTrainer + PEFT, at their best; which
                                   of four forms is fastest here is tried first, per workload

Errors:  a side that fails ends the benchmark with its command and output; TRL that cannot be
         installed is a row left out, and said.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import trl_environment
import workloads

HERE = Path(__file__).parent
OURS, PLAIN = "Lightune", "Trainer + PEFT, plain"
FORMS = {
    f"{attention}{', bf16 weights' if weights == 'bfloat16' else ''}": (attention, weights)
    for weights in ("float32", "bfloat16")
    for attention in ("sdpa", "eager")
}
"""What is tried for a peer at its best: attention, and the format of the frozen weights."""

BEST = tuple(f"Trainer + PEFT, {form}" for form in FORMS)
TRL = tuple(f"TRL + PEFT, {form}" for form in FORMS)


class Failed(Exception):
    """A side's process did not succeed; the message has its command and output."""


def peers(load: workloads.Workload) -> tuple[str, ...]:
    """Return the forms of peers that may be a workload's best."""
    return BEST + (TRL if load.trl else ())


def run(
    load: workloads.Workload, side: str, kind: str, seed: int, work: Path, **more: Any
) -> dict[str, Any]:
    """Train one side once, in a process of its own.

    Args:
        kind: `speed` or `score`.
        more: added to the job (`changes` of Lightune's recipe).

    Raises:
        Failed: the process did not succeed.
    """
    job = workloads.job(load, kind, side == PLAIN, seed, work) | more
    file, environment, python = "peer_trainer.py", dict(os.environ), sys.executable
    if side == OURS:
        file = "side_lightune.py"
    elif side == PLAIN:
        job |= {"kind": "plain", "attention": "sdpa", "weights": "float32"}
    else:
        attention, weights = FORMS[side.partition(", ")[2]]
        job |= {"kind": "best", "attention": attention, "weights": weights}
    if side in TRL:
        file = "peer_trl.py"
        python, environment = trl_environment.command(work)
    with tempfile.TemporaryDirectory() as out:
        return process([python, str(HERE / file), json.dumps(job | {"out": out})], environment)


def process(words: list[str], environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Run a command; return the JSON of its last line.

    Raises:
        Failed: an exit status other than 0.
    """
    return json.loads(output(words, environment).splitlines()[-1])


def output(words: list[str], environment: dict[str, str] | None = None) -> str:
    """Run a command; return what it printed.

    Raises:
        Failed: an exit status other than 0.
    """
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        told = f"status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        raise Failed(f"{' '.join(words)}\n{told}")
    return done.stdout
