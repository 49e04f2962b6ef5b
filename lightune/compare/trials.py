"""One trial: one contender trained on one fold's training part, and asked about its test part.

    outcome = run_trial(trial, bench)

Why:        this is the one seam through which everything is run. A trial is plain data, and so is
            its outcome, so that trials can be run in any order, again after a crash, or elsewhere.
Invariants: a trial is a function of itself and the records alone: what ran before it changes none
            of its bits. No record of its test part, nor any with the same text, is seen in
            training or in choosing settings. What is held out to choose by shares no text and no
            group with what is trained on.
Tuning:     a contender with choices holds a fifth of the training part out, trains each choice on
            the rest, and is trained by the best on the whole part, by the metric that decides the
            comparison; a tie takes the earlier one.
Errors:     `Stopped` when a signal came; `OutOfTime` when the deadline did: the trial is void.
Not here:   which trials there are (`design.py`), those of baselines (`baselines.py`).
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from lightune.adapters.merge import masters
from lightune.adapters.save import file_tensors
from lightune.assembly import Job, assemble
from lightune.compare import baselines
from lightune.compare.baselines import Answer
from lightune.compare.bench import Bench
from lightune.compare.contenders import UNTUNED, Contender
from lightune.compare.folds import labels_of, text_of
from lightune.compare.outcome import Outcome
from lightune.data.load import Splits
from lightune.data.report import describe_split
from lightune.data.split import hold_out
from lightune.errors import Stopped
from lightune.evaluate.report import LOWER_IS_BETTER
from lightune.predictor import Predictor
from lightune.recipe import Recipe, load_recipe
from lightune.runs.files import to_json
from lightune.tasks.base import Task
from lightune.train.loop import fit
from lightune.train.memory import peak_rss_mb, reset_peak
from lightune.types import Example, Record

TUNING_SHARE, VALIDATION_SHARE = 0.2, 0.1
"""Of a training part: held out to choose settings by; to score on while training."""

ALONE = 5
"""Records predicted alone, of which the median time is the latency."""


@dataclass(frozen=True)
class Trial:
    """What is to be run.

    Attributes:
        fold, seed: see `Outcome`.
        size: as asked for: `all`, `32`, `8/class`.
        train, test: positions among all records.
        metric: what decides; None for the task's own.
    """

    contender: Contender
    fold: int
    seed: int
    size: str
    train: tuple[int, ...]
    test: tuple[int, ...]
    metric: str | None = None

    @property
    def key(self) -> tuple[str, int, int, str]:
        """What tells it from every other trial of its comparison."""
        return self.contender.name, self.fold, self.seed, self.size


def key_of(outcome: Outcome) -> tuple[str, int, int, str]:
    """Return the key of the trial that left an outcome."""
    return outcome.contender, outcome.fold, outcome.seed, str(outcome.settings.get("size", "all"))


def run_trial(trial: Trial, bench: Bench, deadline: float | None = None) -> Outcome:
    """Run one trial.

    Args:
        bench: what it shares with others.
        deadline: of `time.monotonic`; None for none.

    Raises:
        OutOfTime, Stopped: it did not end; nothing of it is kept.
        LightuneError: the contender cannot be trained so; the message says why.
    """
    bench.deadline = deadline
    contender = trial.contender
    train = [bench.records[i] for i in trial.train]
    test = [bench.records[i] for i in trial.test]
    recipe = load_recipe(contender.recipe, {"train.seed": trial.seed})
    settings = {**contender.settings(), "size": trial.size}
    if contender.baseline and contender.baseline != UNTUNED:
        answer = baselines.answer(contender.baseline, recipe, trial.train, trial.test, bench)
        return _outcome(trial, recipe.task, answer, test, settings)
    if contender.choices:
        chosen, recipe, tuning = _tuned(trial, train, bench)
        settings["tuned"] = to_json(chosen)
    else:
        tuning = 0.0
    answer = _trained(recipe, train, test, bench, train_it=not contender.baseline)
    answer = replace(answer, seconds=answer.seconds + tuning)
    gc.collect()
    return _outcome(trial, recipe.task, answer, test, settings)


def _outcome(
    trial: Trial,
    task: Task,
    answer: Answer,
    test: Sequence[Record],
    settings: dict[str, Any],
) -> Outcome:
    """Score what was answered, and name the records by their place among all."""
    scores = task.score(answer.predictions, test, answer.state, intervals=False)
    return Outcome(
        contender=trial.contender.name,
        fold=trial.fold,
        seed=trial.seed,
        size=len(trial.train),
        metrics={name: score.value for name, score in scores.metrics.items()},
        predictions=tuple(
            replace(p, index=trial.test[p.index]) for p in scores.kept_with(answer.predictions)
        ),
        seconds=answer.seconds,
        peak_memory=answer.peak_memory,
        trained_weights=answer.trained_weights,
        adapter_bytes=answer.adapter_bytes,
        latency=answer.latency,
        throughput=answer.throughput,
        settings=settings,
    )


def _tuned(trial: Trial, train: list[Record], bench: Bench) -> tuple[dict[str, Any], Recipe, float]:
    """Return the choice that is best inside the training part, its recipe, and the seconds."""
    task = trial.contender.recipe.task
    rest, held = _held_out(train, TUNING_SHARE, trial.seed, task, bench)
    begun = time.perf_counter()
    scored = []
    for chosen, recipe in trial.contender.choices:
        recipe = load_recipe(recipe, {"train.seed": trial.seed})
        answer = _trained(recipe, rest, held, bench)
        scores = recipe.task.score(answer.predictions, held, answer.state, intervals=False)
        metrics = {name: score.value for name, score in scores.metrics.items()}
        scored.append((metrics, dict(chosen), recipe))
    names = (trial.metric or recipe.task.deciding, recipe.task.deciding)
    best = best_of([metrics for metrics, _, _ in scored], names)
    return scored[best][1], scored[best][2], time.perf_counter() - begun


def best_of(scored: Sequence[Mapping[str, float]], names: Sequence[str]) -> int:
    """Return the position of the best metrics, the first of equals.

    Args:
        names: the first of them that is defined everywhere decides; 0 is returned where none is.
    """
    for name in names:
        values = [metrics.get(name, math.nan) for metrics in scored]
        if all(map(math.isfinite, values)):
            return values.index(min(values) if name in LOWER_IS_BETTER else max(values))
    return 0


def _trained(
    recipe: Recipe,
    train: list[Record],
    test: list[Record],
    bench: Bench,
    train_it: bool = True,
) -> Answer:
    """Train on `train` (or do not), and predict `test`."""
    reset_peak()
    bench.check_time()
    job = job_of(recipe, train, test, bench)
    seconds = _fit(job, bench) if train_it else 0.0
    peak = int(peak_rss_mb() * 1e6)
    begun = time.perf_counter()
    predictions = job.predictor.predict(job.examples["test"], purpose="test")
    took = time.perf_counter() - begun
    trained = sum(p.numel() for p in job.trainable.values()) if train_it else 0
    return Answer(
        predictions=predictions,
        state=job.predictor.state,
        seconds=seconds,
        peak_memory=peak,
        trained_weights=trained,
        adapter_bytes=_bytes(job) if train_it else 0,
        latency=_latency(job.predictor, job.examples["test"]),
        throughput=len(test) / took,
    )


def job_of(recipe: Recipe, train: list[Record], test: list[Record], bench: Bench) -> Job:
    """Return a training on some records, ready to start, on what the bench shares."""
    splits = _splits(recipe, train, test, bench)
    return assemble(recipe, bench.note, splits=splits, sources=bench.sources)


def _fit(job: Job, bench: Bench) -> float:
    """Train; return the seconds.

    Raises:
        OutOfTime, Stopped: it was interrupted.
    """

    def on_step(step: int, state: Any) -> None:
        job.recipe.method.on_step(job.attachments[0], step)
        bench.check_time()

    def evaluate() -> dict[str, float]:
        predictions = job.predictor.predict(job.examples["validation"], purpose="validation")
        scores = job.recipe.task.score(
            predictions, job.splits.validation, job.predictor.state, intervals=False
        )
        return {name: score.value for name, score in scores.metrics.items()}

    with bench.prefix_cache(job) as cache:
        result = fit(
            **job.loop_arguments(),
            groups=job.groups(),
            masters=job.predictor.prepared.pairs,
            prefix_cache=cache,
            evaluate=evaluate if job.splits.validation else None,
            on_step=on_step,
            place=lambda index: str(job.splits.train[index].place),
        )
    if result.state is not None:
        raise Stopped(
            f"stopped by {result.stopped}: the trials done until now are kept",
            mend="the same command goes on with those that are left",
        )
    return result.seconds


def _splits(recipe: Recipe, train: list[Record], test: list[Record], bench: Bench) -> Splits:
    """Return the trial's records as an assembly takes them."""
    validation = list(bench.validation)
    if not validation and recipe.train.evaluation.needs_records:
        seed = recipe.train.seed
        train, validation = _held_out(train, VALIDATION_SHARE, seed, recipe.task, bench)
    named = {"train": train, "validation": validation, "test": test}
    report = {name: describe_split(records) for name, records in named.items() if records}
    return Splits(train, validation, test, [], {"splits": deepcopy(report)})


