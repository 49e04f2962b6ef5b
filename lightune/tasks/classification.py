"""Classification of texts or pairs of texts: one label each, or several at once.

Why:        the most asked-for task. Encoders and decoders alike get Transformers' classification
            head, whose output `logits` is `[batch, classes]`.
State:      `{"labels": names in the order of the logits, "counts": training records per label,
            "multi_label": bool, "class_weights": one per label or null, "pair": whether records
            are pairs of texts, "notes": what was decided from the data}`.
Invariants: classes are in natural order (`labels.py`). A single-label prediction is exactly one
            label: the first of the highest logits. What truncation drops is counted exactly.
Errors:     `DataError` for labels that cannot be learnt, are missing, or were not trained.
Not here:   the formulas of the metrics (`metrics/classification.py`), padding (`engine/`).
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import BeforeValidator, Field
from torch import Tensor
from torch.nn import functional as F

from lightune.errors import ConfigError, DataError, ModelError, nearest
from lightune.metrics import classification as metrics
from lightune.metrics.intervals import point
from lightune.tasks import base, labels
from lightune.tasks.base import Resampling, Scores, Task
from lightune.tasks.finite import refuse_not_finite
from lightune.tasks.guesses import LABEL_COLUMNS
from lightune.tasks.texts import TEXT_FIELDS, TextOrPair, are_pairs, encode_texts
from lightune.types import Batch, Example, HeadSpec, Prediction, Record


def _weights(value: Any) -> Any:
    """Take YAML's numbers and booleans as label names, and refuse weights that are none."""
    if value is None or value == "balanced":
        return value
    if not isinstance(value, dict) or not value:
        raise ValueError("not a set of class weights | class_weights: balanced   (or {label: 2.0})")
    for name, weight in value.items():
        number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not number or not 0 < weight < math.inf:
            raise ValueError(f"the weight of {name!r} is no number above 0 | {{{name}: 1.0}}")
    return {
        str(name).lower() if isinstance(name, bool) else str(name): float(weight)
        for name, weight in value.items()
    }


