"""A finished run from Python: its scores, its adapter, and its model on new data.

run = Run.open("runs/mine")
run.evaluate("test.csv")["metrics"]["accuracy"]["value"]
run.predict(["a charming film"])[0]["prediction"]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lightune.data.load import load_records, load_splits
from lightune.data.spec import DataSpec
from lightune.errors import RunError
from lightune.evaluate.custom import Metric, add_metrics
from lightune.recipe import Recipe, load_recipe
from lightune.runs.folder import RunFolder
from lightune.types import Place, Prediction, Record

if TYPE_CHECKING:
    from lightune.predictor import Predictor
    from lightune.tasks.base import Scores

Note = Callable[[str], None]


class Run:
    """One run folder. Use `Run.open`; `lightune.train` returns one too.

    Args:
        folder: finished.
        predictor: the run's model when it is in memory already; loaded on first use otherwise.
        note: takes each sentence the user should read.
    """

    def __init__(
        self,
        folder: RunFolder,
        predictor: Predictor | None = None,
        note: Note = lambda text: None,
    ) -> None:
        self._files = folder
        self._predictor = predictor
        self._note = note
        self.recipe: Recipe = load_recipe(folder.recipe)
        self._eval = folder.read(folder.eval)

    @classmethod
    def open(cls, path: str | Path, note: Note = lambda text: None) -> Run:
        """Open a run folder.

        Raises:
            RunError: it is no run folder, or its training did not finish.
        """
        return cls(RunFolder.open(path), note=note)

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self._files.path

    @property
    def adapter(self) -> Path:
        """The folder with the trained weights."""
        return self._files.adapter

    @property
    def metrics(self) -> dict[str, dict[str, float | None]]:
        """Scores on the test records: name -> `{"value", "low", "high"}`."""
        return dict(self._eval["metrics"])

    @property
    def labels(self) -> list[str]:
        """Class names in the order of `predict_proba`'s columns."""
        return list(self.predictor.state["labels"])

    @property
    def predictor(self) -> Predictor:
        """The model, loaded on first use."""
        if self._predictor is None:
            from lightune.assembly import reload

            self._predictor = reload(self._files, self.recipe, self._note)
        return self._predictor

    def summary(self) -> dict[str, Any]:
        """Return what `train --json` prints."""
        return {"run": str(self.folder), **self._eval}

    def evaluate(
        self,
        data: Any = None,
        limit: int | None = None,
        metrics: Mapping[str, Metric] | None = None,
    ) -> dict[str, Any]:
        """Score the run on labelled data.

        Args:
            data: file, folder, glob, hub data set, frame or list of dicts; None takes the test
                records of the recipe again, held out as they were.
            limit: only the first so many records.
            metrics: further metrics, name -> `f(truth, predicted) -> number`.

        Returns:
            `{"metrics": {name: {"value", "low", "high"}}, "records", "tables", "baselines"}`.

        Raises:
            DataError: the data cannot be read, or has labels that training did not know.
        """
        records = self._test_records() if data is None else self._read(data, "train")
        scores, _ = score(self.predictor, records[:limit], metrics)
        return as_json(scores, len(records[:limit]))

    def predict(self, data: Any) -> list[dict[str, Any]]:
        """Return one prediction per text or row, in order.

        Args:
            data: a text, a list of texts or of pairs of texts; or a `Path`, frame or list of dicts.

        Returns:
            `{"prediction", "scores": {label: probability}, "file", "line"}` each.
        """
        records = self._records(data)
        predictions = self.predictor.predict(self.predictor.encode(self._unlabelled(records)))
        return [prediction_row(r, p) for r, p in zip(records, predictions, strict=True)]

    def predict_proba(self, data: Any) -> np.ndarray:
        """Return probabilities `[rows, classes]`, columns in the order of `labels`."""
        rows = self.predict(data)
        if not rows:
            return np.empty((0, len(self.labels)))
        return np.array([[row["scores"][label] for label in self.labels] for row in rows])

    def _records(self, data: Any) -> list[Record]:
        if isinstance(data, str):
            data = [data]
        if isinstance(data, Sequence) and all(isinstance(item, str | tuple) for item in data):
            return [_record(item, number) for number, item in enumerate(data, start=1)]
        return self._read(data, "predict")

    def _unlabelled(self, records: Sequence[Record]) -> list[Record]:
        """Return the records without their labels: a file to predict may hold unknown ones."""
        labels = {field.name for field in self.recipe.task.fields if field.kind == "label"}
        return [
            Record({k: v for k, v in record.values.items() if k not in labels}, record.place)
            for record in records
        ]

    def _read(self, data: Any, need: str) -> list[Record]:
        task = self.recipe.task
        how = self.recipe.data.model_dump(
            include={"format", "encoding", "delimiter", "quoting", "header", "columns"}
        )
        records, notes = load_records(
            data,
            DataSpec(**how),
            task.fields,
            task.columns(),
            need=need,
            multi_label=bool(self.predictor.state.get("multi_label")),
        )
        for sentence in notes:
            self._note(sentence)
        return records

    def _test_records(self) -> list[Record]:
        task, recipe = self.recipe.task, self.recipe
        splits = load_splits(
            recipe.data,
            task.fields,
            task.columns(),
            seed=recipe.train.seed,
            want_validation=recipe.train.evaluation.early_stopping is not None,
            multi_label=bool(getattr(task, "multi_label", False)),
        )
        if not splits.test:
            raise RunError(
                f"{self.folder} has no test records",
                found="`data.test: 0`",
                mend="name a file: lightune evaluate RUN FILE",
            )
        return splits.test

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"


def score(
    predictor: Predictor, records: Sequence[Record], metrics: Mapping[str, Metric] | None = None
) -> tuple[Scores, list[Prediction]]:
    """Predict records and score them, the user's own metrics included."""
    scores, predictions = predictor.score(records)
    if metrics:
        truth = predictor.task.truth(records, predictor.state)
        scores = add_metrics(scores, metrics, truth, [p.value for p in predictions])
    return scores, predictions


def as_json(scores: Scores, records: int) -> dict[str, Any]:
    """Return scores as `evaluate --json` prints them."""
    return {
        "metrics": {name: value.to_json() for name, value in scores.metrics.items()},
        "records": records,
        "baselines": scores.baselines,
        "tables": scores.tables,
    }


def prediction_row(record: Record, prediction: Prediction) -> dict[str, Any]:
    """Return one line of `predictions.jsonl`, and what `Run.predict` returns."""
    row: dict[str, Any] = {
        "prediction": prediction.value,
        "scores": dict(prediction.scores),
        "file": record.place.file,
        "line": record.place.line,
    }
    if "label" in record.values:
        row["label"] = record.values["label"]
    return row


def _record(item: str | tuple[str, str], number: int) -> Record:
    texts = (item,) if isinstance(item, str) else item
    values = dict(zip(("text", "text_pair"), texts, strict=False))
    return Record(values, Place("<texts>", number))
