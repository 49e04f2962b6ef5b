"""The recipe's section `train`, a user's metric and class weights, seen in finished runs."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight
from small_runs import lines, rows, small_run, weights

from lightune import pipeline
from lightune.errors import LightuneError
from lightune.models.tiny import save_tiny
from lightune.run import Run


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """They would take longer than so short a training."""
    for name in ("loss_curve", "confusion_matrix"):
        monkeypatch.setattr(pipeline.plots, name, lambda *args: None)


def test_the_best_weights_are_kept(tiny, tmp_path):
    """The trajectory to the best step, trained alone and kept as it ends, is the oracle."""
    same = {"learning_rate": 1e-2, "optimizer": {"schedule": "constant", "warmup": 0}}
    data = {"train": rows(), "validation": 0.25}
    run = small_run(
        tmp_path / "best",
        tiny("bert"),
        data=data,
        max_steps=5,
        evaluation={"every": 1},
        **same,
    )
    scored = [row for row in lines(run.folder / "metrics.jsonl") if "validation_macro_f1" in row]
    assert [row["step"] for row in scored] == [1, 2, 3, 4, 5]
    best = max(scored, key=lambda row: (row["validation_macro_f1"], -row["step"]))["step"]
    assert best < 5, "else the last weights and the best are the same"
    to_best, to_end = (
        small_run(
            tmp_path / str(steps),
            tiny("bert"),
            data=data,
            max_steps=steps,
            evaluation={"every": 1, "best": False},
            **same,
        )
        for steps in (best, 5)
    )
    kept = weights(run)
    assert all(torch.equal(kept[name], t) for name, t in weights(to_best).items())
    assert not all(torch.equal(kept[name], t) for name, t in weights(to_end).items())


def test_early_stopping_holds_a_tenth_out_and_stops(tiny, tmp_path):
    run = small_run(
        tmp_path / "run",
        tiny("bert"),
        max_steps=50,
        learning_rate=1e-9,
        evaluation={"every": 1, "early_stopping": 2},
    )
    summary = run.summary()
    assert (summary["stopped"], summary["steps"]) == ("early stopping", 3)
    splits = json.loads((run.folder / "data_report.json").read_text())["splits"]
    assert {name: split["rows"] for name, split in splits.items()} == {
        "train": 29,
        "validation": 3,
        "test": 8,
    }


def test_training_goes_on_from_a_run(tiny, tmp_path):
    first = small_run(tmp_path / "first", tiny("bert"), learning_rate=1e-2)
    for start in (first.folder, first.adapter):
        still = small_run(
            tmp_path / f"still-{start.name}",
            tiny("bert"),
            learning_rate=1e-12,
            **{"from": str(start)},
        )
        for name, tensor in weights(first).items():
            assert torch.allclose(weights(still)[name], tensor, atol=1e-9, rtol=0), name
    fresh = small_run(tmp_path / "fresh", tiny("bert"), learning_rate=1e-12)
    assert any(
        not torch.allclose(weights(fresh)[name], tensor, atol=1e-3)
        for name, tensor in weights(first).items()
    )
    further = small_run(tmp_path / "on", tiny("bert"), **{"from": str(first.folder)})
    assert any(not torch.equal(weights(further)[n], t) for n, t in weights(first).items())


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"method": {"name": "lora", "rank": 4}}, "'rank': 4"),
        ({"method": "head"}, "'name': 'head'"),
        ({"data": rows("multi-class")}, "so-so"),
        ({"model": "other"}, "another base model"),
    ],
)
def test_it_does_not_go_on_from_what_does_not_fit(tiny, tmp_path, changes, found):
    small_run(tmp_path / "first", tiny("bert"))
    given = dict(changes)
    model = tiny("bert")
    if given.pop("model", None):
        model = save_tiny(tmp_path / "other", "bert", seed=1)
    with pytest.raises(LightuneError, match=found):
        small_run(tmp_path / "on", model, **{"from": str(tmp_path / "first"), **given})
    assert not (tmp_path / "on").exists()


def test_a_users_own_metric_is_scored(tiny, tmp_path):
    def cost(truth, predicted):
        return sum(2.5 for t, p in zip(truth, predicted, strict=True) if t != p == "pos")

    held_out = rows()[:10]
    data = {"train": rows()[10:], "test": held_out}
    run = small_run(tmp_path / "run", tiny("bert"), data=data, metrics={"cost": cost})
    rows_said = lines(run.folder / "predictions.jsonl")
    expected = sum(2.5 for row in rows_said if row["label"] != row["prediction"] == "pos")
    assert run.metrics["cost"] == {"value": expected, "low": None, "high": None}
    assert Run.open(run.folder).metrics["cost"]["value"] == expected
    again = Run.open(run.folder).evaluate(held_out, metrics={"cost": cost})["metrics"]
    assert again == run.metrics


def test_trackers_get_the_log(tiny, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = small_run(
        tmp_path / "run",
        tiny("bert"),
        data={"train": rows(), "validation": 0.25},
        trackers=["tensorboard"],
        evaluation={"every": 1, "log_every": 1},
    )
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    log = lines(run.folder / "metrics.jsonl")
    for key in ("loss", "validation_accuracy"):
        expected = [(row["step"], pytest.approx(row[key])) for row in log if key in row]
        assert [(e.step, e.value) for e in events.Scalars(key)] == expected
        assert len(expected) == 2


@pytest.mark.parametrize("method", ["lora", "full"])
def test_bf16_trains_float32_weights(tiny, tmp_path, method):
    """At this rate a weight kept in bfloat16 would not move at all."""
    low, high = (
        small_run(
            tmp_path / precision,
            tiny("bert"),
            method,
            precision=precision,
            learning_rate=1e-6,
        )
        for precision in ("bf16", "fp32")
    )
    plans = [json.loads((r.folder / "environment.json").read_text())["plan"] for r in (low, high)]
    assert [plan["dtype"] for plan in plans] == ["bfloat16", "float32"]
    assert low.predictor.prepared.model.get_input_embeddings().weight.dtype == torch.bfloat16
    still = small_run(tmp_path / "still", tiny("bert"), method, learning_rate=1e-15)
    moved = 0
    for name, tensor in weights(low).items():
        assert tensor.dtype == torch.float32
        moved += bool((tensor - weights(still)[name]).abs().max() > 5e-7)
        assert torch.allclose(tensor, weights(high)[name], atol=1e-5), name
    assert moved > len(weights(low)) / 2, "not the new head alone; LoRA's A waits for its B"
    assert lines(low.folder / "predictions.jsonl") != lines(high.folder / "predictions.jsonl")


@pytest.mark.parametrize(
    ("changes", "steps", "epochs"),
    [
        ({"max_steps": 3}, 3, 3 / 8),
        ({"max_steps": None, "epochs": 2}, 16, 2),
        ({"max_steps": None, "epochs": 0.5}, 4, 0.5),
        ({"max_steps": 3, "epochs": 2}, 3, 3 / 8),
        ({"max_steps": None, "epochs": 1, "optimizer": {"accumulate": 3}}, 3, 1),
    ],
)
def test_how_long_it_trains(tiny, tmp_path, changes, steps, epochs):
    run = small_run(tmp_path / "run", tiny("bert"), "head", batch_size=4, **changes)
    assert (run.summary()["steps"], run.summary()["epochs"]) == (steps, epochs)


def test_class_weights_weigh_the_loss(tiny, tmp_path):
    """The first loss, before any step, by scikit-learn from the probabilities the model gives."""
    table = [row for number, row in enumerate(rows()) if row["label"] == "neg" or number % 4 == 1]
    run = small_run(
        tmp_path / "run",
        tiny("bert"),
        "head",
        data={"train": table, "test": 0},
        task={"name": "classification", "class_weights": "balanced"},
        max_steps=1,
        batch_size=len(table),
        learning_rate=1e-12,
        engine={"threads": 1, "dropout": "off"},
    )
    truth = [row["label"] for row in table]
    weight = compute_class_weight("balanced", classes=np.array(["neg", "pos"]), y=truth)
    state = json.loads((run.adapter / "lightune.json").read_text())["state"]
    assert state["class_weights"] == pytest.approx(weight.tolist())
    assert weight[1] == pytest.approx(2 * weight[0])
    sample = [weight[("neg", "pos").index(name)] for name in truth]
    expected = log_loss(truth, run.predict_proba(table), sample_weight=sample)
    [first] = lines(run.folder / "metrics.jsonl")
    assert first["loss"] == pytest.approx(expected, rel=1e-4)
    plain = log_loss(truth, run.predict_proba(table))
    assert first["loss"] != pytest.approx(plain, rel=1e-4)
