"""Regression: a number for each text or pair of texts (similarity, rating, price …).

Why:        a score between 0 and 5 is no class: near misses count less than far ones.
State:      `{"mean", "std"}` of the training labels, which are learnt as standardised, so that
            neither their unit nor their size matters to the learning rate; `"pair"`, `"notes"`.
Errors:     `DataError` for labels that are no numbers, are missing, or all equal.
Not here:   the formulas of the metrics (`metrics/regression.py`).
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lightune.errors import DataError
from lightune.metrics import regression as metrics
from lightune.metrics.intervals import point
from lightune.tasks import base
from lightune.tasks.base import Resampling, Scores, Task
from lightune.tasks.finite import refuse_not_finite
from lightune.tasks.guesses import LABEL_COLUMNS, NUMBER_COLUMNS
from lightune.tasks.texts import TEXT_FIELDS, TextOrPair, are_pairs, encode_texts
from lightune.types import Batch, Example, HeadSpec, Prediction, Record


class Regression(TextOrPair, Task):
    """A number for each text or pair of texts."""

    name: ClassVar[str] = "regression"
    summary: ClassVar[str] = "estimate a number for texts or pairs of texts: similarity, rating"
    fields: ClassVar[tuple[base.Field, ...]] = (
        *TEXT_FIELDS,
        base.Field(
            "label", (*NUMBER_COLUMNS, *LABEL_COLUMNS), kind="number", needed_to_predict=False
        ),
    )
    deciding: ClassVar[str] = "r2"

    label: str | None = None
    """Column of the number; guessed from common names when left out."""

    def study(self, records: Sequence[Record]) -> dict[str, Any]:
        numbers = np.array(self.truth(records, {}))
        if np.ptp(numbers) == 0:
            raise DataError(
                f"{records[0].place.file}: at least two different numbers are needed to learn",
                found=f"{len(records)} records, all labelled {numbers[0]:g}",
                mend="add records with other numbers, or name the right column: task.label=COLUMN",
            )
        return {
            "mean": float(numbers.mean()),
            "std": float(numbers.std()),
            "pair": are_pairs(records),
            "notes": [],
        }

    def head(self, state: dict[str, Any]) -> HeadSpec:
        return HeadSpec("regression", ("number",))

    def encode(
        self, records: Sequence[Record], tokenizer: Any, state: dict[str, Any], max_length: int
    ) -> list[Example]:
        encoded = encode_texts(records, tokenizer, state["pair"], max_length)
        return [
            Example(i, inputs, record.values.get("label"), dropped)
            for i, ((inputs, dropped), record) in enumerate(zip(encoded, records, strict=True))
        ]

    def targets(self, examples: Sequence[Example], state: dict[str, Any], width: int) -> Tensor:
        """Return the standardised numbers `[batch]`."""
        missing = [e.index for e in examples if e.target is None]
        if missing:
            raise DataError(f"record {missing[0]} of the split has no label", mend="add its label")
        numbers = torch.tensor([e.target for e in examples], dtype=torch.float64)
        return ((numbers - state["mean"]) / state["std"]).float()

    def loss(self, outputs: Any, batch: Batch, state: dict[str, Any]) -> Tensor:
        """Return the mean squared error of the standardised numbers."""
        if batch.targets is None:
            raise DataError("a batch without labels has no loss", mend="add the label column")
        return F.mse_loss(outputs.logits.float().squeeze(1), batch.targets)

    def logits(self, outputs: Any, batch: Batch) -> Tensor:
        return outputs.logits.detach().float()

    def decode(
        self, logits: Tensor, examples: Sequence[Example], state: dict[str, Any]
    ) -> list[Prediction]:
        refuse_not_finite(logits, examples)
        numbers = logits.to("cpu", torch.float64)[:, 0] * state["std"] + state["mean"]
        return [
            Prediction(example.index, number)
            for example, number in zip(examples, numbers.tolist(), strict=True)
        ]

    def truth(self, records: Sequence[Record], state: dict[str, Any]) -> list[Any]:
        """Return every record's number.

        Raises:
            DataError: a record has none.
        """
        for record in records:
            if record.values.get("label") is None:
                raise DataError(
                    f"{record.place}: the label is missing", mend="fill the cell, or remove the row"
                )
        return [record.values["label"] for record in records]

    def compare(
        self,
        predictions: Sequence[Prediction],
        records: Sequence[Record],
        state: dict[str, Any],
        how: Resampling,
    ) -> Scores:
        truth = np.array(self.truth(records, state))
        guess = np.array([p.value for p in predictions])
        scores, tables = how.scores(metrics.scores(truth, guess), len(truth), classes=4)
        if "pearson" not in scores:
            tables["notes"].append(
                "the correlations are undefined: all of the numbers are equal, or all predicted"
            )
        constant = point(metrics.scores(truth, np.full(len(truth), state["mean"])), len(truth))
        return Scores(scores, tables, {"training_mean": constant})
