"""Training end to end: what a run folder holds, that runs repeat, and that nothing half is left."""

import copy
import json
import random
from typing import ClassVar

import numpy as np
import pandas
import pytest
import torch
import yaml
from sklearn.metrics import accuracy_score
from small_runs import files, lines, recipe, rows, small_run, weights, write_csv

import lightune
from lightune import pipeline
from lightune.engine.plan import Plan
from lightune.errors import (
    ConfigError,
    DataError,
    LightuneError,
    MissingExtra,
    ModelError,
    RunError,
)
from lightune.recipe import load_recipe
from lightune.run import Run
from lightune.train import trackers

ADAPTER = {
    "lora": {"adapter_config.json", "adapter_model.safetensors", "lightune.json"},
    "head": {"adapter_model.safetensors", "lightune.json"},
    "full": {
        *("config.json", "model.safetensors", "lightune.json"),
        *("tokenizer.json", "tokenizer_config.json"),
    },
}
RUN = {
    *("recipe.yaml", "environment.json", "data_report.json", "metrics.jsonl", "eval.json"),
    *("predictions.jsonl", "README.md", "loss.png", "confusion_matrix.png", "warnings.json"),
}


@pytest.fixture(autouse=True)
def pictures(request, monkeypatch):
    """Draw only where pictures are looked for: they take longer than so short a training."""
    if request.node.originalname != "test_a_run_holds_everything":
        for name in ("loss_curve", "confusion_matrix"):
            monkeypatch.setattr(pipeline.plots, name, lambda *args: None)


@pytest.mark.parametrize(
    ("family", "kind", "method"),
    [
        ("bert", "binary", "lora"),
        ("bert", "multi-class", "full"),
        ("bert", "multi-label", "lora"),
        ("bert", "pair", "head"),
        ("distilbert", "multi-label", "full"),
        ("llama", "binary", "full"),
        ("llama", "multi-label", "head"),
        ("qwen2", "pair", "lora"),
        ("gpt2", "multi-class", "lora"),
    ],
)
def test_a_run_holds_everything(tiny, tmp_path, family, kind, method):
    run = small_run(tmp_path / "run", tiny(family), method, data=rows(kind))
    there = set(files(run.folder))
    pictures = set() if kind == "multi-label" else {"confusion_matrix.png"}
    expected = RUN - {"confusion_matrix.png"} | pictures
    assert there == expected | {f"adapter/{name}" for name in ADAPTER[method]}

    report = json.loads((run.folder / "eval.json").read_text())
    labels = ["neg", "pos"] if kind in ("binary", "pair") else ["neg", "pos", "so-so"]
    assert run.labels == labels
    assert (report["records"], report["steps"], report["stopped"]) == (8, 2, None)
    for name, score in report["metrics"].items():
        if score["low"] is not None:
            assert score["low"] <= score["value"] <= score["high"], name
    assert 0 < report["trainable_parameters"] <= report["total_parameters"]
    saved = weights(run)
    assert all(tensor.dtype == torch.float32 for tensor in saved.values())
    assert report["trainable_parameters"] == sum(t.numel() for t in saved.values())

    predictions = lines(run.folder / "predictions.jsonl")
    assert len(predictions) == 8
    for row in predictions:
        assert list(row["scores"]) == labels
        if kind == "multi-label":
            assert row["prediction"] == [n for n in labels if row["scores"][n] >= 0.5]
        else:
            assert row["prediction"] == max(row["scores"], key=row["scores"].get)
            assert sum(row["scores"].values()) == pytest.approx(1)
    if kind != "multi-label":
        truth, said = ([row[key] for row in predictions] for key in ("label", "prediction"))
        assert report["metrics"]["accuracy"]["value"] == accuracy_score(truth, said)

    environment = json.loads((run.folder / "environment.json").read_text())
    manifest = json.loads((run.adapter / "lightune.json").read_text())
    assert Plan.model_validate(environment["plan"]).dtype == "float32"
    assert environment["base"]["tensors_sha256"] == manifest["base"]["tensors_sha256"]
    splits = json.loads((run.folder / "data_report.json").read_text())["splits"]
    assert {name: split["rows"] for name, split in splits.items()} == {"train": 32, "test": 8}
    log = lines(run.folder / "metrics.jsonl")
    assert [row["step"] for row in log] == [1, 2]
    assert all({"loss", "examples_per_s", "tokens_per_s", "rss_mb"} <= set(row) for row in log)


