"""The sentences of docs/reliability.md; `page.py` puts the figures in."""

PAGE = """\
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

### At random moments

{kills}
{peer_kills}
### At every call

{crash_points}
### On full disks

{full_disk}
## Damage is seen

{damage}
## Faults of training are told

{faults}
## Files from strangers

{fuzz}
## A long run

{long_run}
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

{seal_cost}
## What is not covered

- PEFT's ADALORA keeps a state of its own while training; such a run has no checkpoints.
- A process killed between making the run's folder and writing its recipe leaves a folder that can
  only be deleted.
- Loss of power was not simulated: that synced bytes stay is left to the file system.
- On a GPU the sums of some kernels depend on timing; going on bit for bit was tried on CPUs.
- A Parquet file in which one long text stands for very many rows is not refused by its size.
"""

KILLED = """\
Tiny trainings of {cases} kinds (LoRA, full fine-tuning, bottleneck adapters, prompt tuning, each in
float32 and bfloat16), saved after every step, killed with SIGKILL at random moments, resumed, and
killed again. These are {kills} kills; `make proof-long` makes a thousand.

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

None lost of the {inside} that fell into a run means at most {bound} for each, with 95 % confidence.
"""

PEER = """\
Hugging Face Trainer {transformers} beside it: the same tiny model and rows, saved after every step,
resumed from `get_last_checkpoint`. {kills} kills on {runs} runs: {lost} runs could not be resumed
without deleting something by hand; of those that ended, {unequal} had other weights than the
undisturbed training.
{rows}"""

CRASH_FAULTS = {
    "kill": "killed there, half a write done",
    "full": "the disk is full from there on (ENOSPC)",
    "broken": "that call fails (EIO)",
}

CRASH_POINTS = """\
A library before the C library's own counts every call that changes a tiny run's folder: three
steps, each saved (the first save, another copy of the best weights, one after which the oldest
goes), the adapter, the results. Each call alone is made the last one, or made to fail; then the run
goes on. Recovered means: the adapter has the bytes of the undisturbed run's, and what ended the
first try was a kill or an error that names its mend.

| disturbed | how | recovered / calls | of these begun anew, nothing being there |
|---|---|---|---|
{rows}
"""

FULL_DISK = """\
The same training on {disks} really full disks, tmpfs mounts from 4 kB to twice what it holds at its
end ({at_its_end_kb} kB): {ended} trainings ended with an error that names the mend, {went_on} came
to their end, without checkpoints or log lines that did not fit. Once there was space, those that
had ended went on ({begun_anew} anew, as not even the recipe had fitted): {lost} lost, {unequal}
with another adapter.
"""

DAMAGE = """\
Each damage was made alone: a bit flipped, a file cut, a file deleted.

| damaged | bits flipped: seen / made | files cut | files deleted |
|---|---|---|---|
{rows}
"""

FAULTS = """\
{faults} faults that elsewhere pass in silence were planted in tiny trainings, {caught} were caught
where they should be. {clean} trainings with nothing wrong, of eight tasks (not text2text, not code
generation) with two to thirteen methods each: {alarms} false alarms.

| seen as | faults | which |
|---|---|---|
{rows}
"""

FUZZ = """\
{total:,} files and recipes with random changes: bits, pieces cut out, doubled, moved, lists where
names stand, and what tends to break readers; of adapters the manifest, PEFT's config and the header
of the weights, with the hashes put right. Each may be read or refused. Anything but an error of
Lightune's own, more than 10 seconds, or more than 2 GB would count as escaped: {escaped} did (peak
{peak_mb} MB, PyTorch included). Gzip and Parquet bombs, endless headers and ranks are tests of
their own.

| kind | tried | refused |
|---|---|---|
{rows}
"""

LONG_RUN = """\
A tiny model, LoRA with dropout, {steps:,} steps, scored and saved on the way: {mb_per_1000_steps}
MB of growth in 1,000 steps ({rss_mb[0]} MB after a fifth of them, {rss_mb[1]} MB at the end); open
files {open_files[0]} and {open_files[1]}, threads {threads[0]} and {threads[1]}.
"""

SEAL_COST = """\
Cost: {cpu_seconds} seconds of one processor core for `{model}` (imports included; {repeated} of
{of} test records predicted again), whatever the training took: {share:.0%} of a run of two minutes.
`train.seal: false` leaves it out, and the run is marked unsealed.
"""
