"""A training is watched: what goes wrong is told, what goes well is not, and nothing changes."""

import errno
import json

import pytest
import torch
from small_runs import rows, small_run

from lightune import pipeline
from lightune.methods.base import methods
from lightune.runs import log
from lightune.runs.warned import Warnings, read_warnings
from lightune.tasks.base import tasks
from lightune.train import trackers
from lightune.watch import Watch
from tests.tasks.learnable import LEARNABLE

FULL = OSError(errno.ENOSPC, "No space left on device")
NEEDS_MORE = {"peft": {"type": "VERA"}}
ROWS = [
    {
        "text": f"{('so', 'well', 'this is')[i % 3]} a {word} {('film', 'book')[i % 2]} {i}",
        "label": y,
    }
    for i in range(120)
    for word, y in [("good", "pos") if i * i % 7 < 3 else ("bad", "neg")]
]
"""Short enough for a random model to learn: rates are twenty times the methods' own."""


@pytest.fixture(autouse=True)
def pictures(monkeypatch):
    for name in ("loss_curve", "confusion_matrix"):
        monkeypatch.setattr(pipeline.plots, name, lambda *args: None)


def warned(run):
    return [w.check for w in read_warnings(run.folder)]


@pytest.mark.parametrize("name", sorted(methods()))
def test_a_clean_run_of_each_method_warns_of_nothing(tiny, tmp_path, name):
    rate = 20 * methods()[name].learning_rate
    method = {"name": name, **NEEDS_MORE.get(name, {})}
    if name == "peft":
        pytest.importorskip("peft")
    options = {"max_steps": 60, "batch_size": 8, "learning_rate": rate}
    run = small_run(tmp_path / "run", tiny("bert"), method, data=ROWS, **options)
    assert [str(w) for w in read_warnings(run.folder)] == []
    checked = json.loads((run.folder / "warnings.json").read_text())["checked"]
    assert {"loss", "no_gradient", "gradient_norm", "guessing", "padding"} <= set(checked)


@pytest.mark.parametrize("name", sorted(set(LEARNABLE) & set(tasks())))
def test_a_clean_run_of_each_task_warns_of_nothing(tiny, tmp_path, name):
    case = LEARNABLE[name]
    file = tmp_path / "ten.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in case.rows))
    run = small_run(
        tmp_path / "run",
        tiny(case.family),
        "full",
        task={"name": name, **case.settings},
        data={"train": str(file), "test": 0, "validation": 0},
        max_steps=40,
        learning_rate=2e-3,
    )
    assert [str(w) for w in read_warnings(run.folder)] == []


def test_a_loss_that_stays_is_told_half_way(tiny, tmp_path):
    run = small_run(tmp_path / "run", tiny("bert"), max_steps=80, learning_rate=5e-6)
    assert warned(run) == ["loss_still"]
    [told] = read_warnings(run.folder)
    assert told.step == 40
    assert "half-way" in told.found


def test_a_loss_that_rises_is_told(tiny, tmp_path):
    run = small_run(tmp_path / "run", tiny("bert"), "full", max_steps=40, learning_rate=2.0)
    assert {"learning_rate", "loss_rose"} <= set(warned(run))


def test_weights_that_the_loss_does_not_depend_on(tiny, tmp_path, monkeypatch):
    real = pipeline.assemble

    def assemble(*arguments):
        job = real(*arguments)
        job.base.model.get_submodule("bert.encoder.layer.0.output.dense").scale = 0.0
        return job

    monkeypatch.setattr(pipeline, "assemble", assemble)
    method = {"name": "lora", "targets": ["output.dense"]}
    run = small_run(tmp_path / "run", tiny("bert"), method, max_steps=24, learning_rate=1e-2)
    [told] = [w for w in read_warnings(run.folder) if w.check == "no_gradient"]
    assert told.step == 20
    assert "layer.0.output.dense.A" in told.found
    assert "layer.1.output.dense" not in told.found


def test_watching_changes_no_weight(tiny, tmp_path, monkeypatch):
    options = {"max_steps": 80, "evaluation": {"log_every": 1}}
    watched = small_run(tmp_path / "watched", tiny("bert"), **options)
    for name in ("__init__", "log", "step", "end", "tested"):
        monkeypatch.setattr(Watch, name, lambda *arguments: None)
    monkeypatch.setattr(Watch, "warnings", Warnings(print), raising=False)
    alone = small_run(tmp_path / "alone", tiny("bert"), **options)
    file = "adapter/adapter_model.safetensors"
    assert (watched.folder / file).read_bytes() == (alone.folder / file).read_bytes()


def test_a_full_disk_for_the_log_is_told_once_and_training_goes_on(tiny, tmp_path, monkeypatch):
    def full(self, line):
        raise FULL

    monkeypatch.setattr(log.MetricsLog, "_write_all", full)
    run = small_run(tmp_path / "run", tiny("bert"), evaluation={"log_every": 1})
    assert warned(run) == ["log"]
    assert "No space left" in read_warnings(run.folder)[0].found
    assert run.summary()["steps"] == 2


def test_a_full_disk_for_a_picture_is_told(tiny, tmp_path, monkeypatch):
    def full(*arguments):
        raise FULL

    monkeypatch.setattr(pipeline.plots, "loss_curve", full)
    run = small_run(tmp_path / "run", tiny("bert"))
    assert warned(run) == ["pictures"]


@pytest.mark.parametrize("when", ["log", "close"])
def test_a_tracker_that_fails_is_told_once_and_training_goes_on(tiny, tmp_path, monkeypatch, when):
    class Failing:
        fails = (OSError,)
        seen = 0

        def __init__(self, folder, settings):
            pass

        def log(self, step, values):
            Failing.seen += 1
            if when == "log":
                raise FULL

        def close(self, failed=False):
            assert not failed
            raise FULL

    pytest.importorskip("tensorboard")
    monkeypatch.setitem(trackers.TRACKERS, "tensorboard", Failing)
    options = {"trackers": ["tensorboard"], "evaluation": {"log_every": 1}}
    run = small_run(tmp_path / "run", tiny("bert"), **options)
    assert warned(run) == ["trackers"]
    assert "tensorboard could not take all of the log" in read_warnings(run.folder)[0].problem
    assert Failing.seen == 2


def test_a_bug_in_a_tracker_is_not_hidden(tmp_path, monkeypatch):
    class Buggy:
        fails = (OSError,)

        def __init__(self, folder, settings):
            pass

        def log(self, step, values):
            raise ZeroDivisionError

        def close(self, failed=False):
            assert failed

    monkeypatch.setitem(trackers.TRACKERS, "tensorboard", Buggy)
    said = []
    with (
        pytest.raises(ZeroDivisionError),
        trackers.tracking(["tensorboard"], tmp_path, {}, lambda *a: said.append(a)) as track,
    ):
        track({"step": 1.0})
    assert said == []


def test_guesses_are_told(tiny, tmp_path):
    torch.manual_seed(0)
    coin = torch.randint(0, 2, (200,)).tolist()
    table = [row | {"label": "ab"[c]} for row, c in zip(rows(count=200), coin, strict=True)]
    run = small_run(
        tmp_path / "run",
        tiny("bert"),
        data={"train": table, "test": 0.4},
        max_steps=50,
        learning_rate=1e-3,
    )
    assert "guessing" in warned(run), run.metrics
