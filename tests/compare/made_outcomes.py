"""Outcomes of contenders that were never trained: right at a rate that a test sets."""

import numpy as np

from lightune.compare.outcome import Outcome
from lightune.tasks.base import tasks
from lightune.types import Place, Prediction, Record

LABELS = ("good", "bad")


def records(count=200, labels=LABELS):
    """Return records whose labels go round."""
    return [
        Record({"text": f"text {i}", "label": labels[i % len(labels)]}, Place("made.csv", i + 2))
        for i in range(count)
    ]


def classification(rows):
    """Return the task and what it learnt."""
    task = tasks()["classification"]()
    return task, task.learn(rows)


def outcomes(
    rows,
    rates,
    folds=5,
    seeds=2,
    sizes=("all",),
    labels=LABELS,
    rng_seed=0,
    baselines=("majority class",),
    grids=None,
):
    """Return outcomes of classifiers that are right at their rates; the same records are hard.

    Args:
        rates: contender -> share of records that it has right; above 1 all of them.
        grids: contender -> `{setting: value}`.
    """
    rng = np.random.default_rng(rng_seed)
    count = len(rows)
    fold_of = rng.permutation(count) % folds
    hard = rng.random(count)
    found = []
    for name, rate in rates.items():
        mine = 0.8 * hard + 0.2 * rng.random(count)
        limit = np.quantile(mine, rate) if rate <= 1 else np.inf
        for size in sizes:
            kept = limit if size == "all" else limit - 2 / int(size)
            for fold in range(folds):
                for seed in range(seeds):
                    members = np.flatnonzero(fold_of == fold)
                    noise = 0.03 * rng.standard_normal(len(members))
                    right = mine[members] + noise <= kept
                    found.append(
                        _outcome(name, rows, members, right, labels, fold, seed, size, baselines)
                    )
                    if grids and name in grids:
                        found[-1].settings["grid"] = grids[name]
    return found


def regression(errors):
    """Return outcomes of guesses with these errors, with the task, its state and the records."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=120)
    rows = [Record({"text": "t", "label": float(v)}, Place("f", i)) for i, v in enumerate(truth)]
    task = tasks()["regression"]()
    noise = rng.normal(size=120)
    made = [
        Outcome(
            name, fold, 0, 96, {}, tuple(Prediction(i, truth[i] + noise[i] * error)
            for i in range(fold, 120, 5)), 1.0, 1, 1, 1, 0.1, 10.0, {"kind": "method"},
        )
        for name, error in errors.items()
        for fold in range(5)
    ]  # fmt: skip
    return made, task, task.learn(rows), rows


def _outcome(name, rows, members, right, labels, fold, seed, size, baselines):
    predictions = []
    for i, is_right in zip(members.tolist(), right, strict=True):
        truth = rows[i].values["label"]
        other = labels[(labels.index(truth) + 1) % len(labels)]
        value = truth if is_right else other
        rest = 0.2 / (len(labels) - 1)
        scores = {label: 0.8 if label == value else rest for label in labels}
        predictions.append(Prediction(i, value, scores))
    weight = 1 + sum(map(ord, name)) % 50
    baseline = name in baselines
    return Outcome(
        contender=name,
        fold=fold,
        seed=seed,
        size=len(rows) - len(members) if size == "all" else int(size),
        metrics={"accuracy": float(right.mean()), "macro_f1": float(right.mean())},
        predictions=tuple(predictions),
        seconds=0.1 * weight,
        peak_memory=weight * 10**7,
        trained_weights=0 if baseline else weight * 1000,
        adapter_bytes=0 if baseline else weight * 4000,
        latency=0.001 * weight,
        throughput=1000 / weight,
        settings={
            "kind": "baseline" if baseline else "method",
            "model": None if baseline else "minilm",
            "method": None if baseline else {"name": name.split()[0]},
            "grid": {},
            "size": size,
        },
    )