class Classification(TextOrPair, Task):
    """One label per text, or several."""

    name: ClassVar[str] = "classification"
    summary: ClassVar[str] = "label texts or pairs of texts: binary, multi-class, multi-label"
    fields: ClassVar[tuple[base.Field, ...]] = (
        *TEXT_FIELDS,
        base.Field("label", LABEL_COLUMNS, kind="label", needed_to_predict=False),
    )
    deciding: ClassVar[str] = "macro_f1"

    label: str | list[str] | None = None
    """Column of the label, or several columns of 0 and 1, one for each of several labels; guessed
    from common names when left out."""
    multi_label: bool | None = None
    """Several labels may hold at once (lists, or `a|b`). When left out the data decides: true if
    more than half of the rows are so written."""
    class_weights: Annotated[str | dict[str, float] | None, BeforeValidator(_weights)] = None
    """How much an error on each class counts: `balanced` (by the inverse of its frequency), or
    {label: weight}, 1 where not named; only their ratios matter. In multi-label data the weight
    is that of the records that carry the label."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target that is spread evenly over all classes (Szegedy et al. 2016)."""
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Multi-label only: a label is predicted from this probability on."""

    def several_labels(self, state: dict[str, Any] | None = None) -> bool | None:
        return self.multi_label if state is None else bool(state["multi_label"])

    def check(self, records: Sequence[Record]) -> None:
        multi, _ = self._multi(records)
        if not multi:
            labels.refuse_free_text(Counter(map(labels.single_name, records)), records)

    def study(self, records: Sequence[Record]) -> dict[str, Any]:
        multi, note = self._multi(records)
        counts: Counter[str] = Counter()
        for record in records:
            counts.update(self._names(record, multi))
        order = labels.natural_order(counts)
        if len(order) < 2 and not (multi and order and counts[order[0]] < len(records)):
            raise DataError(
                f"{records[0].place.file}: at least two different labels are needed to learn",
                found=f"{len(records)} records, all labelled {order[0]!r}" if order else "no label",
                mend="add records with another label, or name the right column: task.label=COLUMN",
            )
        return {
            "labels": order,
            "counts": [counts[name] for name in order],
            "multi_label": multi,
            "class_weights": self._class_weights(order, counts, len(records), multi),
            "pair": are_pairs(records),
            "notes": [note] if note else [],
        }

    def head(self, state: dict[str, Any]) -> HeadSpec:
        return HeadSpec("sequence_classification", tuple(state["labels"]), state["multi_label"])

    def encode(
        self, records: Sequence[Record], tokenizer: Any, state: dict[str, Any], max_length: int
    ) -> list[Example]:
        targets = self._class_ids(records, state)
        pair = state.get("pair", any("text_pair" in record.values for record in records))
        encoded = encode_texts(records, tokenizer, pair, max_length)
        return [
            Example(i, inputs, target, dropped)
            for i, ((inputs, dropped), target) in enumerate(zip(encoded, targets, strict=True))
        ]

    def targets(self, examples: Sequence[Example], state: dict[str, Any], width: int) -> Tensor:
        missing = [e.index for e in examples if e.target is None]
        if missing:
            raise DataError(f"record {missing[0]} of the split has no label", mend="add its label")
        if not state["multi_label"]:
            return torch.tensor([e.target for e in examples], dtype=torch.long)
        hot = torch.zeros(len(examples), len(state["labels"]))
        for row, example in enumerate(examples):
            hot[row, example.target] = 1.0
        return hot

    def loss(self, outputs: Any, batch: Batch, state: dict[str, Any]) -> Tensor:
        """Return cross entropy, or binary cross entropy for multi-label, in float32.

        With class weights the sum is still divided by the number of records, not by the sum of
        their weights as torch does: with a small batch that would cancel the weights.
        """
        if batch.targets is None:
            raise DataError("a batch without labels has no loss", mend="add the label column")
        logits, targets = outputs.logits.float(), batch.targets
        weights = state["class_weights"]
        weight = None if weights is None else torch.tensor(weights, device=logits.device)
        if not state["multi_label"]:
            loss = F.cross_entropy(
                logits, targets, weight, reduction="sum", label_smoothing=self.label_smoothing
            )
            return loss / len(targets)
        soft = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, soft, pos_weight=weight)

    def logits(self, outputs: Any, batch: Batch) -> Tensor:
        return outputs.logits.detach().float()

    def decode(
        self, logits: Tensor, examples: Sequence[Example], state: dict[str, Any]
    ) -> list[Prediction]:
        names = state["labels"]
        if logits.ndim != 2 or logits.shape[1] != len(names):
            raise ModelError(
                "the model's output does not fit the labels",
                found=f"logits {list(logits.shape)} for {len(names)} labels",
                mend="use the model and the adapter that were trained together",
            )
        values = logits.detach().to("cpu", torch.float64)
        refuse_not_finite(values, examples)
        multi = state["multi_label"]
        shares = (torch.sigmoid(values) if multi else torch.softmax(values, dim=1)).numpy()
        # numpy's argmax takes the first of equals by contract, torch's does not promise which
        best = values.numpy().argmax(axis=1) if len(values) else []
        predictions = []
        for row, example in enumerate(examples):
            scores = dict(zip(names, shares[row].tolist(), strict=True))
            value: Any = (
                [name for name, share in scores.items() if share >= self.threshold]
                if multi
                else names[best[row]]
            )
            predictions.append(Prediction(example.index, value, scores))
        return predictions

    def truth(self, records: Sequence[Record], state: dict[str, Any]) -> list[Any]:
        """Return the label, or the list of labels, of every record; for users' own metrics.

        Raises:
            DataError: a record has no label, or one that training did not know.
        """
        names, multi = state["labels"], state["multi_label"]
        ids = self._class_ids(records, state, required=True)
        return [[names[c] for c in entry] if multi else names[entry] for entry in ids]

    def compare(
        self,
        predictions: Sequence[Prediction],
        records: Sequence[Record],
        state: dict[str, Any],
        how: Resampling,
    ) -> Scores:
        names = state["labels"]
        truth = self._class_ids(records, state, required=True)
        shares = None
        if all(p.scores for p in predictions):
            shares = np.array([[p.scores[name] for name in names] for p in predictions])
        number = {name: i for i, name in enumerate(names)}
        # ties between classes go to the first one, as everywhere
        majority = int(np.argmax(state["counts"]))
        n, classes = len(records), len(names)
        if state["multi_label"]:
            true = _hot(truth, classes)
            guess = _hot([[number[v] for v in p.value] for p in predictions], classes)
            if not true.any():
                raise DataError(
                    "no record to be scored has any label",
                    found=f"{n} records without a label",
                    mend="score records that have labels",
                )
            statistic = metrics.multi_label(true, guess, shares)
            constant = metrics.multi_label(true, _hot([[majority]] * n, classes), None)
            hit, support, guessed = (true & guess).sum(0), true.sum(0), guess.sum(0)
            tables: dict[str, Any] = {}
        else:
            true, guess = np.array(truth), np.array([number[p.value] for p in predictions])
            statistic = metrics.single_label(true, guess, shares, classes)
            constant = metrics.single_label(true, np.full(n, majority), None, classes)
            matrix = metrics.confusion_matrix(true, guess, classes)
            hit, support, guessed = np.diag(matrix), matrix.sum(1), matrix.sum(0)
            tables = {"confusion_matrix": {"labels": list(names), "counts": matrix.tolist()}}
        scores, said = how.scores(
            statistic, n, classes if shares is not None else 1, ("accuracy", "subset_accuracy")
        )
        absent = [name for name, count in zip(names, support, strict=True) if not count]
        if absent:
            shown = ", ".join(absent[:10]) + (" …" if len(absent) > 10 else "")
            said["notes"].append(
                f"no record has the label: {shown}; macro averages leave out what it lacks"
            )
        per_class = metrics.per_class(hit, support, guessed)
        tables["per_class"] = [
            {"label": name, **row} for name, row in zip(names, per_class, strict=True)
        ]
        return Scores(scores, tables | said, {"majority_class": point(constant, n)})

    def _multi(self, records: Sequence[Record]) -> tuple[bool, str]:
        """Return whether several labels may hold at once, and the note where the data decides."""
        if self.multi_label is not None:
            return self.multi_label, ""
        return labels.looks_multi_label(records)

    def _names(self, record: Record, multi: bool) -> list[str]:
        return labels.several_names(record) if multi else [labels.single_name(record)]

    def _class_weights(
        self, order: list[str], counts: Counter[str], records: int, multi: bool
    ) -> list[float] | None:
        """Return one weight per class, or None.

        Single-label weights are scaled to a mean of 1 over the training records, so that they do
        not act as another learning rate; `balanced` is then scikit-learn's n / (classes * count).
        Multi-label `balanced` makes a label's positives weigh as much as its negatives.
        """
        if self.class_weights is None:
            return None
        if isinstance(self.class_weights, dict):
            for name in self.class_weights:
                if name not in counts:
                    near = nearest(name, order) or order[0]
                    raise ConfigError(
                        f"task.class_weights: no training record has the label {name!r}",
                        found=f"labels: {', '.join(order[:20])}",
                        mend=f"class_weights: {{{near}: {self.class_weights[name]}}}",
                    )
            weights = [float(self.class_weights.get(name, 1.0)) for name in order]
        elif multi:
            return [max(records - counts[name], 1) / counts[name] for name in order]
        else:
            weights = [1 / counts[name] for name in order]
        if multi:
            return weights
        mean = sum(w * counts[n] for w, n in zip(weights, order, strict=True)) / records
        return [weight / mean for weight in weights]

    def _class_ids(
        self, records: Sequence[Record], state: dict[str, Any], required: bool = False
    ) -> list[Any]:
        """Return the class number of every record (multi-label: their sorted list).

        None for a record without a label, unless `required`.
        """
        multi = state["multi_label"]
        number = {name: i for i, name in enumerate(state["labels"])}
        found: list[Any] = []
        unknown: list[tuple[str, Record]] = []
        for record in records:
            value = record.values.get("label")
            if not required and (value is None if multi else labels.is_missing(value)):
                found.append(None)
                continue
            names = self._names(record, multi)
            strangers = [name for name in names if name not in number]
            if strangers:
                unknown.append((strangers[0], record))
                continue
            found.append(sorted(number[name] for name in names) if multi else number[names[0]])
        if unknown:
            raise labels.unknown_label(*unknown[0], state["labels"], len(unknown) - 1)
        return found


def _hot(rows: Sequence[Sequence[int]], classes: int) -> np.ndarray:
    """Return `[records, classes]` booleans of lists of class numbers."""
    hot = np.zeros((len(rows), classes), dtype=bool)
    for row, ids in enumerate(rows):
        hot[row, ids] = True
    return hot
