"""Write docs/reliability.md from what the proofs printed.

    python tests/proof/kills.py > kills.json
    python tests/proof/damage.py > damage.json
    python tests/proof/seal_cost.py > seal.json
    python tests/proof/page.py kills.json damage.json seal.json

The figures are those of the files, nothing is filled in; the sentences are here.
"""

import json
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"

TEXT = """\
# Reliability: what was tried, and what came of it

Written by `tests/proof/page.py` from what the proofs printed; `make proof` runs them again, and
small parts of each are in `make test`.

## A killed run goes on

A run saves its whole state every `train.save_steps` (optimiser steps, or `10 min`, the default):
trained weights, AdamW's moments, counters, early stopping, the best weights. The files are
safetensors and JSON, written beside, synced, hashed, listed in a manifest that comes last, and
renamed into place; the last two checkpoints are kept. No random state is stored, because none is
needed: the order of the records and dropout's numbers are functions of seed, epoch and step.

    lightune train --resume runs/mine
    lightune train --resume runs/mine -s train.epochs=6      # more is allowed, another rank is not

SIGINT or SIGTERM: the step is finished, the state saved, the exit status is 75. A second signal
ends the process at once; what was saved is whole. A damaged checkpoint is renamed to
`damaged-step-…`, said, and the one before is taken; where none is whole, it is an error. A run has
one writer at a time, where its file system can lock.

Tried: tiny trainings of {cases} kinds (LoRA, full fine-tuning, bottleneck adapters, prompt tuning,
each in float32 and bfloat16), saved after every step, killed with SIGKILL at random moments,
resumed, and killed again.

| | |
|---|---|
| kills | {kills} |
| of these before the run's folder was there (it was begun again) | {before_the_run} |
| before the first checkpoint was whole | {before_a_checkpoint} |
| between two checkpoints | {between} |
| while a checkpoint was being written | {while_saving} |
| after the run had ended | {after_its_end} |
| runs | {runs} |
| runs lost | {lost} |
| adapters that differ in any byte from those of the undisturbed training, which never saved | \
{unequal} |

None lost of the {inside} that fell into a run means at most {bound:.0%} for each, with 95 %
confidence.

## Damage is seen

Each damage was made alone: a bit flipped, a file cut, a file deleted.

| damaged | bits flipped: seen / made | files cut | files deleted |
|---|---|---|---|
{damage}

## The seal

After training a new process loads the adapter from the disk onto the base and checks that: every
file's hash is right; the head is there; every trained tensor has moved from its start; merged into
the base it gives the same outputs, where the method merges; test records are predicted as
recorded (all up to 256, else every so-many-th; 8 where texts are written); the scores are those
of the recorded predictions. Of texts that are written the loss of each record must be the same;
the texts themselves are compared only in float32 and where none is drawn, and one in four may
differ, as one near tie changes a text for good. Then it writes `seal.json`, with a hash of every
file of the run. `lightune verify RUN` does it again, ends with 2 and names every file that changed.

On another machine probabilities and losses may differ by 0.001 (float32), 0.05 (bfloat16); a label
may only where the two are as near. A seal is no signature: it shows damage, mix-ups and edits, not
forgery.

Cost: {cpu_seconds} seconds of one processor core for `{model}` (imports included; {repeated} of
{of} test records predicted again), whatever the training took: {share:.0%} of a run of two minutes.
`train.seal: false` leaves it out, and the run is marked unsealed.

## What is not covered

- PEFT's ADALORA keeps a state of its own while training; such a run has no checkpoints.
- A process killed between making the run's folder and writing its recipe leaves a folder that can
  only be deleted.
- Loss of power was not simulated: that synced bytes stay is left to the file system.
- On a GPU the sums of some kernels depend on timing; going on bit for bit was tried on CPUs.
"""


def page(kills: dict[str, Any], damage: dict[str, Any], seal: dict[str, Any]) -> str:
    """Return the page."""
    rows = [
        f"| {thing} | " + " | ".join(f"{seen} / {made}" for made, seen in pairs) + " |"
        for thing, found in damage.items()
        for pairs in [[found["flips"], found["truncations"], found["deletions"]]]
    ]
    inside = kills["kills"] - kills["before_the_run"]
    bound = 1 - 0.05 ** (1 / inside)  # nothing lost in n trials: (1 - p)^n = 5 %
    share = seal["cpu_seconds"] / 120
    moments = ("before_the_run", "before_a_checkpoint", "while_saving", "after_its_end")
    between = kills["kills"] - sum(kills[moment] for moment in moments)
    numbers = {
        **kills,
        **seal,
        "between": between,
        "inside": inside,
        "bound": bound,
        "share": share,
        "damage": "\n".join(rows),
    }
    return TEXT.format(**numbers)


if __name__ == "__main__":
    given = [json.loads(Path(name).read_text()) for name in sys.argv[1:4]]
    if given[0]["lost"] or given[0]["unequal"]:
        sys.exit("runs were lost or differ: mend that first")
    PAGE.write_text(page(*given))
