"""scikit-learn estimators: `LightuneClassifier().fit(texts, labels).predict(new_texts)`.

Why:        `cross_val_score`, `GridSearchCV` and `Pipeline` work as with any other classifier.
Invariants: constructing does no work; `fit` trains on all rows it is given (the caller splits);
            fitting twice with one `random_state` gives the same weights; labels come back in the
            type they had; pickles hold safetensors and JSON, never a torch pickle.
Cost:       a fitted estimator keeps its run folder on disk, in the temporary folder of the machine
            unless `out` is given, and removes it with itself.
Not here:   training (`pipeline.py`), prediction (`run.py`).
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from lightune.data.records import label_of
from lightune.errors import DataError

if TYPE_CHECKING:  # torch loads with the first fit
    from lightune.run import Run

LARGEST_SEED = 2**31 - 1


class LightuneClassifier(ClassifierMixin, BaseEstimator):
    """Fine-tune a language model as a classifier of texts, or of pairs of texts.

    Args:
        model: catalogue name, hub id, `ms:<ModelScope id>`, or folder.
        method: `lora`, `full`, `head` … (`lightune methods`).
        method_settings: the method's own, such as `{"rank": 16}`.
        epochs: passes over the rows; None takes the recipe's default, as for the next three.
        batch_size: rows in one step.
        learning_rate: peak rate; None takes the method's own.
        max_length: longest text in tokens.
        train_settings: further keys of the recipe's section `train`, nested as there.
        task_settings: further keys of the recipe's section `task`, such as class weights.
        out: folder that keeps the run folder of each fit (`fit-1`, `fit-2` …); None keeps none.
        random_state: seed, `RandomState`, or None for another result at every fit.

    Attributes:
        classes_: labels in sorted order, in their own type; the columns of `predict_proba`.
        run_: the run behind the fitted estimator.

    Example:
        >>> from lightune.sklearn import LightuneClassifier
        >>> LightuneClassifier(method="lora", method_settings={"rank": 4}).get_params()["epochs"]

    """

    def __init__(
        self,
        model: str = "minilm",
        method: str = "lora",
        *,
        method_settings: Mapping[str, Any] | None = None,
        epochs: float | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        max_length: int | None = None,
        train_settings: Mapping[str, Any] | None = None,
        task_settings: Mapping[str, Any] | None = None,
        out: str | Path | None = None,
        random_state: Any = 0,
    ) -> None:
        self.model = model
        self.method = method
        self.method_settings = method_settings
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.max_length = max_length
        self.train_settings = train_settings
        self.task_settings = task_settings
        self.out = out
        self.random_state = random_state

    _run: Run | None
    _folder: Path
    _columns: list[int]
    classes_: np.ndarray

    def fit(self, X: Any, y: Any) -> LightuneClassifier:
        """Train on all rows, anew: what an earlier fit learned is forgotten.

        Args:
            X: texts: a list, a NumPy array, a pandas or polars column, or a frame with one
                column; for pairs of texts a frame with two columns, or a list of pairs.
            y: one label for each text: words, whole numbers or booleans.

        Raises:
            DataError: a row of X is no text, a label is missing, or X and y differ in length.
            ValueError: y has one class only, or numbers that are no classes.
        """
        from lightune.pipeline import train

        self._forget()
        texts = texts_of(X)
        labels = _labels_of(y, len(texts))
        classes, codes = np.unique(labels, return_inverse=True)
        words = _words(classes)
        rows = [{**text, "label": words[code]} for text, code in zip(texts, codes, strict=True)]
        folder = self._new_folder()
        try:
            run = train(self._recipe(rows), out=folder, progress="silent")
            if run.stopped not in (None, "early stopping"):
                raise KeyboardInterrupt(f"training was stopped by {run.stopped}")
        except BaseException:
            if self.out is None:
                shutil.rmtree(folder.parent, ignore_errors=True)
            raise
        self._keep(folder, run, temporary=self.out is None)
        self._columns = [run.labels.index(word) for word in words]
        self.classes_ = classes
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities `[rows, classes]`, columns in the order of `classes_`."""
        check_is_fitted(self, "classes_")
        texts = texts_of(X)
        given = [tuple(text.values()) if len(text) > 1 else text["text"] for text in texts]
        return np.asarray(self.run_.predict_proba(given), dtype=np.float64)[:, self._columns]

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable label of each row, in the type `fit` was given."""
        check_is_fitted(self, "classes_")
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    @property
    def run_(self) -> Run:
        """The run behind a fitted estimator; after unpickling it is opened on first use."""
        from lightune.run import Run

        check_is_fitted(self, "classes_")
        if self._run is None:
            self._run = Run.open(self._folder)
        return self._run

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings, and of a fitted estimator its run folder's files as bytes."""
        state = dict(super().__getstate__())
        if "classes_" in state:
            folder = Path(state["_folder"])
            state["_files"] = {
                str(path.relative_to(folder)): path.read_bytes()
                for path in sorted(folder.rglob("*"))
                if path.is_file() and "checkpoints" not in path.relative_to(folder).parts
            }
        for name in ("_folder", "_remove", "_run"):
            state.pop(name, None)
        return state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        settings = dict(state)
        files = settings.pop("_files", None)
        super().__setstate__(settings)
        if files is None:
            return
        folder = Path(tempfile.mkdtemp(prefix="lightune-")) / "run"
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self._keep(folder, None, temporary=True)

    def _recipe(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        given = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "max_length": self.max_length,
        }
        seed = self.random_state
        if not isinstance(seed, int | np.integer):
            seed = check_random_state(seed).randint(LARGEST_SEED)
        settings = dict(self.train_settings or {})
        evaluation = {"every": None} | dict(settings.pop("evaluation", {}))
        task = {"name": "classification", "multi_label": False}
        return {
            "task": task | {name: name for name in rows[0]} | dict(self.task_settings or {}),
            "model": str(self.model),
            "method": {"name": self.method} | dict(self.method_settings or {}),
            "data": {"train": rows, "test": 0, "validation": 0},
            # one fit of many, often in a folder that goes: a proof would cost more than it
            "train": {"seed": int(seed), "evaluation": evaluation, "seal": False}
            | {key: value for key, value in given.items() if value is not None}
            | settings,
        }

    def _new_folder(self) -> Path:
        """Return where this fit's run folder goes; the folder itself does not exist yet."""
        if self.out is None:
            return Path(tempfile.mkdtemp(prefix="lightune-")) / "run"
        number = 1
        while (folder := Path(self.out) / f"fit-{number}").exists():
            number += 1
        return folder

    def _keep(self, folder: Path, run: Run | None, temporary: bool) -> None:
        """Own a run folder; a temporary one goes when the estimator does."""
        self._folder = folder
        self._run = run
        if temporary:
            self._remove = weakref.finalize(self, shutil.rmtree, folder.parent, True)

    def _forget(self) -> None:
        """Drop what an earlier fit learned, its temporary folder included."""
        remove = self.__dict__.pop("_remove", None)
        if remove:
            remove()
        for name in ("classes_", "_columns", "_folder", "_run"):
            self.__dict__.pop(name, None)


