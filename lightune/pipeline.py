"""From a recipe to a finished run folder.

    read and check the data -> load the base -> attach the method -> train -> save the adapter
    -> score the test records -> write the run folder's files

Invariants: nothing is written before the recipe, the data and the model have been found good; an
            existing run is never touched; the scores are those of the model as saved.
Not here:   what comes before the first step (`assembly.py`), the loop (`train/loop.py`).
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from lightune.adapters.save import save_adapter
from lightune.assembly import Job, assemble
from lightune.data.report import render
from lightune.engine.prefix_cache import prefix_cache
from lightune.errors import ConfigError
from lightune.evaluate import plots
from lightune.evaluate.custom import Metric, add_metrics
from lightune.preflight import check_forecast, preflight
from lightune.recipe import Recipe, dump, load_recipe
from lightune.recorded import environment_of
from lightune.resume import (
    Earlier,
    cannot_save,
    check_same,
    facts_of,
    history,
    make_ready,
    put_back,
    remove_if_empty,
    reopen,
)
from lightune.run import Run, as_json, prediction_row, score
from lightune.runs.card import write_card
from lightune.runs.files import disk_errors
from lightune.runs.folder import RunFolder, check_free
from lightune.runs.lock import writing
from lightune.runs.log import MetricsLog, read_log
from lightune.runs.warned import Warnings, as_rows, read_warnings
from lightune.sealing import seal_run, tensor_hashes
from lightune.train.forecast import Forecast, forecast
from lightune.train.loop import FitResult, epoch_steps, fit, planned_steps
from lightune.train.memory import give_back, peak_rss_mb, reset_peak
from lightune.train.progress import Look, Progress
from lightune.train.saver import Saver
from lightune.train.trackers import check_installed, tracking
from lightune.watch import Watch

Note = Callable[[str], None]


FORECAST_FROM_STEPS = 200
"""A training of so many steps keeps a forecast of itself, which costs about six steps."""


def to_stderr(text: str) -> None:
    """Print a note where it does not mix with results."""
    print(text, file=sys.stderr, flush=True)


def train(
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    metrics: Mapping[str, Metric] | None = None,
    progress: Look = "auto",
    note: Note | None = None,
    **sections: Any,
) -> Run:
    """Fine-tune a base model and write a run folder.

    Args:
        recipe: a YAML file, a dict of the same form, or a `Recipe`; None when `sections` say all.
        out: the run folder, which must not exist yet; by default `runs/<task>-<model>-<method>`.
        resume: a run that was stopped or killed, to go on with; it brings its own recipe.
        overrides: changes by dotted key: `["method.rank=16"]` or `{"method.rank": 16}`.
        metrics: further metrics for the final scores, name -> `f(truth, predicted) -> number`.
        progress: what is shown while training; see `train/progress.py`.
        note: takes each sentence the user should read; by default they go to standard error,
            and nowhere when `progress` is `silent`.
        sections: sections of the recipe: `task=…, model=…, method=…, data=…, train=…`.

    Raises:
        LightuneError: what is wrong, what was found, and the mend.

    Example:
        run = lightune.train(task="classification", data="reviews.csv", method="lora")
        print(run.metrics["accuracy"])
    """
    note = note or (to_stderr if progress != "silent" else lambda text: None)
    if resume is not None:
        if recipe is not None or sections or out is not None:
            raise ConfigError(
                "resume: a run goes on in its own folder, with its own recipe",
                found="a recipe or `out` beside it",
                mend="leave them out; what may change is given as -s train.epochs=6",
            )
        return _go_on(RunFolder.open(resume, finished=False), overrides, metrics, progress, note)
    resolved = _resolve(recipe, overrides, sections, note)
    if out is not None:
        check_free(out)
    reset_peak()
    job = assemble(resolved, note)
    warnings = Warnings(note)
    preflight(job, warnings, Path(out or "runs"))
    for line in render(job.splits.report):
        note(line)
    folder = _make_folder(out, resolved)
    with writing(folder.path, note):
        with disk_errors(folder.checkpoints):
            folder.checkpoints.mkdir()
        folder.write(folder.recipe, dump(job.recipe))
        folder.write(folder.data_report, job.splits.report)
        folder.write(folder.environment, environment_of(job))
        warnings.keep_in(folder.path)
        expected = _forecast_beside(job, warnings)
        starts = tensor_hashes(job.attachments)
        result, watch = _fit(job, folder, progress, note, warnings)
        _finish(job, folder, result, expected, metrics, watch)
        remove_if_empty(folder.checkpoints)  # until now a kill leaves what begins anew
        _seal(job, folder, starts, result, note)
    return Run(folder, job.predictor, note)


def _go_on(
    folder: RunFolder,
    overrides: Sequence[str] | Mapping[str, Any],
    metrics: Mapping[str, Metric] | None,
    progress: Look,
    note: Note,
) -> Run:
    """Train a stopped or killed run to its end."""
    reset_peak()
    with writing(folder.path, note):
        earlier = reopen(folder, overrides, note)
        check_installed(earlier.recipe.train.trackers)
        job = assemble(earlier.recipe, note, earlier.plan)
        check_same(earlier, job)
        if earlier.checkpoint:
            note(f"goes on after step {earlier.checkpoint.state.step} ({earlier.checkpoint.path})")
        warnings = Warnings(note, read_warnings(folder.path))
        preflight(job, warnings, folder.path)
        starts = tensor_hashes(job.attachments)
        with put_back(folder):
            make_ready(earlier)
            folder.write(folder.environment, environment_of(job) | history(earlier))
            folder.write(folder.recipe, dump(job.recipe))
            folder.write(folder.data_report, job.splits.report)
            warnings.keep_in(folder.path)
            result, watch = _fit(job, folder, progress, note, warnings, earlier)
        _finish(job, folder, result, None, metrics, watch)
        remove_if_empty(folder.checkpoints)
        _seal(job, folder, starts, result, note)
    return Run(folder, job.predictor, note)


def dry_run(
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    *,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    **sections: Any,
) -> dict[str, Any]:
    """Check everything and forecast, train nothing and write nothing.

    Returns:
        `{"recipe", "data", "trainable_parameters", "total_parameters", "forecast": {"steps",
        "seconds", "test_seconds", "peak_memory_mb"}, "plan", "notes", "warnings"}`.
    """
    notes: list[str] = []
    resolved = _resolve(recipe, overrides, sections, notes.append)
    job = assemble(resolved, notes.append)
    warnings = Warnings(lambda text: None)
    preflight(job, warnings, Path("runs"))
    expected = asdict(_forecast(job, warnings))
    counts = {key: expected.pop(key) for key in ("trainable_parameters", "total_parameters")}
    return {
        "recipe": dump(job.recipe),
        "data": job.splits.report,
        **counts,
        "forecast": expected,
        "plan": job.predictor.prepared.plan.model_dump(),
        "notes": notes,
        "warnings": as_rows(warnings.items),
    }


def _forecast(job: Job, warnings: Warnings, brief: bool = False) -> Forecast:
    expected = forecast(
        **job.loop_arguments(),
        masters=job.predictor.prepared.pairs,
        validation=job.examples.get("validation", ()),
        test=job.examples.get("test", ()),
        predict=partial(job.predictor.predict, purpose="validation"),
        brief=brief,
    )
    device = job.predictor.prepared.plan.device
    warnings.look("memory", check_forecast(expected.peak_memory_mb, device))
    return expected


def _forecast_beside(job: Job, warnings: Warnings) -> dict[str, float] | None:
    """Return what the run keeps beside what then happened; None for a training so short that
    measuring would be a good part of it."""
    if planned_steps(len(job.examples["train"]), job.recipe.train) < FORECAST_FROM_STEPS:
        return None
    expected = asdict(_forecast(job, warnings, brief=True))
    return {key: expected[key] for key in ("steps", "seconds", "test_seconds", "peak_memory_mb")}


def _resolve(
    recipe: Recipe | Mapping[str, Any] | str | Path | None,
    overrides: Sequence[str] | Mapping[str, Any],
    sections: Mapping[str, Any],
    note: Note,
) -> Recipe:
    """Read the recipe; a model folder is named by its full path, so that the run finds it again."""
    given = sections if recipe is None else recipe
    resolved = load_recipe(given, overrides)
    if recipe is not None and sections:
        resolved = load_recipe(resolved, sections)
    for sentence in resolved.notes:
        note(sentence)
    if Path(resolved.model).is_dir():
        resolved = load_recipe(resolved, {"model": str(Path(resolved.model).resolve())})
    check_installed(resolved.train.trackers)
    return resolved


def _make_folder(out: str | Path | None, recipe: Recipe) -> RunFolder:
    if out is not None:
        return RunFolder.create(out)
    return RunFolder.create_default(recipe.task.name, recipe.model, recipe.method.name)


def _fit(
    job: Job,
    folder: RunFolder,
    look: Look,
    note: Note,
    warnings: Warnings,
    earlier: Earlier | None = None,
) -> tuple[FitResult, Watch]:
    """Train, logging to the run folder, to trackers and to the terminal; save what to resume."""
    spec = job.recipe.train
    steps = planned_steps(len(job.examples["train"]), spec)
    watch = Watch(job, warnings, steps)
    begun = time.perf_counter() - (earlier.seconds if earlier else 0.0)
    unsaved = cannot_save(job.attachments)
    saver = Saver(
        folder.checkpoints,
        None if unsaved else spec.save_steps,
        lambda: facts_of(job, time.perf_counter() - begun),
        partial(watch.failed, "checkpoints", "a checkpoint could not be written"),
    )
    if unsaved and spec.save_steps is not None:
        note(f"no checkpoints: {unsaved}")
    places = [record.place for record in job.splits.train]
    described = {"model": job.recipe.model, "method": job.manifest.method}
    described |= {"task": job.manifest.task, "train": spec.model_dump(mode="json")}
    with (
        MetricsLog(folder.metrics, partial(watch.failed, "log", "the log has gaps")) as log,
        tracking(spec.trackers, folder.path, described, watch.untracked) as track,
        Progress(steps, look) as progress,
        _prefix_cache(job, folder, steps, note) as cache,
    ):

        def on_log(entry: dict[str, float]) -> None:
            log.write(entry)
            progress.log(entry)
            track(entry)
            watch.log(entry)

        def on_step(step: int, state: Any) -> None:
            job.recipe.method.on_step(job.attachments[0], step)
            progress.step(step)
            saver.step(step, state)
            watch.step(step, state)

        result = fit(
            **job.loop_arguments(),
            groups=job.groups(),
            masters=job.predictor.prepared.pairs,
            prefix_cache=cache,
            evaluate=job.validation_scores if job.examples.get("validation") else None,
            on_log=on_log,
            on_step=on_step,
            place=lambda index: str(places[index]),
            resume=earlier.checkpoint.state if earlier and earlier.checkpoint else None,
        )
    if result.state is not None and not unsaved and saver.save(result.state):
        note(f"saved; it goes on with: lightune train --resume {folder.path}")
    result = replace(result, seconds=time.perf_counter() - begun)
    watch.end(result)
    return result, watch


def _prefix_cache(job: Job, folder: RunFolder, steps: int, note: Note) -> Any:
    """Return the context of what keeps the frozen blocks' output while training."""
    spec, plan = job.recipe.train, job.predictor.prepared.plan
    passes = steps / len(epoch_steps(job.examples["train"], spec, 0))
    return prefix_cache(job.prefix, plan, spec.engine, passes, folder.path, note)


