"""The log of a run in other people's tools: TensorBoard, MLflow, trackio (extra `track`). No torch.

    tensorboard  RUN/tensorboard                       tensorboard --logdir RUN/tensorboard
    mlflow       RUN/mlruns, or MLFLOW_TRACKING_URI    MLFLOW_ALLOW_FILE_STORE=true mlflow ui \
                                                         --backend-store-uri RUN/mlruns
    trackio      trackio's own folder (TRACKIO_DIR)    trackio show --project lightune

Why:        `metrics.jsonl` in the run folder is the log; these are copies for those who compare
            many runs in a tool they have.
Invariants: nothing leaves the machine unless the user's own environment names a server; MLflow's
            usage statistics are off unless MLFLOW_DISABLE_TELEMETRY says otherwise; what a tool
            prints goes to standard error.
Full disk:  a tool that fails while training runs is told once, and training goes on.
To add one: write a class here with `log`, `close` and `fails`, and put it into `TRACKERS`.
"""

import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from lightune.errors import MissingExtra

PROJECT = "lightune"
"""Project or experiment under which all runs are listed."""


class Tracker(Protocol):
    """Takes the log of one run."""

    fails: tuple[type[Exception], ...]
    """What `log` and `close` raise where a disk is full or a server is gone."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None: ...

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take the numbers of one step."""

    def close(self, failed: bool = False) -> None:
        """Write out what is left and let go of files and threads; tell of a failure who can."""


class TensorBoard:
    """Event files in the run folder."""

    fails: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        _need("tensorboard", "TensorBoard")
        writer = import_module("torch.utils.tensorboard").SummaryWriter
        self.writer = writer(str(folder / "tensorboard"))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self, failed: bool = False) -> None:
        self.writer.close()


class MLflow:
    """MLflow's file store in the run folder, or the server that MLFLOW_TRACKING_URI names."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if uri is None:
            # MLflow 3 prefers a database, whose packages its slim client does not bring.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            uri = (folder / "mlruns").resolve().as_uri()
        _need("mlflow", "MLflow")
        entities = import_module("mlflow.entities")
        self.metric, self.param = entities.Metric, entities.Param
        self.fails: tuple[type[Exception], ...] = (
            OSError,
            import_module("mlflow.exceptions").MlflowException,
        )
        self.client = import_module("mlflow.tracking").MlflowClient(tracking_uri=uri)
        experiment = self.client.get_experiment_by_name(PROJECT)
        number = experiment.experiment_id if experiment else self.client.create_experiment(PROJECT)
        self.run = self.client.create_run(number, run_name=folder.name).info.run_id
        params = [self.param(name, str(value)) for name, value in flat(settings).items()]
        self.client.log_batch(self.run, params=params)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1e3)
        metrics = [self.metric(name, value, now, step) for name, value in values.items()]
        self.client.log_batch(self.run, metrics=metrics)

    def close(self, failed: bool = False) -> None:
        self.client.set_terminated(self.run, "FAILED" if failed else "FINISHED")


class Trackio:
    """trackio's local database; its dashboard is one command away."""

    fails: tuple[type[Exception], ...] = (OSError, sqlite3.Error)

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.module = _need("trackio", "trackio")
        with redirect_stdout(sys.stderr):
            self.run = self.module.init(
                project=PROJECT,
                name=folder.name,
                config=flat(settings),
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def close(self, failed: bool = False) -> None:
        with redirect_stdout(sys.stderr):
            self.module.finish()  # the run's own `finish` would be called, and talk, again at exit


TRACKERS: dict[str, type[Tracker]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "trackio": Trackio,
}


def check_installed(names: Sequence[str]) -> None:
    """Look for the trackers' packages, before any work is done.

    Raises:
        MissingExtra: a tracker's package is not installed.
    """
    for name in names:
        if find_spec(name) is None:
            raise MissingExtra.of(name, extra="track", purpose=TRACKERS[name].__name__)


def open_trackers(names: Sequence[str], folder: Path, settings: Mapping[str, Any]) -> list[Tracker]:
    """Return the trackers of a run, open.

    Args:
        names: keys of `TRACKERS`.
        folder: of the run; its name is the run's name.
        settings: the resolved recipe.

    Raises:
        MissingExtra: a tracker's package is not installed.
    """
    return [TRACKERS[name](folder, settings) for name in names]


@contextmanager
def tracking(
    names: Sequence[str],
    folder: Path,
    settings: Mapping[str, Any],
    problem: Callable[[str, str], None],
) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """Open trackers; give a function that sends one line of the log to each.

    Args:
        names, folder, settings: as of `open_trackers`.
        problem: told once of each tracker that fails: its name, and how.

    Raises:
        MissingExtra: a tracker's package is not installed.
    """
    failed: set[str] = set()

    def guarded(name: str, tracker: Tracker, work: Callable[[], None]) -> None:
        try:
            work()
        except tracker.fails as error:
            if name not in failed:
                failed.add(name)
                problem(name, f"{type(error).__name__}: {error}"[:200])

    with ExitStack() as stack:
        opened: dict[str, Tracker] = {}
        for name in names:
            [tracker] = open_trackers([name], folder, settings)
            opened[name] = tracker

            def close(kind: Any, *_: Any, name: str = name, tracker: Tracker = tracker) -> None:
                guarded(name, tracker, lambda: tracker.close(failed=kind is not None))

            stack.push(close)

        def track(entry: Mapping[str, float]) -> None:
            for name, tracker in opened.items():
                step = int(entry["step"])
                guarded(name, tracker, lambda t=tracker, s=step: t.log(s, entry))  # type: ignore[misc]

        yield track


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `{"train.seed": 0, …}` from nested settings."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _need(package: str, purpose: str) -> ModuleType:
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise MissingExtra.of(package, extra="track", purpose=purpose) from None
