"""A trial is a function of itself alone, equals a plain training, and never sees its test."""

from dataclasses import replace

import pytest
import torch
from small_runs import lines, recipe, rows, small_run

from lightune.compare import bench as bench_module
from lightune.compare import trials as trials_module
from lightune.compare.bench import Bench, OutOfTime
from lightune.compare.contenders import EMBEDDINGS, ZERO_SHOT
from lightune.compare.outcome import MEASURED
from lightune.compare.trials import Trial, run_trial
from lightune.data.load import load_splits
from lightune.models.load import load
from lightune.recipe import load_recipe
from lightune.types import HeadSpec, Place, Record
from tests.compare.small import prepared, trial


def exact(outcome):
    """Return an outcome without what a clock gives."""
    return replace(outcome, **dict.fromkeys(MEASURED, 0))


@pytest.mark.parametrize("seed", [0, 3])
def test_a_shared_base_is_a_freshly_loaded_one_bit_for_bit(tiny, tmp_path, seed):
    head = HeadSpec("sequence_classification", ("neg", "pos"))
    bench = Bench([], tmp_path)
    name = str(tiny("bert"))
    bench.load(name, head, 0)
    shared, fresh = bench.load(name, head, seed), load(name, head, seed)
    theirs = fresh.model.state_dict()
    assert shared.new_modules == fresh.new_modules != ()
    for path, tensor in shared.model.state_dict().items():
        assert torch.equal(tensor, theirs[path]), path
    assert not shared.model.training
    assert not any(p.requires_grad for p in shared.model.parameters())


