"""What is looked at before the first step: errors stop the run, warnings are kept with it.

    stops   weights             something is trained, finite, and a new head is among it
            labels              the head's classes are the data's, in the same order
            targets             at least one record has something to learn
            memory, disk        what the run needs in any case is there
            (exact duplicates   `data/overlap.py`, as soon as the data is read)
    warns   targets             records of which nothing is learnt
            padding             filling up a text changes what the model answers
            near_duplicates     test rows that are almost as rows of train
            unknown_tokens      texts the tokenizer does not know, or takes to pieces
            truncation          much of the texts is cut off
            learning_rate       far from the method's own
            warmup              as long as the run
            memory, disk        what the run may need is not there

Why:        what goes wrong in silence is known before it costs hours (`--dry-run` looks too).
Invariants: the model is as before, its random state too; nothing is written.
Cost:       a few short predictions, and comparing the words of train and test.
Not here:   mistakes of recipe, data, model, targets or chat template, which stop where they are
            met; what is looked at while training (`train/learning.py`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lightune.data import overlap
from lightune.data.spelling import check_tokens
from lightune.engine.prefix import LOW_PRECISION_TOLERANCE, PADDING_TOLERANCE
from lightune.errors import MethodError, ModelError, ResourceError, RunError
from lightune.runs.warned import Warned, Warnings
from lightune.train import guards
from lightune.train.batch_fit import room_mb_of
from lightune.train.forecast import ADAM_BYTES, BEST_BYTES
from lightune.train.loop import planned_steps
from lightune.train.memory import rss_mb
from lightune.train.saver import KEPT
from lightune.train.schedule import warmup_steps

if TYPE_CHECKING:
    from lightune.assembly import Job

RATE_HIGH, RATE_LOW = 50.0, 0.01
"""Times the method's own learning rate; beyond them it is odd."""

NEAR_SHARE, NEAR_ROWS = 0.25, 5
"""Near duplicates among the rows that are tested on."""

UNLEARNT_SHARE = 0.01
"""Records without anything to learn."""

CUT_SHARE, MEANT_TO_CUT = 0.25, 0.5
"""Tokens lost to truncation; the second where the recipe names `train.max_length`."""

SMALL_MB = 64
"""Memory that is not asked for: what is free is not known more exactly."""

GRADIENT_BYTES, WEIGHT_BYTES = 4, 4
SHOWN = 3


def preflight(job: Job, warnings: Warnings, place: Path) -> None:
    """Look at everything before the first step; add to the data report what was counted.

    Args:
        warnings: takes what is odd.
        place: the run folder, or where it would be.

    Raises:
        LightuneError: the run cannot be good.
    """
    records, train = job.splits.train, job.examples["train"]
    check_weights(job)
    check_labels(job)
    warnings.look("weights")
    warnings.look("labels")
    warnings.look("targets", check_targets(job))
    warnings.look("memory", check_memory(job))
    warnings.look("disk", check_disk(job, place))
    warnings.look("padding", check_padding(job))
    for name, others in job.splits.named.items():
        if name != "train":
            found = overlap.near(records, others)
            job.splits.report["overlap"][f"train/{name}"] |= found
            warnings.look("near_duplicates", check_near(name, found))
    warnings.look("unknown_tokens", check_tokens(job.predictor.tokenizer, records))
    spec, cut = job.recipe.train, job.splits.report["splits"]["train"]["tokens"]
    warnings.look("truncation", check_cut(cut, spec.max_length is not None, job.base.max_length))
    own = type(job.recipe.method).learning_rate
    warnings.look("learning_rate", check_rate(job.learning_rate, own, job.recipe.method.name))
    warnings.look("warmup", check_warmup(spec.optimizer.warmup, planned_steps(len(train), spec)))


def check_weights(job: Job) -> None:
    """Raise where nothing is trained, a new head is not, or a weight begins as no number.

    Raises:
        MethodError: as said.
    """
    trainable = job.trainable
    if not trainable or not sum(weight.numel() for weight in trainable.values()):
        raise MethodError(
            f"{job.recipe.method.name} leaves nothing to train in {job.base.name}",
            found="0 trained weights",
            mend="other `method.targets`, or another method",
        )
    frozen = [
        path
        for path in job.base.new_modules
        if not all(p.requires_grad for p in job.base.model.get_submodule(path).parameters())
    ]
    if frozen:
        raise MethodError(
            f"{', '.join(frozen)}: random in {job.base.name} and not trained: it would answer at "
            "random for ever",
            found=f"{len(trainable)} trained tensors, and not all of it among them",
            mend="train it whole beside the method, as Lightune's own methods do",
        )
    bad = [path for path, weight in trainable.items() if not torch.isfinite(weight).all()]
    if bad:
        raise MethodError(
            f"{len(bad)} trained tensors hold values that are no numbers before the first step",
            found=", ".join(bad[:SHOWN]),
            mend="fetch the base model again, or what `train.from` names",
        )


