"""A run that was stopped or killed goes on as if nothing had happened, or says why it cannot."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small_runs import files, lines, recipe, rows, small_run, write_csv

from lightune import pipeline
from lightune.errors import ConfigError, LightuneError, RunError
from lightune.run import Run

STEPS = {"max_steps": 6, "save_steps": 2}


@pytest.fixture(autouse=True)
def pictures(monkeypatch):
    for name in ("loss_curve", "confusion_matrix"):
        monkeypatch.setattr(pipeline.plots, name, lambda *arguments: None)


@pytest.fixture(scope="module")
def left(tiny, tmp_path_factory):
    """Return a folder with the data, `whole` (a run), and `killed` (as a kill after step 4 leaves
    it: log lines of later steps, no adapter, half a file)."""
    home = tmp_path_factory.mktemp("left")
    data = str(write_csv(home / "rows.csv", rows()))
    options = {"data": data, "evaluation": {"log_every": 1}, **STEPS}
    small_run(home / "whole", tiny("bert"), **options)
    shutil.copytree(home / "whole", home / "killed")
    killed = home / "killed"
    for gone in ("eval.json", "predictions.jsonl", "README.md", "checkpoints/step-000000006"):
        path = killed / gone
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(killed / "adapter")
    (killed / ".prefix-x").mkdir()
    (killed / ".eval.json.1.part").write_text("{")
    return home


@pytest.fixture
def killed(left, tmp_path) -> Path:
    """Return a copy of the killed run."""
    return Path(shutil.copytree(left / "killed", tmp_path / "killed"))


def go_on(folder, *changes: str) -> tuple[Run, list[str]]:
    notes: list[str] = []
    run = pipeline.train(resume=folder, overrides=changes, progress="silent", note=notes.append)
    return run, notes


def refused(folder, *changes: str) -> str:
    before = files(folder)
    with pytest.raises(LightuneError) as caught:
        go_on(folder, *changes)
    after = files(folder)
    assert {k: v for k, v in after.items() if "damaged" not in k}.items() <= before.items()
    return str(caught.value)


def test_it_goes_on_to_the_same_adapter(left, killed):
    run, notes = go_on(killed)
    whole = Run.open(left / "whole")
    assert files(run.adapter) == files(whole.adapter)
    assert any(note.startswith("goes on after step 4 ") for note in notes)
    assert run.metrics == whole.metrics
    assert lines(killed / "predictions.jsonl") == lines(whole.folder / "predictions.jsonl")
    assert (killed / "recipe.yaml").read_text() == (left / "whole" / "recipe.yaml").read_text()
    steps = [(row["step"], row["loss"]) for row in lines(killed / "metrics.jsonl")]
    assert steps == [
        (row["step"], row["loss"]) for row in lines(left / "whole" / "metrics.jsonl")
    ], "no line is there twice"
    environment = json.loads((killed / "environment.json").read_text())
    assert [entry["step"] for entry in environment["resumed"]] == [4]
    assert not [path for path in killed.iterdir() if path.name.startswith(".")]
    assert "has ended" in refused(killed)


def test_a_damaged_checkpoint_is_set_aside(left, killed):
    shutil.copytree(
        left / "whole" / "checkpoints" / "step-000000006",
        killed / "checkpoints" / "step-000000006",
    )
    with (killed / "checkpoints" / "step-000000006" / "moments.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    run, notes = go_on(killed)
    assert any("set aside as damaged-step-000000006" in note for note in notes)
    assert files(run.adapter) == files(Run.open(left / "whole").adapter)


def test_before_its_first_checkpoint_it_begins_anew_and_says_so(left, killed):
    shutil.rmtree(killed / "checkpoints" / "step-000000004")
    (killed / "environment.json").unlink()
    run, notes = go_on(killed)
    assert any("before its first checkpoint: it begins anew" in note for note in notes)
    assert files(run.adapter) == files(Run.open(left / "whole").adapter)


def test_missing_parts_are_an_error(killed, tmp_path):
    (killed / "checkpoints" / "step-000000004" / "weights.safetensors").unlink()
    for _ in range(2):
        assert "weights.safetensors" in refused(killed)
    shutil.rmtree(killed / "checkpoints")
    text = refused(killed)
    assert "no checkpoints to go on from" in text
    assert "train it anew: lightune train" in text
    with pytest.raises(RunError, match="no run folder"):
        go_on(tmp_path / "nowhere")


def test_another_recipe_is_refused(killed):
    assert "method.rank: a run goes on with what it began with" in refused(killed, "method.rank=2")
    assert "train.learning_rate" in refused(killed, "train.learning_rate=1e-5")
    assert "may only grow" in refused(killed, "train.max_steps=5")
    file = killed / "recipe.yaml"
    file.write_text(file.read_text().replace("rank: 8", "rank: 4"))
    text = refused(killed)
    assert "was changed since it was saved: method.rank" in text
    assert "then 8, now 4" in text
    file.write_text(file.read_text().replace("rank: 4", "rank: 8").replace("steps: 6", "steps: 9"))
    assert "to change it knowingly: -s train.max_steps=9" in refused(killed)


def test_more_steps_are_allowed_also_after_the_end(left, tmp_path):
    again = Path(shutil.copytree(left / "whole", tmp_path / "again"))
    run, _ = go_on(again, "train.max_steps=8")
    assert run.summary()["steps"] == 8
    assert run.recipe.train.max_steps == 8
    environment = json.loads((again / "environment.json").read_text())
    assert environment["resumed"][0]["changes"] == {"train.max_steps": [6, 8]}
    (again / "eval.json").unlink()
    assert go_on(again)[0].summary()["steps"] == 8, "what was changed once is not asked again"


def test_the_key_that_ended_it_is_named(left, tmp_path):
    again = Path(shutil.copytree(left / "whole", tmp_path / "again"))
    assert "-s train.max_steps=NUMBER" in refused(again)
    shutil.rmtree(again / "checkpoints")
    assert f"-s train.from={again}" in refused(again)
    (again / "checkpoints").mkdir()
    text = refused(again, "train.max_steps=9")
    assert "no checkpoints to go on from" in text
    assert f"-s train.from={again}" in text


def test_what_cannot_be_trained_on_is_left_as_it_was(left, tmp_path, monkeypatch):
    again = Path(shutil.copytree(left / "whole", tmp_path / "again"))
    (again / ".git").mkdir()
    (again / ".git" / "HEAD").write_text("mine")
    (again / "seal.json").write_text("{}")

    def fails(*arguments, **named):
        raise RunError("the loss is not a number")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "_fit", fails)
        assert "not a number" in refused(again, "train.max_steps=8")
    assert files(again) == files(left / "whole") | {".git/HEAD": b"mine", "seal.json": b"{}"}
    (again / "seal.json").unlink()
    began = json.loads((again / "environment.json").read_text())
    for step in (8, 9):
        go_on(again, f"train.max_steps={step}")
        assert json.loads((again / "environment.json").read_text())["began"] == began
    assert (again / ".git" / "HEAD").read_text() == "mine"


def test_a_limit_that_is_not_the_one_that_ended_it(left, tiny, tmp_path):
    data = str(left / "rows.csv")
    run = small_run(tmp_path / "run", tiny("bert"), data=data, epochs=9, max_steps=2, save_steps=1)
    assert "would not train on: it has done 2 of 2 steps" in refused(run.folder, "train.epochs=12")


def test_other_data_or_another_base_are_refused(left, killed, tiny, tmp_path):
    data = left / "rows.csv"
    content = data.read_text()
    data.write_text(content.replace("good", "fine"))
    try:
        assert "records of" in refused(killed)
    finally:
        data.write_text(content)
    model = tiny("bert") / "model.safetensors"
    weights = model.read_bytes()
    model.write_bytes(weights[:-4] + b"\x00\x00\x80\x3f")
    try:
        assert "another base model" in refused(killed)
    finally:
        model.write_bytes(weights)


def test_another_machine_is_told(killed):
    file = killed / "environment.json"
    recorded = json.loads(file.read_text())
    recorded["packages"]["torch"] = "1.0"
    file.write_text(json.dumps(recorded))
    _, notes = go_on(killed)
    assert any("torch" in note and "then 1.0" in note for note in notes)


def test_the_recorded_plan_is_used(killed, monkeypatch):
    monkeypatch.setattr("lightune.assembly.machine_plan", None)
    go_on(killed)


def test_only_the_runs_own_recipe(killed, tiny):
    with pytest.raises(ConfigError, match="its own recipe"):
        pipeline.train(recipe(tiny("bert")), resume=killed)


def test_what_a_signal_stops_is_saved_and_goes_on(left, tiny, tmp_path, monkeypatch):
    real = pipeline.Progress.step

    def stop(self, step):
        real(self, step)
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.Progress, "step", stop)
        options = {"data": str(left / "rows.csv"), "max_steps": 6}
        run = small_run(tmp_path / "run", tiny("bert"), **options)
    assert run.stopped == "SIGTERM"
    assert run.predict("good")
    run, _ = go_on(run.folder)
    assert (run.stopped, run.summary()["steps"]) == (None, 6)
    assert files(run.adapter) == files(Run.open(left / "whole").adapter)


def test_runs_killed_at_random_moments_lose_nothing():
    script = Path(__file__).parent / "proof" / "kills.py"
    done = subprocess.run(
        [sys.executable, script, "--kills", "6"],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["lost"], found["unequal"]) == (0, 0)
    assert found["kills"] >= 6
