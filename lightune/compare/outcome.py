"""What one trial left: scores, predictions and cost. The word between running and judging.

Why:        trials may run anywhere and at any time (now, resumed, on another machine); what is
            judged is this alone.
File:       `trials.jsonl` has one line for each outcome; reading gives back an equal outcome.
Invariants: `metrics` are those of the trial's own test records, none of which it was trained on.
            A metric that is undefined there is absent. What is measured by a clock or by the
            system (`seconds`, `peak_memory`, `latency`, `throughput`) differs between two runs;
            all else is equal.
Not here:   running trials (`trials.py`), comparing their outcomes (`judge.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lightune.errors import RunError
from lightune.types import Prediction

MEASURED = ("seconds", "peak_memory", "latency", "throughput")
"""Fields that a clock or the system gives; they differ from run to run."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One trial: one contender, trained on the training part of one fold with one seed.

    Attributes:
        contender: display name: `lora`, `lora rank=2`, `majority class` …
        fold: from 0.
        seed: of the contender's random choices.
        size: training records used.
        metrics: name -> value on the fold's test records.
        predictions: of the fold's test records, in their order; `index` is the position in all
            records.
        seconds: to train, evaluations left out.
        peak_memory: most bytes that this process held while training.
        trained_weights: numbers that were trained.
        adapter_bytes: of the file that holds them.
        latency: seconds to predict one record alone, the median of several.
        throughput: records predicted per second.
        settings: what the contender is made of, JSON-ready: `kind` (`method` or `baseline`),
            `model` and `method` (None where it has none), `grid` (`{"method.rank": 2}`: the values
            by which it differs from its neighbours), `tuned` (the values chosen inside the
            training part), and `size` as it was asked for (`all`, `32`, `8/class`), since the
            training parts of two folds may differ by a record.
    """

    contender: str
    fold: int
    seed: int
    size: int
    metrics: dict[str, float]
    predictions: tuple[Prediction, ...]
    seconds: float
    peak_memory: int
    trained_weights: int
    adapter_bytes: int
    latency: float
    throughput: float
    settings: dict[str, Any] = field(default_factory=dict)


def to_row(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as one JSON-ready line of `trials.jsonl`."""
    row = {name: getattr(outcome, name) for name in Outcome.__slots__}
    row["metrics"] = {k: v for k, v in outcome.metrics.items() if math.isfinite(v)}
    row["predictions"] = [_packed(prediction) for prediction in outcome.predictions]
    return row


def from_row(row: Mapping[str, Any]) -> Outcome:
    """Return the outcome that `to_row` gave.

    Raises:
        RunError: the line is not one of an outcome.
    """
    try:
        values = {name: row[name] for name in Outcome.__slots__}
        values["predictions"] = tuple(map(_unpacked, row["predictions"]))
        return Outcome(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            "a line of trials.jsonl is not one of a trial",
            found=f"{type(error).__name__}: {error}",
            mend="delete that line: the trial then runs again",
        ) from None


def _packed(prediction: Prediction) -> list[Any]:
    measures = {k: v for k, v in prediction.measures.items() if math.isfinite(v)}
    return [prediction.index, prediction.value, dict(prediction.scores), measures]


def _unpacked(parts: list[Any]) -> Prediction:
    index, value, scores, measures = parts
    return Prediction(index, value, scores, measures)