def check_labels(job: Job) -> None:
    """Raise where the head's classes are not those of the data.

    Raises:
        ModelError: their number, names or order differ.
    """
    head = job.recipe.task.head(job.predictor.state)
    if not head.labels:
        return
    known = dict(getattr(job.base.model.config, "id2label", None) or {})
    there = [str(known.get(i)) for i in range(len(known))]
    if there != list(head.labels):
        raise ModelError(
            f"the classes of {job.base.name}'s head are not those of the data",
            found=f"head: {', '.join(there[:8])}; data: {', '.join(head.labels[:8])}",
            mend="load the base model with the labels of the data, in their order",
        )


def check_targets(job: Job) -> Warned | None:
    """Return a warning where some records have nothing to learn.

    Raises:
        RunError: none has.
    """
    task, state, train = job.recipe.task, job.predictor.state, job.examples["train"]
    learnt = {e.index for e in train if guards.has_target(task.targets([e], state, len(e)))}
    records = {e.index: job.splits.train[e.index].place for e in train}
    empty = [str(place) for index, place in records.items() if index not in learnt]
    if not empty:
        return None
    found = f"{len(empty)} of {len(records)} records: {', '.join(empty[:SHOWN])}"
    mend = "complete or remove these records; where truncation cut off what was to be learnt, "
    mend += "raise `train.max_length`"
    if not learnt:
        raise RunError("no training record has anything to learn", found=found, mend=mend)
    if len(empty) < UNLEARNT_SHARE * len(records):
        return None
    return Warned("targets", "some records have nothing to learn", found, mend)


def check_padding(job: Job) -> Warned | None:
    """Return a warning where a short text is answered otherwise beside a long one than alone."""
    by_length = sorted(job.examples["train"][:64], key=len)
    short, long = by_length[0], by_length[-1]
    if len(short) == len(long):
        return None
    together, alone = job.predictor.logits([short, long])[0], job.predictor.logits([short])[0]
    common = tuple(slice(0, min(a, b)) for a, b in zip(together.shape, alone.shape, strict=True))
    largest = float(alone[common].abs().max())
    difference = float((together[common] - alone[common]).abs().max())
    low = job.predictor.prepared.plan.dtype != "float32"
    allowed = 5 * LOW_PRECISION_TOLERANCE if low else PADDING_TOLERANCE[torch.float32]
    if difference <= allowed * max(largest, 1e-2):
        return None
    return Warned(
        "padding",
        "the model reads the padding: a text is answered otherwise beside a longer one",
        f"outputs of {job.splits.train[short.index].place} differ by {difference:.2g}, the largest "
        f"is {largest:.2g}",
        "another model, or train.batch_size: 1; scores depend on which texts share a batch",
    )


def check_near(name: str, found: dict[str, Any]) -> Warned | None:
    """Return a warning where much of what is tested on is almost as something trained on.

    Args:
        found: see `overlap.near`.
    """
    if found["near_share"] < NEAR_SHARE or found["near_rows"] < NEAR_ROWS:
        return None
    pairs = [f"{other} ~ {train}" for other, train in found["near_examples"][:SHOWN]]
    return Warned(
        "near_duplicates",
        f"much of {name} is almost as in train, so the score says little of other texts",
        f"{found['near_rows']} of {found['compared'][1]} rows share 8 of 10 words with one of "
        f"train: {', '.join(pairs)}",
        f"keep texts of one source on one side, and name the files: `data: {{{name}: FILE}}`",
    )


def check_cut(facts: dict[str, Any], meant: bool, longest: int) -> Warned | None:
    """Return a warning where truncation takes much of the texts.

    Args:
        facts: of the training split, see `data.report.add_lengths`.
        meant: the recipe names the length.
        longest: tokens that the model reads.
    """
    if facts["tokens_lost_share"] < (MEANT_TO_CUT if meant else CUT_SHARE):
        return None
    room = facts["max_length"] < longest
    return Warned(
        "truncation",
        "much of the texts is cut off and never read",
        f"{facts['truncated_rows']:,} records are longer than {facts['max_length']} tokens, "
        f"{facts['tokens_lost_share']:.0%} of all tokens lost",
        f"train.max_length={min(longest, int(facts['p95']))}"
        if room
        else "a model that reads longer texts, or texts in parts",
    )


