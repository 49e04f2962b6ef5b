"""What is looked at before the first step: each check on something wrong, and on what is right."""

import json
from types import SimpleNamespace

import pytest
import torch
from small_runs import recipe, rows, small_run, write_csv

from lightune import pipeline, preflight
from lightune.assembly import assemble
from lightune.cli.main import main
from lightune.errors import DataError, MethodError, ModelError, ResourceError, RunError
from lightune.methods.base import methods
from lightune.recipe import load_recipe
from lightune.runs.warned import Warnings, read_warnings
from lightune.tasks.base import Task


@pytest.fixture(autouse=True)
def pictures(monkeypatch):
    for name in ("loss_curve", "confusion_matrix"):
        monkeypatch.setattr(pipeline.plots, name, lambda *args: None)


@pytest.fixture
def job(tiny):
    return assemble(load_recipe(recipe(tiny("bert"))), lambda text: None)


def test_a_good_job_passes_and_every_check_is_listed(job, tmp_path):
    said = []
    warnings = Warnings(said.append)
    preflight.preflight(job, warnings, tmp_path / "runs" / "new")
    assert said == []
    assert set(warnings.checked) == {
        *("weights", "labels", "targets", "memory", "disk", "padding", "near_duplicates"),
        *("unknown_tokens", "truncation", "learning_rate", "warmup"),
    }
    assert job.splits.report["overlap"]["train/test"]["compared"] == [32, 8]


def test_nothing_to_train_or_a_frozen_head(job):
    method = job.attachments[0]
    job.attachments.pop().detach()  # the head's
    job.base.model.requires_grad_(False)
    with pytest.raises(MethodError, match=r"classifier: random in .* and not trained") as caught:
        preflight.check_weights(job)
    assert caught.value.mend
    method.trainable = {}
    with pytest.raises(MethodError, match="nothing to train"):
        preflight.check_weights(job)


def test_a_weight_that_is_no_number(job):
    path, weight = next(iter(job.trainable.items()))
    with torch.no_grad():
        weight.view(-1)[0] = torch.nan
    with pytest.raises(MethodError, match="no numbers") as caught:
        preflight.check_weights(job)
    assert path in caught.value.found


def test_a_head_with_another_order_of_labels(job):
    preflight.check_labels(job)
    job.base.model.config.id2label = {0: "pos", 1: "neg"}
    with pytest.raises(ModelError, match="not those of the data") as caught:
        preflight.check_labels(job)
    assert caught.value.found == "head: pos, neg; data: neg, pos"


def test_records_without_anything_to_learn(job, monkeypatch):
    real = Task.targets
    assert preflight.check_targets(job) is None
    kind = type(job.recipe.task)
    real = kind.targets

    def masked(every):
        def targets(self, examples, state, width):
            made = real(self, examples, state, width)
            hidden = [i for i, e in enumerate(examples) if e.index % every == 0]
            return made.index_fill(0, torch.tensor(hidden, dtype=torch.long), -100)

        monkeypatch.setattr(kind, "targets", targets)

    masked(8)
    told = preflight.check_targets(job)
    assert told.found.startswith("4 of 32 records: ")
    assert str(job.splits.train[0].place) in told.found
    masked(1)
    with pytest.raises(RunError, match="no training record has anything to learn"):
        preflight.check_targets(job)


def test_a_model_that_reads_the_padding(job, monkeypatch):
    assert preflight.check_padding(job) is None

    def without_mask(self, model, batch, state):
        return model(input_ids=batch.inputs["input_ids"])

    monkeypatch.setattr(Task, "forward", without_mask)
    told = preflight.check_padding(job)
    assert told.check == "padding"
    assert "differ by" in told.found


@pytest.mark.parametrize(("share", "count", "warned"), [(0.3, 9, True), (0.2, 9, False)])
def test_many_near_duplicates(share, count, warned):
    pairs = [["b.csv:2", "a.csv:9"]]
    found = {"near_rows": count, "near_share": share, "near_examples": pairs, "compared": [90, 30]}
    told = preflight.check_near("test", found)
    assert bool(told) is warned
    if told:
        assert "9 of 30 rows" in told.found
        assert "b.csv:2 ~ a.csv:9" in told.found
    assert preflight.check_near("test", found | {"near_rows": 2}) is None


def cut(share, most=64):
    return {"tokens_lost_share": share, "truncated_rows": 9, "max_length": most, "p95": 200}


@pytest.mark.parametrize(
    ("share", "meant", "mend"),
    [(0.3, False, "train.max_length=128"), (0.3, True, None), (0.6, True, "train.max_length=128"),
     (0.1, False, None)],
)  # fmt: skip
def test_texts_that_are_cut(share, meant, mend):
    told = preflight.check_cut(cut(share), meant, 128)
    assert (told and told.mend) == mend


def test_texts_longer_than_the_model_reads():
    assert "reads longer texts" in preflight.check_cut(cut(0.5, 128), False, 128).mend


