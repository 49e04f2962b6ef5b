"""One run logged and read back with each tool; what each says when it is not installed."""

import json
import os
import subprocess
import sys

import pytest

from lightune.errors import MissingExtra
from lightune.train import trackers
from lightune.train.trackers import TRACKERS, flat, open_trackers

SETTINGS = {"task": "classification", "train": {"seed": 3, "optimizer": {"warmup": 0.06}}}
LOG = [(1, {"loss": 1.5, "rss_mb": 300.0}), (2, {"loss": 0.5, "validation_macro_f1": 0.75})]

WRITE = """
import json, sys
from pathlib import Path
from lightune.train.trackers import open_trackers
settings, log = json.loads(sys.argv[3])
for tracker in open_trackers([sys.argv[1]], Path(sys.argv[2]), settings):
    for step, values in log:
        tracker.log(step, values)
    tracker.close()
"""

READ_TRACKIO = """
import json
from trackio.api import Api
[run] = list(Api().runs("lightune"))
from trackio.sqlite_storage import SQLiteStorage
logs = SQLiteStorage.get_logs("lightune", run.name)
print(json.dumps([run.name, run.config, logs], default=str))
"""


def test_settings_become_flat_names():
    assert flat(SETTINGS) == {
        "task": "classification",
        "train.seed": 3,
        "train.optimizer.warmup": 0.06,
    }


def log_run(name, folder, environment=None) -> subprocess.CompletedProcess[str]:
    """Log in a process of its own: these tools keep threads and settings for a process's life."""
    folder.mkdir()
    command = [sys.executable, "-c", WRITE, name, str(folder), json.dumps([SETTINGS, LOG])]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "TRACKIO"))}
    done = subprocess.run(
        command, env=kept | (environment or {}), capture_output=True, text=True, cwd=folder.parent
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "", "standard output belongs to results"
    return done


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "mine"
    log_run("tensorboard", folder)
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 1.5), (2, 0.5)]
    assert [(e.step, e.value) for e in events.Scalars("validation_macro_f1")] == [(2, 0.75)]


def test_mlflow(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    folder = tmp_path / "mine"
    log_run("mlflow", folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine"], "nothing beside the run folder"
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=(folder / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("lightune")
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "mine"
    assert run.info.status == "FINISHED"
    assert run.data.params["train.optimizer.warmup"] == "0.06"
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(1, 1.5), (2, 0.5)]


def test_mlflow_goes_where_the_environment_says(tmp_path):
    pytest.importorskip("mlflow")
    elsewhere = tmp_path / "elsewhere"
    uri = {"MLFLOW_TRACKING_URI": elsewhere.as_uri(), "MLFLOW_ALLOW_FILE_STORE": "true"}
    log_run("mlflow", tmp_path / "mine", uri)
    assert elsewhere.is_dir()
    assert list((tmp_path / "mine").iterdir()) == []


def test_trackio(tmp_path):
    pytest.importorskip("trackio")
    environment = {"TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1"}
    log_run("trackio", tmp_path / "mine", environment)
    done = subprocess.run(
        [sys.executable, "-c", READ_TRACKIO],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    name, config, logs = json.loads(done.stdout.splitlines()[-1])
    assert name == "mine"
    assert config["train.seed"] == 3
    assert [(entry["step"], entry["loss"]) for entry in logs] == [(1, 1.5), (2, 0.5)]
    assert logs[1]["validation_macro_f1"] == 0.75


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_package_names_the_extra(name, tmp_path, monkeypatch):
    def absent(module: str):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(trackers, "import_module", absent)
    for variable in ("MLFLOW_ALLOW_FILE_STORE", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.setenv(variable, "true")
    with pytest.raises(MissingExtra) as caught:
        open_trackers([name], tmp_path, SETTINGS)
    assert caught.value.mend == "pip install 'lightune[track]'"


def test_a_fault_inside_a_package_is_not_called_missing(tmp_path, monkeypatch):
    def broken(module: str):
        raise ModuleNotFoundError("No module named 'inner'", name="inner")

    monkeypatch.setattr(trackers, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="inner"):
        open_trackers(["tensorboard"], tmp_path, SETTINGS)


def test_the_recipe_knows_the_same_trackers():
    from lightune.train.spec import TrainSpec

    assert TrainSpec(trackers=list(TRACKERS)).trackers == list(TRACKERS)