def check_rate(rate: float, own: float, method: str) -> Warned | None:
    """Return a warning where the learning rate is far from the method's own."""
    if RATE_LOW * own <= rate <= RATE_HIGH * own * (1 + 1e-9):
        return None
    times = f"{rate / own:,.0f} times" if rate > own else f"a {own / rate:,.0f}th of"
    return Warned(
        "learning_rate",
        f"the learning rate is {times} the one that {method} trains well with",
        f"train.learning_rate: {rate:g}",
        f"leave it out, which takes {own:g}",
    )


def check_warmup(warmup: int | float, steps: int) -> Warned | None:
    """Return a warning where the learning rate never reaches its peak."""
    rising = warmup_steps(warmup, steps)
    if rising < steps or not rising:
        return None
    return Warned(
        "warmup",
        "the learning rate never reaches its peak",
        f"{rising} steps of warm-up in a run of {steps}",
        "fewer steps under `train.optimizer.warmup`, or a share such as 0.06",
    )


def check_memory(job: Job, room: float | None = None) -> Warned | None:
    """Return nothing where gradients and the optimiser's state fit into memory.

    Args:
        room: megabytes that may be taken; None asks the system.

    Raises:
        ResourceError: they do not, whatever the batch.
    """
    count = sum(weight.numel() for weight in job.trainable.values())
    need = (GRADIENT_BYTES + ADAM_BYTES + _kept(job)) * count / 1e6
    if need <= SMALL_MB:
        return None
    room = room_mb_of(job.predictor.prepared.plan.device) if room is None else room
    if need <= room:
        return None
    raise ResourceError(
        f"{job.recipe.method.name} cannot be trained in the memory there is",
        found=f"{room:,.0f} MB free; gradients and optimiser of {count:,} weights take "
        f"{need:,.0f} MB",
        mend="a method that trains fewer weights (`method: lora`), or a smaller model",
    )


def check_forecast(peak_mb: float, device: str, room: float | None = None) -> Warned | None:
    """Return a warning where the forecast of memory is more than there is.

    Args:
        peak_mb: see `Forecast`.
        room: megabytes that may be taken beyond what is held; None asks the system.
    """
    held = 0.0 if device.startswith("cuda") else rss_mb()
    room = room_mb_of(device) if room is None else room
    if device.startswith("cuda"):
        held = torch.cuda.memory_allocated() / 1e6
    if peak_mb <= held + max(room, SMALL_MB):
        return None
    return Warned(
        "memory",
        "the training will probably not fit into memory",
        f"forecast {peak_mb:,.0f} MB, {held + room:,.0f} MB there",
        "train.batch_size=auto, shorter inputs (train.max_length), or a smaller model",
    )


def check_disk(job: Job, place: Path, free: Callable[[Path], int] | None = None) -> Warned | None:
    """Return a warning where the disk has no room for all checkpoints that may be kept.

    Args:
        place: the run folder, which need not exist.
        free: folder -> bytes free there; None asks the system.

    Raises:
        ResourceError: not even the adapter and one checkpoint fit.
    """
    count = sum(weight.numel() for weight in job.trainable.values())
    adapter = WEIGHT_BYTES * count
    if job.attachments[0].layout == "model":
        adapter = sum(p.numel() * p.element_size() for p in job.base.model.parameters())
    one = (WEIGHT_BYTES + ADAM_BYTES + _kept(job)) * count
    least, most = adapter + one, adapter + (KEPT + 1) * one
    there = next(folder for folder in (place, *place.absolute().parents) if folder.is_dir())
    room = (free or (lambda folder: shutil.disk_usage(folder).free))(there)
    sizes = f"{room / 1e6:,.0f} MB free in {there}; the adapter takes {adapter / 1e6:,.0f} MB, "
    sizes += f"a checkpoint {one / 1e6:,.0f} MB"
    mend = "free space there, another disk (--out DIR), or a method that trains fewer weights"
    if room < least:
        raise ResourceError("the disk has no room for the run", found=sizes, mend=mend)
    if room >= most or job.recipe.train.save_steps is None:
        return None
    return Warned("disk", "the disk has no room for all checkpoints of the run", sizes, mend)


def _kept(job: Job) -> int:
    """Return the bytes for each trained weight that the best weights so far take."""
    evaluation = job.recipe.train.evaluation
    scored = job.splits.validation and evaluation.every is not None
    return BEST_BYTES if scored and evaluation.best else 0