@pytest.mark.parametrize(("family", "method"), [("bert", "lora"), ("llama", "full")])
def test_one_seed_gives_one_adapter(tiny, tmp_path, family, method):
    def adapter(name, seed):
        random.seed(name), np.random.seed(len(name)), torch.manual_seed(len(name))
        return files(small_run(tmp_path / name, tiny(family), method, seed=seed).adapter)

    first, again, other = adapter("a", 0), adapter("again", 0), adapter("other", 1)
    assert first == again
    assert other.keys() == first.keys()
    [file] = [name for name in first if name.endswith(".safetensors")]
    assert other[file] != first[file]


def test_the_callers_random_numbers_go_on_as_if_nothing_had_happened(tiny, tmp_path):
    torch.manual_seed(1)
    before = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    small_run(tmp_path / "run", tiny("bert"))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), str(np.random.get_state())) == before[1:]


def test_the_recipe_in_the_run_folder_repeats_the_run(tiny, tmp_path):
    table = write_csv(tmp_path / "rows.csv", rows())
    changes = {"epochs": 2, "max_steps": None, "seed": 3, "method": {"name": "lora", "rank": 2}}
    first = small_run(tmp_path / "first", tiny("bert"), data=str(table), **changes)
    again = lightune.train(first.folder / "recipe.yaml", out=tmp_path / "again", progress="silent")
    assert files(again.adapter) == files(first.adapter)
    # A second call by the package's own name: importing `lightune/train/` must not hide it.
    third = lightune.train(first.recipe, out=tmp_path / "third", progress="silent")
    assert files(third.adapter) == files(first.adapter)


def test_every_form_of_recipe_and_data_gives_the_same_adapter(tiny, tmp_path, monkeypatch):
    import datasets

    monkeypatch.chdir(tmp_path)
    table = [{"text": r["text"], "label": r["label"]} for r in rows()]
    given = recipe(tiny("bert"), {"name": "lora", "rank": 2})
    (tmp_path / "recipe.yaml").write_text(
        yaml.safe_dump(given | {"data": str(write_csv(tmp_path / "rows.csv", table))})
    )
    forms = {
        "file": lambda **o: lightune.train("recipe.yaml", **o),
        "path": lambda **o: lightune.train(tmp_path / "recipe.yaml", **o),
        "dict": lambda **o: lightune.train(copy.deepcopy(given), **o),
        "sections": lambda **o: lightune.train(**given, **o),
        "recipe": lambda **o: lightune.train(load_recipe(given), **o),
        "overrides": lambda **o: lightune.train(
            given | {"method": "full"}, overrides=["method=lora", "method.rank=2"], **o
        ),
        "mapping": lambda **o: lightune.train(given, overrides={"method.rank": 2}, **o),
        "file and sections": lambda **o: lightune.train(
            "recipe.yaml", data={"train": table}, method={"name": "lora", "rank": 2}, **o
        ),
        "frame": lambda **o: lightune.train(**given | {"data": pandas.DataFrame(table)}, **o),
        "dataset": lambda **o: lightune.train(
            **given | {"data": {"train": datasets.Dataset.from_list(table)}}, **o
        ),
    }
    made = {
        name: files(form(out=tmp_path / name, progress="silent").adapter)
        for name, form in forms.items()
    }
    for name, adapter in made.items():
        assert adapter == made["file"], name
    assert len(weights(Run.open("file"))) > 2, "the oracle itself holds tensors"


def test_a_run_is_never_overwritten(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = small_run(None, tiny("bert"))
    before = files(first.folder)
    assert first.folder.name == "classification-bert-lora"
    second = small_run(None, tiny("bert"), seed=1)
    assert second.folder.name == "classification-bert-lora-2"
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    read = []
    monkeypatch.setattr(pipeline, "assemble", lambda *a: read.append(a))
    for taken in (first.folder, "empty", "file", "link", "file/below"):
        with pytest.raises(RunError, match=r"never overwritten|cannot be made"):
            small_run(taken, tiny("bert"))
    assert read == [], "refused before any work is done"
    assert files(first.folder) == before
    assert (list((tmp_path / "empty").iterdir()), (tmp_path / "file").read_text()) == ([], "mine")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"data": "absent.csv"}, DataError),
        ({"data": [{"text": f"t {n}", "label": "one"} for n in range(9)]}, DataError),
        ({"data": {"train": rows(), "test": [{"text": "a", "label": "unheard"}]}}, DataError),
        ({"model": "no-such-model"}, ModelError),
        ({"method": {"name": "lora", "targets": ["nothing_has_this"]}}, LightuneError),
        ({"max_length": 4096}, ConfigError),
        ({"precision": "fp16"}, ConfigError),
        ({"from": "no-such-run"}, LightuneError),
        ({"task": {"name": "classification", "class_weights": {"posi": 2.0}}}, ConfigError),
        ({"trackers": ["mlflow"]}, MissingExtra),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_trained_leaves_nothing(tiny, tmp_path, monkeypatch, changes, error):
    given = {"model": tiny("bert")} | changes
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    for out in ("run", None):
        with pytest.raises(error):
            small_run(out, **given)
    assert list(tmp_path.iterdir()) == []


