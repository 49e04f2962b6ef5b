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

from lightune.data import kinds
from lightune.data.columns import ColumnError, Mapped, Trained, known_names
from lightune.data.kinds import TEXTS
from lightune.data.load import load_records
from lightune.data.read import read_tables
from lightune.data.spec import DataSpec
from lightune.data.split import LEARNT
from lightune.errors import ConfigError, DataError, RunError
from lightune.evaluate.custom import Metric, add_metrics
from lightune.recipe import Recipe, load_recipe
from lightune.runs.folder import RunFolder
from lightune.runs.sealed import is_sealed, unsealed
from lightune.runs.warned import as_rows, read_warnings
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
        folder = RunFolder.open(path)
        if not is_sealed(folder.path):
            note(unsealed(folder.path))
        return cls(folder, note=note)

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
    def stopped(self) -> str | None:
        """Why training ended early: `early stopping`, or a signal's name; None if it did not."""
        return self._eval["stopped"]

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
        found = as_rows(read_warnings(self.folder))
        return {"run": str(self.folder), **self._eval, "warnings": found}

    def evaluate(
        self,
        data: Any = None,
        limit: int | None = None,
        metrics: Mapping[str, Metric] | None = None,
        columns: Mapped | None = None,
    ) -> dict[str, Any]:
        """Score the run on labelled data.

        Args:
            data: file, folder, glob, hub data set, frame or list of dicts; None takes the test
                records of the recipe again, held out as they were.
            limit: only the first so many records.
            metrics: further metrics, name -> `f(truth, predicted) -> number`.
            columns: field -> the column or columns of `data` that hold it. What is left out is
                read from the columns that training read, else guessed, and said.

        Returns:
            `{"metrics": {name: {"value", "low", "high"}}, "records", "tables", "baselines"}`.

        Raises:
            DataError: the data cannot be read, or has labels that training did not know.
        """
        if data is None and columns:
            raise ConfigError(
                "columns are those of the data to score, and none is given",
                found=f"columns of: {', '.join(columns)}",
                mend="name the data too, or leave `columns` out",
            )
        records = self.test_records() if data is None else self._read(data, "train", columns)
        scores, _ = score(self.predictor, records[:limit], metrics)
        return as_json(scores, len(records[:limit]))

    def predict(self, data: Any, columns: Mapped | None = None) -> list[dict[str, Any]]:
        """Return one prediction per text or row, in order.

        Args:
            data: a text, a list of texts or of pairs of texts; a `Path`, frame or list of dicts;
                or what `records` returned.
            columns: see `evaluate`.

        Returns:
            `{"prediction", "scores": {label: probability}, "file", "line"}` each.

        Raises:
            DataError: the data cannot be read, or lacks a field that the model needs.
        """
        records = self.records(data, columns)
        predictions = self.predictor.predict(self.predictor.encode(self._unlabelled(records)))
        return [prediction_row(r, p) for r, p in zip(records, predictions, strict=True)]

    def predict_proba(self, data: Any) -> np.ndarray:
        """Return probabilities `[rows, classes]`, columns in the order of `labels`."""
        rows = self.predict(data)
        if not rows:
            return np.empty((0, len(self.labels)))
        return np.array([[row["scores"][label] for label in self.labels] for row in rows])

    def records(self, data: Any, columns: Mapped | None = None) -> list[Record]:
        """Return the records that `predict` reads from `data`."""
        if isinstance(data, str):
            data = [data]
        if isinstance(data, Sequence) and all(isinstance(item, Record) for item in data):
            return list(data)
        if isinstance(data, Sequence) and all(isinstance(item, str | tuple) for item in data):
            names = self.text_fields()
            return [_record(item, number, names) for number, item in enumerate(data, start=1)]
        return self._read(data, "predict", columns)

    def rows(self, data: Any, columns: Mapped | None = None) -> list[dict[str, Any]]:
        """Return the rows of `data` by its own column names, in the order of `records`."""
        fields, named = self.recipe.task.fields, columns or {}
        known = known_names(fields, named, self._trained())
        tables = read_tables(data, self._how(), known)
        return [
            {name: cells[i] for name, cells in table.columns.items()}
            for table in tables
            for i in range(len(table))
        ]

    def text_fields(self) -> list[str]:
        """Return the text fields that the model, trained as it was, reads."""
        task = self.recipe.task
        more = task.needed_after(self.predictor.state)
        texts = [field for field in task.fields if field.kind in TEXTS]
        read = [f.name for f in texts if f.needed_to_predict or f.name in more]
        return read or [texts[0].name]

    def _unlabelled(self, records: Sequence[Record]) -> list[Record]:
        """Return the records without what is to be predicted: a label may be unknown, an expected
        answer too long, and neither may change what is read."""
        fields = self.recipe.task.fields
        learnt = {*LEARNT, *(field.name for field in fields if field.kind in kinds.LEARNT)}
        return [
            Record({k: v for k, v in record.values.items() if k not in learnt}, record.place)
            for record in records
        ]

    def _read(self, data: Any, need: str, columns: Mapped | None) -> list[Record]:
        task, state, columns = self.recipe.task, self.predictor.state, columns or {}
        names = [field.name for field in task.fields]
        for name in columns:
            if name not in names:
                raise ConfigError(
                    f"columns: the task has no field {name!r}",
                    found=f"fields of this task: {', '.join(names)}",
                    mend=f"columns={{{names[0]!r}: COLUMN}}",
                )
        several = task.several_labels(state)
        try:
            records, notes = load_records(
                data, self._how(), task.fields, columns, need, several, self._trained()
            )
        except ColumnError as error:  # the recipe, where training would name it, is fixed
            mend = f"say which it is: columns={{{error.field!r}: {error.column!r}}}"
            parts = error.problem, error.found, mend, error.field, error.column
            raise ColumnError(*parts) from None
        for sentence in notes:
            self._note(sentence)
        return records

    def _how(self) -> DataSpec:
        """Return how files are read, without which: as those of training."""
        how = {"format", "encoding", "delimiter", "quoting", "header", "columns"}
        return DataSpec(**self.recipe.data.model_dump(include=how))

    def _trained(self) -> Trained:
        task = self.recipe.task
        read = self._files.read(self._files.data_report).get("columns", {})
        return Trained(task.columns() | read, task.needed_after(self.predictor.state))

    def test_records(self) -> list[Record]:
        from lightune.assembly import splits_of

        splits = splits_of(self.recipe)
        if not splits.test:
            raise RunError(
                f"{self.folder} has no test records",
                found="`data.test: 0`",
                mend="name a file: lightune evaluate RUN FILE",
            )
        then = self._files.read(self._files.data_report)["splits"].get("test", {}).get("sha256")
        now = splits.report["splits"]["test"]["sha256"]
        if then != now:
            raise RunError(
                f"the data of {self.folder} changed since training: other records would be tested, "
                "and some of them may have been trained on",
                found=f"test records {now[:16]}…, then {str(then)[:16]}…",
                mend="name a file that was not trained on: lightune evaluate RUN FILE",
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
    row: dict[str, Any] = {"prediction": prediction.value}
    if prediction.scores:
        row["scores"] = dict(prediction.scores)
    row |= {**prediction.measures, "file": record.place.file, "line": record.place.line}
    return row | {name: record.values[name] for name in LEARNT if name in record.values}


def _record(item: str | tuple[str, ...], number: int, fields: Sequence[str]) -> Record:
    texts = (item,) if isinstance(item, str) else item
    if len(texts) != len(fields) or not all(isinstance(text, str) for text in texts):
        one = repr("a text") if len(fields) == 1 else str(tuple(f"a {name}" for name in fields))
        raise DataError(
            f"text {number}: the model was trained on {' and '.join(fields)} of each record",
            found=f"{len(texts)} of them: {item!r:.80}",
            mend=f"give it so: [{one}, …]",
        )
    return Record(dict(zip(fields, texts, strict=True)), Place("<texts>", number))