def _finish(
    job: Job,
    folder: RunFolder,
    result: FitResult,
    expected: Mapping[str, float] | None,
    metrics: Mapping[str, Metric] | None,
    watch: Watch,
) -> None:
    """Save the adapter, score the test records with it, and write what is left of the run."""
    report: dict[str, Any] = {"metrics": {}, "records": 0, "baselines": {}, "tables": {}}
    if job.splits.test:
        scores, predictions = score(job.predictor, job.splits.test)
        report = as_json(scores, len(predictions))
        rows = zip(job.splits.test, predictions, strict=True)
        folder.write(folder.predictions, [prediction_row(r, p) for r, p in rows])
    values = {name: value["value"] for name, value in report["metrics"].items()}
    manifest = job.manifest.model_copy(update={"metrics": values})
    if folder.adapter.is_dir():  # of the moment at which the run was stopped, or killed
        shutil.rmtree(folder.adapter)
    save_adapter(folder.adapter, job.base.model, job.attachments, manifest, job.base.tokenizer)
    try:
        _draw_loss(folder, job.recipe.task.deciding)
        if "confusion_matrix" in report["tables"]:
            plots.confusion_matrix(folder.confusion_plot, report["tables"]["confusion_matrix"])
    except OSError as error:  # a picture is not worth the run
        watch.failed("pictures", "a picture could not be drawn", str(error), result.steps)
    watch.tested(report, result)
    watch.warnings.write(folder.path)
    facts = {
        "trainable_parameters": sum(p.numel() for p in job.trainable.values()),
        "total_parameters": sum(p.numel() for p in job.base.model.parameters()),
        "learning_rate": job.learning_rate,
        "seconds": result.seconds,
        "examples_per_s": result.examples_per_s,
        "steps": result.steps,
        "epochs": result.epochs,
        "stopped": result.stopped,
        "peak_memory_mb": peak_rss_mb(),
        "forecast": expected,
    }
    folder.write(folder.eval, {**report, **facts})
    if metrics and job.splits.test:  # the user's own code may fail: the run is whole by now
        truth = job.recipe.task.truth(job.splits.test, job.predictor.state)
        scores = add_metrics(scores, metrics, truth, [p.value for p in predictions])
        folder.write(folder.eval, {**as_json(scores, len(predictions)), **facts})
    write_card(folder)


def _seal(
    job: Job, folder: RunFolder, starts: dict[str, str], result: FitResult, note: Note
) -> None:
    """Prove the run in a new process; one that a signal stopped ends now, and goes on later."""
    if job.recipe.train.seal and result.state is None:
        give_back()
        seal_run(folder, starts, job.splits.test, note)


def _draw_loss(folder: RunFolder, deciding: str) -> None:
    key = f"validation_{deciding}"
    log = read_log(folder.metrics)
    train = [(row["step"], row["loss"]) for row in log if "loss" in row]
    validation = [(row["step"], row[key]) for row in log if key in row]
    plots.loss_curve(folder.loss_plot, train, validation, deciding)