def texts_of(X: Any) -> list[dict[str, str]]:
    """Return the rows of `X` as `{"text": …}` or `{"text": …, "text_pair": …}`.

    A frame with columns named `text` and `text_pair` is read by these names; any other frame or
    array with two columns left to right.

    Raises:
        DataError: X is empty, has more columns, or a row is no text.
    """
    if isinstance(X, str):
        raise DataError("X is one text, not several", found=repr(X[:60]), mend="[text]")
    names = [str(name) for name in getattr(X, "columns", ())]
    if names:
        X = np.asarray(X, dtype=object)
        if {"text", "text_pair"} <= set(names):
            X = X[:, [names.index("text"), names.index("text_pair")]]
    if isinstance(X, np.ndarray) and X.ndim != 1 and X.shape[1:] not in {(1,), (2,)}:
        raise DataError(
            "X must have one column of texts, or two for pairs of texts",
            found=f"shape {X.shape}" + (f", columns {', '.join(names)}" if names else ""),
            mend="X[['text']], or pass the column alone",
        )
    rows = [_cells(row, number) for number, row in enumerate(X)]
    if not rows:
        raise DataError("X has no rows", found="0 texts", mend="pass at least one text")
    widths = {len(row) for row in rows}
    if len(widths) > 1:
        number = next(i for i, row in enumerate(rows) if len(row) != len(rows[0]))
        raise DataError(
            "X mixes single texts with pairs of texts",
            found=f"X[0] has {len(rows[0])}, X[{number}] has {len(rows[number])}",
            mend="give every row the same form",
        )
    return rows


def _cells(row: Any, number: int) -> dict[str, str]:
    cells = [row] if isinstance(row, str) else row
    known = isinstance(cells, list | tuple | np.ndarray) and len(cells) in (1, 2)
    if known and all(isinstance(cell, str) for cell in cells):
        return dict(zip(("text", "text_pair"), map(str, cells), strict=False))
    raise DataError(
        f"X[{number}] is no text",
        found=f"{type(row).__name__}: {repr(row)[:80]}",
        mend="replace missing values by '', numbers by str(number); pairs are (text, text)",
    )


def _labels_of(y: Any, count: int) -> np.ndarray:
    """Return `y` as a column of `count` class labels."""
    labels = column_or_1d(np.asarray(y))
    if len(labels) != count:
        raise DataError(
            "X and y have different lengths",
            found=f"{count} texts and {len(labels)} labels",
            mend="give one label for each text",
        )
    missing = [number for number, label in enumerate(labels) if label is None or label != label]
    if missing:
        raise DataError(
            f"y[{missing[0]}] is missing",
            found=f"{len(missing)} of {count} labels are missing",
            mend="leave these rows out",
        )
    check_classification_targets(labels)
    return labels


def _words(classes: np.ndarray) -> list[str]:
    """Return a distinct name for each class: the one the data layer gives it, else its number."""
    words = [label_of(label) for label in classes.tolist()]
    names = [word for word in words if isinstance(word, str)]
    plain = len(set(names)) == len(classes)
    return names if plain else [f"class {number}" for number in range(len(classes))]
