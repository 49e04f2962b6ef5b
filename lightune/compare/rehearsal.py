"""What a comparison would take, from a few measured steps of each contender; nothing is trained.

Invariants: nothing is written. The forecast of each contender is that of `train --dry-run` on the
            first fold, times its trials; what is shared between trials is not taken off, so that
            it is rather too long than too short.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lightune.compare.bench import Bench
from lightune.compare.design import plan
from lightune.compare.experiment import with_baselines
from lightune.compare.request import resolve
from lightune.compare.trials import TUNING_SHARE, Trial, job_of
from lightune.recipe import Recipe, dump, load_recipe
from lightune.train.forecast import forecast


def rehearse(
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    *,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    **settings: Any,
) -> dict[str, Any]:
    """Check recipe, data and contenders, and forecast; see `compare` for the arguments.

    Returns:
        `{"recipe", "contenders": [{"name", "kind", "trials", "seconds"}], "records", "folds":
        [{"train", "test"}], "seeds", "sizes", "trials", "seconds", "notes"}`; `seconds` is null
        for baselines that train nothing.
    """
    notes: list[str] = []
    resolved, spec = resolve(recipe, overrides, settings)
    design = plan(resolved, spec)
    notes += [*resolved.notes, *design.notes]
    with TemporaryDirectory(prefix="lightune-compare-") as scratch:
        shared = (design.validation, notes.append, design.clusters)
        bench = Bench(design.records, Path(scratch), *shared)
        every = with_baselines(design, bench)
        trials = [trial for trials in design.rounds(every) for trial in trials]
        count = Counter(trial.contender.name for trial in trials)
        seconds = {}
        for contender in every:
            mine = [trial for trial in trials if trial.contender is contender]
            if not contender.baseline:
                seconds[contender.name] = _seconds(mine, bench)
    return {
        "recipe": dump(resolved),
        "contenders": [
            {
                "name": c.name,
                "kind": "baseline" if c.baseline else "method",
                "trials": count[c.name],
                "seconds": seconds.get(c.name),
            }
            for c in every
        ],
        "records": len(design.records),
        "folds": [{"train": len(f.train), "test": len(f.test)} for f in design.folds],
        "seeds": design.seeds,
        "sizes": spec.sizes,
        "trials": len(trials),
        "seconds": sum(seconds.values()),
        "notes": notes,
    }


def _seconds(trials: Sequence[Trial], bench: Bench) -> float:
    """Return the seconds that one contender's trials will take; one of each size is measured."""
    each: dict[str, float] = {}
    for trial in trials:
        if trial.size in each:
            continue
        recipe = load_recipe(trial.contender.recipe, {"train.seed": trial.seed})
        train = [bench.records[i] for i in trial.train]
        job = job_of(recipe, train, [bench.records[i] for i in trial.test], bench)
        expected = forecast(
            **job.loop_arguments(),
            masters=job.predictor.prepared.pairs,
            validation=job.examples.get("validation", ()),
            test=job.examples["test"],
            predict=partial(job.predictor.predict, purpose="validation"),
            brief=True,
        )
        choices = len(trial.contender.choices) * (1 - TUNING_SHARE)
        each[trial.size] = (1 + choices) * expected.seconds + expected.test_seconds
    return sum(each[trial.size] for trial in trials)
