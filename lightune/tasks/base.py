"""What a task is: which columns it reads, how a record becomes token ids, what is scored.

To add one, write `tasks/<name>.py` (one `Task` subclass) and `tests/tasks/test_<name>.py`.
Nothing else is edited: this folder is scanned, and installed packages add theirs by the entry
point `lightune.tasks`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, final

from torch import Tensor, nn

from lightune import registry
from lightune.errors import DataError
from lightune.metrics.intervals import Statistic, bootstrap, resamples_for
from lightune.settings import Settings
from lightune.types import (
    Batch,
    Example,
    Generation,
    HeadSpec,
    Prediction,
    Purpose,
    Record,
    Score,
)


@dataclass(frozen=True, slots=True)
class Field:
    """One thing a task reads from a row.

    Attributes:
        name: the record's key and the recipe's key (`task.text: COLUMN`).
        guesses: column names taken without asking, best first, compared case-insensitively.
        kind: `text` (several columns may be joined), or `label`.
        needed_to_train: absence stops training.
        needed_to_predict: absence stops prediction.
    """

    name: str
    guesses: tuple[str, ...]
    kind: str = "text"
    needed_to_train: bool = True
    needed_to_predict: bool = True


@dataclass(frozen=True, slots=True)
class Scores:
    """Everything `evaluate` says of one set of predictions.

    Attributes:
        metrics: name -> score; the first is the one users see first.
        tables: larger results by name, JSON-ready (`per_class`, `confusion_matrix` …).
        baselines: name of a trivial predictor -> its metrics, for comparison.
        measures: what had to be tried out to score each prediction, by name. Kept with it, it is
            not tried again; empty where nothing was.
    """

    metrics: dict[str, Score]
    tables: dict[str, Any]
    baselines: dict[str, dict[str, float]]
    measures: list[dict[str, float]] = field(default_factory=list)

    def kept_with(self, predictions: Sequence[Prediction]) -> list[Prediction]:
        """Return the predictions that were scored, with what was found of each."""
        if not self.measures:
            return list(predictions)
        pairs = zip(predictions, self.measures, strict=True)
        return [replace(p, measures={**p.measures, **found}) for p, found in pairs]


@dataclass(frozen=True, slots=True)
class Resampling:
    """How the intervals of some scores are drawn.

    Attributes:
        seed: of the resamples.
        intervals: False leaves the intervals out, which cost most of the time.
    """

    seed: int = 0
    intervals: bool = True

    def scores(
        self, statistic: Statistic, records: int, classes: int = 1, shares: Sequence[str] = ()
    ) -> tuple[dict[str, Score], dict[str, Any]]:
        """Return every metric of `statistic` with its interval, and the tables that every task
        has: `records`, `bootstrap` and `notes`.

        Args:
            classes: how many times the work of one metric a resample is.
            shares: metrics that are a share of the records.
        """
        resamples = resamples_for(records, classes) if self.intervals else 0
        result = bootstrap(statistic, records, resamples=resamples, seed=self.seed, shares=shares)
        tables = {
            "records": records,
            "bootstrap": {"level": 0.95, "resamples": result.resamples, "seed": self.seed},
            "notes": list(result.notes),
        }
        return dict(result.scores), tables


class Task(Settings, ABC):
    """The settings of one task and its behaviour. Stateless: what training data taught it (the
    label names …) is a `state`, a JSON-ready dict made by `learn` and kept in the adapter's
    manifest. Subclasses are final."""

    name: ClassVar[str]
    """The word used in recipes and on the command line."""
    summary: ClassVar[str]
    """One line for `lightune tasks`."""
    fields: ClassVar[tuple[Field, ...]]
    """What it reads from a row."""
    deciding: ClassVar[str]
    """The metric that picks the best checkpoint; higher is better."""
    default_model: ClassVar[str] = "minilm"
    """The base model where the recipe names none."""
    bare_files: ClassVar[Literal["text", "conll"] | None] = None
    """What files without columns (`.txt`) are read as, unless `data.format` says how."""

    def columns(self) -> dict[str, str | list[str] | None]:
        """Return `{field: the column or columns the user named}`; None where they are guessed."""
        return {field.name: getattr(self, field.name) for field in self.fields}

    def several_labels(self, state: dict[str, Any] | None = None) -> bool | None:
        """Return whether one label cell may hold several labels, such as `a|b`.

        Args:
            state: what training taught, where it is over; then the answer is never None.

        Returns:
            None where the training data is to decide.
        """
        return False

    def needed_after(self, state: dict[str, Any]) -> tuple[str, ...]:
        """Return the fields that a model trained so cannot do without, beside those that are
        `needed_to_predict` of every model."""
        return ()

    def check(self, records: Sequence[Record]) -> None:
        """Look at all training records once, before any is held out or left out.

        Raises:
            DataError: a column is plainly not what it was taken for.
        """

    @final
    def learn(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return what the training records teach (label names and counts …), JSON-ready.

        Raises:
            DataError: there are none, or they cannot train this task (one label only, …).
        """
        if not records:
            raise DataError(
                "there are no training records", found="0 records", mend="name a file with rows"
            )
        return self.study(records)

    def study(self, records: Sequence[Record]) -> dict[str, Any]:
        """Do the work of `learn`, with at least one record; where nothing is learnt, leave it."""
        return {"notes": []}

    @abstractmethod
    def head(self, state: dict[str, Any]) -> HeadSpec:
        """Return the output layer the model needs."""

    def fit_model(self, config: Any, state: dict[str, Any]) -> dict[str, Any]:
        """Return `state` with what the base model's configuration adds to it.

        Called once its kind is known, in training only, before `fit_tokenizer`.

        Raises:
            ModelError: the model is of a kind that this task has no use for.
        """
        return state

    def fit_tokenizer(self, tokenizer: Any, state: dict[str, Any]) -> dict[str, Any]:
        """Return `state` with what the base model's tokenizer adds to it (a chat template …).

        Called once the base is loaded, in training and again when a run is opened; what `state`
        already has is then put on the tokenizer, so that texts become the same tokens.

        Raises:
            ModelError: the tokenizer lacks what this task needs.
        """
        return state

    @abstractmethod
    def encode(
        self, records: Sequence[Record], tokenizer: Any, state: dict[str, Any], max_length: int
    ) -> list[Example]:
        """Tokenise; one example per record, in order.

        Raises:
            DataError: a label that training did not know (file:line named).
        """

    @abstractmethod
    def targets(self, examples: Sequence[Example], state: dict[str, Any], width: int) -> Tensor:
        """Return the targets of one batch as a tensor; `width` is the padded length."""

    def forward(self, model: nn.Module, batch: Batch, state: dict[str, Any]) -> Any:
        """Run the model; what is returned goes to `loss` and `logits` as `outputs`.

        A task whose loss needs part of the output only computes no more than that here.
        """
        return model(**batch.inputs)

    @abstractmethod
    def loss(self, outputs: Any, batch: Batch, state: dict[str, Any]) -> Tensor:
        """Return the mean loss of a batch as a float32 scalar. `outputs` is that of `forward`."""

    @abstractmethod
    def logits(self, outputs: Any, batch: Batch) -> Tensor:
        """Return what `decode` reads, `[batch, …]` in float32, detached from the graph."""

    @abstractmethod
    def decode(
        self, logits: Tensor, examples: Sequence[Example], state: dict[str, Any]
    ) -> list[Prediction]:
        """Turn the logits of some examples into one prediction for each of their records.

        The examples of one record stand beside each other; the predictions are in their order.
        """

    def generation(
        self, tokenizer: Any, state: dict[str, Any], purpose: Purpose
    ) -> Generation | None:
        """Return how an answer is written after each `Example.prompt`; None where none is."""
        return None

    def read(self, text: str) -> str:
        """Return an answer from the text that was written, without what ended it."""
        return text

    @abstractmethod
    def truth(self, records: Sequence[Record], state: dict[str, Any]) -> list[Any]:
        """Return what the records say, in the form of `Prediction.value`."""

    def check_test(self, records: Sequence[Record], state: dict[str, Any]) -> None:
        """Look at records that predictions are to be scored by, before any is made.

        Raises:
            DataError: one does not say what was to be said.
        """
        self.truth(records, state)

    @final
    def score(
        self,
        predictions: Sequence[Prediction],
        records: Sequence[Record],
        state: dict[str, Any],
        seed: int = 0,
        intervals: bool = True,
    ) -> Scores:
        """Compare predictions with what the records say. `predictions[i].index` finds its record.

        Args:
            seed: of the intervals' resamples.
            intervals: False leaves the intervals out, which cost most of the time.

        Raises:
            DataError: there is nothing to score, or a record does not say what was to be said.
        """
        if not predictions:
            raise DataError("there are no records to score", mend="name a file with labelled rows")
        rows = [records[p.index] for p in predictions]
        return self.compare(predictions, rows, state, Resampling(seed, intervals))

    @abstractmethod
    def compare(
        self,
        predictions: Sequence[Prediction],
        records: Sequence[Record],
        state: dict[str, Any],
        how: Resampling,
    ) -> Scores:
        """Score predictions, at least one; `records[i]` is that of `predictions[i]`."""


BASE = Task


def tasks() -> dict[str, type[Task]]:
    """Return every task by name: this folder's, then those of installed packages."""
    return registry.scan("lightune.tasks")