def test_a_base_is_loaded_once_for_each_seed(tiny, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(bench_module, "load", lambda *args: calls.append(args[2]) or load(*args))
    made, bench, folds = prepared(tiny("bert"), tmp_path)
    for seed in (0, 1):
        for number, fold in enumerate(folds[:2]):
            run_trial(trial(made, fold, number, seed), bench)
    assert calls == [0, 1]


@pytest.mark.parametrize("method", ["lora", "full", "head", "last_layers"])
def test_what_ran_before_changes_no_bit(tiny, tmp_path, method):
    made, bench, folds = prepared(tiny("bert"), tmp_path, method=method, max_steps=4, epochs=4)
    other, _, _ = prepared(tiny("bert"), tmp_path, method="bitfit")
    run_trial(trial(other, folds[1], 1, seed=1, name="bitfit"), bench)
    run_trial(trial(made, folds[1], 1), bench)
    after = run_trial(trial(made, folds[0]), bench)
    alone = tmp_path / "alone"
    alone.mkdir()
    assert exact(after) == exact(run_trial(trial(made, folds[0]), Bench(bench.records, alone)))


def test_a_trial_gives_what_training_gives(tiny, tmp_path):
    """One fold of a given test set against `lightune.train` on the same data."""
    data = {"train": rows(count=30), "test": [{"text": "the film is good", "label": "pos"},
            {"text": "a bad one", "label": "neg"}]}  # fmt: skip
    run = small_run(tmp_path / "run", tiny("bert"), data=data, max_steps=5)
    made = load_recipe(recipe(tiny("bert"), data=data, max_steps=5))
    splits = load_splits(made.data, made.task.fields, made.task.columns())
    records = [*splits.train, *splits.test]
    from lightune.compare.contenders import Contender

    one = Trial(Contender("lora", made), 0, 0, "all", tuple(range(30)), (30, 31))
    outcome = run_trial(one, Bench(records, tmp_path))
    told = lines(run.folder / "predictions.jsonl")
    assert [p.index for p in outcome.predictions] == [30, 31]
    assert [dict(p.scores) for p in outcome.predictions] == [row["scores"] for row in told]
    assert outcome.metrics == {name: m["value"] for name, m in run.metrics.items()}
    assert outcome.trained_weights == run.summary()["trainable_parameters"]
    saved = sum(f.stat().st_size for f in run.adapter.glob("*.safetensors"))
    assert 0.5 * saved < outcome.adapter_bytes <= saved


def test_a_deadline_makes_a_trial_void(tiny, tmp_path):
    made, bench, folds = prepared(tiny("bert"), tmp_path)
    with pytest.raises(OutOfTime):
        run_trial(trial(made, folds[0]), bench, deadline=0.0)


@pytest.mark.parametrize("baseline", [EMBEDDINGS, ZERO_SHOT])
def test_a_deadline_stops_what_reads_all_of_the_records(tiny, tmp_path, baseline):
    made, bench, folds = prepared(tiny("llama-lm"), tmp_path)
    one = trial(made, folds[0], name=baseline, baseline=baseline)
    with pytest.raises(OutOfTime):
        run_trial(one, bench, deadline=0.0)
    assert run_trial(one, bench).predictions


def test_settings_are_chosen_inside_the_training_part(tiny, tmp_path):
    """What a trial chooses does not change with the labels of its test part."""
    made, bench, folds = prepared(tiny("bert"), tmp_path, method="full", max_steps=25)
    rates = [{"train.learning_rate": rate} for rate in (1e-9, 5e-3)]
    choices = tuple((rate, load_recipe(made, rate)) for rate in rates)
    held = set(folds[0].test)
    flipped = [
        Record(r.values | {"label": "neg" if r.values["label"] == "pos" else "pos"}, r.place)
        if i in held
        else r
        for i, r in enumerate(bench.records)
    ]
    chosen = [
        run_trial(trial(made, folds[0], choices=choices), Bench(records, tmp_path))
        for records in (bench.records, flipped)
    ]
    tuned = [outcome.settings["tuned"] for outcome in chosen]
    assert tuned == [rates[1]] * 2  # with the test's labels the other one would be right
    values = [[p.value for p in outcome.predictions] for outcome in chosen]
    assert values[0] == values[1]


def test_a_column_that_tells_the_label_of_the_test_part_only_gains_nothing(tiny, tmp_path):
    """Such a leak cannot be learnt where training sees no test record: scores stay at chance."""
    from random import Random

    rng = Random(0)
    labels = [rng.choice(["neg", "pos"]) for _ in range(80)]
    plain = [Record({"text": f"number {i} of all", "label": label}, Place("f", i))
             for i, label in enumerate(labels)]  # fmt: skip
    made, _, _ = prepared(tiny("bert"), tmp_path, method="full", max_steps=12)
    from lightune.compare.folds import stratified

    folds = stratified(plain, 4, 0)
    right = []
    for number, fold in enumerate(folds):
        held = set(fold.test)
        leaky = [
            Record({"text": f"{r.values['label']} {r.values['text']}", "label": r.values["label"]},
                   r.place) if i in held else r
            for i, r in enumerate(plain)
        ]  # fmt: skip
        outcome = run_trial(trial(made, fold, number), Bench(leaky, tmp_path))
        right += [p.value == labels[p.index] for p in outcome.predictions]
    assert len(right) == 80
    assert sum(right) / 80 < 0.65  # above it by chance: 0.4 %


@pytest.mark.parametrize(
    ("scored", "names", "best"),
    [
        ([{"accuracy": 0.8}, {"accuracy": 0.9}, {"accuracy": 0.9}], ["accuracy"], 1),
        ([{"rmse": 2.0}, {"rmse": 1.0}], ["rmse"], 1),
        ([{"loss": 0.1, "accuracy": 0.5}, {"loss": 0.3, "accuracy": 0.9}], ["loss", "accuracy"], 0),
        ([{"r2": 0.1, "pearson": 0.9}, {"r2": 0.2}], ["pearson", "r2"], 1),  # undefined in one
        ([{}, {"r2": 0.2}], ["pearson", "r2"], 0),
    ],
)
def test_the_best_is_so_by_the_first_metric_that_all_have(scored, names, best):
    assert trials_module.best_of(scored, names) == best


def test_settings_are_chosen_by_the_metric_that_decides_the_comparison(tiny, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        trials_module, "best_of", lambda scored, names: asked.append((scored, names)) or 1
    )
    made, bench, folds = prepared(tiny("bert"), tmp_path)
    rates = [{"train.learning_rate": rate} for rate in (1e-4, 1e-3)]
    choices = tuple((rate, load_recipe(made, rate)) for rate in rates)
    one = replace(trial(made, folds[0], choices=choices), metric="calibration_error")
    assert run_trial(one, bench).settings["tuned"] == rates[1]
    [(scored, names)] = asked
    assert names[0] == "calibration_error"
    assert all(names[0] in metrics for metrics in scored)


def test_what_settings_are_chosen_by_shares_no_group_with_what_they_are_trained_on(
    tiny, tmp_path, monkeypatch
):
    made, plain, folds = prepared(tiny("bert"), tmp_path, evaluation={"every": "epoch"})
    groups = [i // 4 for i in range(len(plain.records))]
    number = {id(record): group for record, group in zip(plain.records, groups, strict=True)}
    parted = []

    def hold_out(records, *rest, **more):
        parts = real(records, *rest, **more)
        parted.append([{number[id(record)] for record in part} for part in parts])
        return parts

    real = trials_module.hold_out
    monkeypatch.setattr(trials_module, "hold_out", hold_out)
    rates = [{"train.learning_rate": rate} for rate in (1e-4, 1e-3)]
    choices = tuple((rate, load_recipe(made, rate)) for rate in rates)
    grouped = Bench(plain.records, tmp_path, pieces=groups)
    run_trial(trial(made, folds[0], choices=choices), grouped)
    assert len(parted) >= 1
    assert all(rest.isdisjoint(held) and held for rest, held in parted)
    two = Bench(plain.records, tmp_path, pieces=[int(i % 2 > 0) for i in range(len(groups))])
    run_trial(trial(made, folds[0], choices=choices), two)  # one group for each label: by text