@pytest.mark.parametrize("name", sorted(methods()))
def test_learning_rates(name):
    own = methods()[name].learning_rate
    for times in (1, 10, 50, 0.1, 0.01):
        assert preflight.check_rate(own * times, own, name) is None
    high = preflight.check_rate(own * 1000, own, name)
    assert "1,000 times the one" in high.problem
    assert f"takes {own:g}" in high.mend
    assert preflight.check_rate(own / 1000, own, name)


@pytest.mark.parametrize(
    ("warmup", "steps", "warned"), [(10, 10, True), (9, 10, False), (0, 1, False), (0.06, 2, False)]
)
def test_a_warmup_as_long_as_the_run(warmup, steps, warned):
    assert bool(preflight.check_warmup(warmup, steps)) is warned


def weighing(job, megabytes):
    """Let the job's trained weights weigh so much, without taking it."""
    weight = SimpleNamespace(numel=lambda: int(megabytes * 1e6 / 4))
    parts = [SimpleNamespace(trainable={"w": weight}, layout="peft")]
    return SimpleNamespace(
        recipe=job.recipe, splits=job.splits, predictor=job.predictor, base=job.base,
        attachments=parts, trainable={"w": weight},
    )  # fmt: skip


def test_memory_that_the_optimiser_alone_does_not_have(job):
    assert preflight.check_memory(weighing(job, 1000), room=3100) is None
    with pytest.raises(ResourceError, match="cannot be trained in the memory") as caught:
        preflight.check_memory(weighing(job, 1000), room=2900)
    assert "take 3,000 MB" in caught.value.found
    assert preflight.check_memory(job, room=0) is None


def test_a_forecast_beyond_the_memory():
    assert preflight.check_forecast(100, "cpu", room=500) is None
    told = preflight.check_forecast(1e6, "cpu", room=500)
    assert told.check == "memory"
    assert "forecast 1,000,000 MB" in told.found


def test_a_disk_without_room(job, tmp_path):
    heavy = weighing(job, 100)  # adapter 100, a checkpoint 300
    asked = []

    def free(megabytes):
        return lambda folder: asked.append(folder) or int(megabytes * 1e6)

    place = tmp_path / "not" / "there"
    assert preflight.check_disk(heavy, place, free(1001)) is None
    assert asked == [tmp_path]
    assert "a checkpoint 300 MB" in preflight.check_disk(heavy, place, free(900)).found
    with pytest.raises(ResourceError, match="no room for the run") as caught:
        preflight.check_disk(heavy, place, free(390))
    assert "390 MB free" in caught.value.found
    assert "--out DIR" in caught.value.mend


def given(tiny, tmp_path, shared):
    train, test = rows(count=40), [{"text": f"new {i}", "label": "neg"} for i in range(5)]
    data = {"train": str(write_csv(tmp_path / "a.csv", train)),
            "test": str(write_csv(tmp_path / "b.csv", test + train[:shared]))}  # fmt: skip
    return data, tiny("bert")


def test_tested_rows_that_are_trained_on_stop_the_run(tiny, tmp_path):
    data, model = given(tiny, tmp_path, 3)
    for work in (lambda d: small_run(tmp_path / "run", model, data=d),
                 lambda d: pipeline.dry_run(recipe(model, data=d))):  # fmt: skip
        with pytest.raises(DataError, match=r"b\.csv:7: 3 rows of test would be trained on"):
            work(data)
    assert not (tmp_path / "run").exists()
    run = small_run(tmp_path / "run", model, data=data | {"overlap": "allow"})
    report = json.loads((run.folder / "data_report.json").read_text())
    assert report["overlap"]["train/test"]["rows"] == 3


def test_warnings_are_in_the_folder_the_summary_and_the_command(tiny, tmp_path, capsys):
    data, model = given(tiny, tmp_path, 0)
    words = ["train", "--task", "classification", "--model", str(model), "--data", data["train"],
             "--test", data["test"], "-s", "train.max_steps=2", "-s", "train.precision=fp32",
             "-s", "train.learning_rate=0.5", "-s", "train.engine.threads=1"]  # fmt: skip
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    told = capsys.readouterr()
    assert "warning: the learning rate is 1,000 times the one that lora trains well" in told.err
    assert "1 warning (learning_rate): " in told.out
    kept = read_warnings(tmp_path / "run")
    assert [w.check for w in kept] == ["learning_rate"]
    assert main([*words, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [w["check"] for w in plan["warnings"]] == ["learning_rate"]
    assert main([*words, "--dry-run"]) == 0
    assert "warning: the learning rate is 1,000 times" in capsys.readouterr().out


def test_preflight_changes_no_result(tiny, tmp_path, monkeypatch):
    looked = small_run(tmp_path / "looked", tiny("bert"), max_steps=4)
    monkeypatch.setattr(pipeline, "preflight", lambda *arguments: None)
    plain = small_run(tmp_path / "plain", tiny("bert"), max_steps=4)
    file = "adapter/adapter_model.safetensors"
    assert (looked.folder / file).read_bytes() == (plain.folder / file).read_bytes()