class Closing:
    """A tracker that keeps how each run ended."""

    failures: ClassVar[list[bool]] = []

    def __init__(self, folder, settings):
        pass

    def log(self, step, values):
        pass

    def close(self, failed=False):
        self.failures.append(failed)


def test_a_training_that_breaks_is_no_run(tiny, tmp_path, monkeypatch):
    def breaks(*args, **kwargs):
        raise RunError("step 1: the loss is nan; training stopped")

    monkeypatch.setattr(trackers, "find_spec", lambda name: name)
    monkeypatch.setitem(trackers.TRACKERS, "trackio", Closing)
    small_run(tmp_path / "good", tiny("bert"), trackers=["trackio"])
    monkeypatch.setattr(pipeline, "fit", breaks)
    with pytest.raises(RunError, match="nan"):
        small_run(tmp_path / "run", tiny("bert"), trackers=["trackio"])
    with pytest.raises(RunError, match="did not finish"):
        Run.open(tmp_path / "run")
    assert Closing.failures == [False, True], "trackers are told how each run ended"


def test_without_test_records_nothing_is_scored(tiny, tmp_path):
    data = {"train": str(write_csv(tmp_path / "rows.csv", rows())), "test": 0}
    run = small_run(tmp_path / "run", tiny("bert"), data=data)
    assert run.metrics == {}
    there = set(files(run.folder))
    lacking = {"predictions.jsonl", "confusion_matrix.png", "loss.png"}
    assert there == RUN - lacking | {f"adapter/{name}" for name in ADAPTER["lora"]}
    assert "not measured" in (run.folder / "README.md").read_text()
    assert Run.open(run.folder).predict("good")[0]["prediction"] in ("neg", "pos")
    with pytest.raises(RunError, match="no test records"):
        run.evaluate()


@pytest.mark.parametrize("method", ["lora", "full", "head"])
def test_a_dry_run_counts_as_a_run_and_leaves_nothing(tiny, tmp_path, monkeypatch, method):
    monkeypatch.chdir(tmp_path)
    given = recipe(tiny("bert"), method, max_steps=None, epochs=2)
    with monkeypatch.context() as patch:
        for name in ("fit", "save_adapter", "RunFolder"):
            patch.setattr(pipeline, name, None)
        plan = pipeline.dry_run(given)
    assert list(tmp_path.iterdir()) == []
    json.dumps(plan)
    run = lightune.train(given, out="run", progress="silent")
    summary = run.summary()
    for key in ("trainable_parameters", "total_parameters"):
        assert plan[key] == summary[key]
    assert plan["forecast"]["steps"] == summary["steps"] == 4
    assert plan["forecast"]["seconds"] > 0
    assert plan["forecast"]["peak_memory_mb"] > 0
    assert plan["recipe"] == (run.folder / "recipe.yaml").read_text()
    assert plan["data"] == json.loads((run.folder / "data_report.json").read_text())


def test_the_dry_run_refuses_what_training_refuses(tiny):
    with pytest.raises(ConfigError, match="reads at most 128 tokens"):
        pipeline.dry_run(recipe(tiny("bert"), max_length=4096))


@pytest.mark.parametrize(
    ("notes", "shown"), [("auto", True), ("silent", False)], ids=["said", "silent"]
)
def test_notes_go_to_standard_error(tiny, tmp_path, capsys, notes, shown):
    pipeline.train(recipe(tiny("bert")), out=tmp_path / "run", progress=notes)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("8 of 40 rows held out" in captured.err) is shown