def _held_out(
    train: list[Record], share: float, seed: int, task: Task, bench: Bench
) -> tuple[list[Record], list[Record]]:
    """Return `(rest, held)`, groups kept together; texts alone where the groups are too few for
    every label to be trained on."""
    for together in (bench.together(task), text_of(task)):
        rest, held = hold_out(train, share, seed, text=together, strict=False)
        known = {label for record in rest for label in labels_of(record)}
        if held and all(known.issuperset(labels_of(record)) for record in held):
            break
    return rest, held


def _latency(predictor: Predictor, examples: Sequence[Example]) -> float:
    """Return the seconds of predicting one record alone, the median of a few."""
    by_record: dict[int, list[Example]] = {}
    for example in examples:
        by_record.setdefault(example.index, []).append(example)
    chosen = list(by_record.values())[:ALONE]
    predictor.predict(chosen[0], purpose="test")
    times = []
    for one in chosen:
        begun = time.perf_counter()
        predictor.predict(one, purpose="test")
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def _bytes(job: Job) -> int:
    """Return the size of the trained weights as they are saved, in float32."""
    if job.attachments[0].layout == "model":
        return sum(4 * p.numel() for p in job.base.model.parameters())
    tensors = file_tensors(job.attachments, masters(job.attachments))
    return sum(4 * tensor.numel() for tensor in tensors.values())
