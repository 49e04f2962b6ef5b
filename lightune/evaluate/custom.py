"""Metrics that users bring from Python, put beside the task's own.

    def cost(truth, predicted): return sum(t != p for t, p in zip(truth, predicted)) * 2.5
    scores = add_metrics(scores, {"cost": cost}, truth, predicted)

An interval is computed only when asked for: a user's function may take seconds, and a bootstrap
calls it once per resample. What the function raises is left to rise: it is the user's own code.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lightune.errors import ConfigError, DataError
from lightune.tasks.base import Scores
from lightune.types import Score

Metric = Callable[[list[Any], list[Any]], float]
"""`(truth, predicted) -> number`; both are labels, or lists of labels, in one order."""


def add_metrics(
    scores: Scores,
    extra_metrics: Mapping[str, Metric],
    truth: Sequence[Any],
    predicted: Sequence[Any],
    resamples: int = 0,
    seed: int = 0,
) -> Scores:
    """Return `scores` with the user's metrics after the task's own.

    Args:
        extra_metrics: name -> function.
        truth: what the records say; classification has it by `task.truth(records, state)`.
        predicted: `prediction.value` of the same records, in the same order.
        resamples: number of bootstrap resamples for a 95 % interval; 0 computes none.
        seed: of the resamples.

    Raises:
        ConfigError: a name is taken, or a function returns no finite number.
        DataError: truth and predictions differ in number.
    """
    if len(truth) != len(predicted):
        raise DataError(
            "a metric needs one prediction per record",
            found=f"{len(truth)} records and {len(predicted)} predictions",
            mend="pass the predictions of exactly these records, in their order",
        )
    metrics = dict(scores.metrics)
    for name, metric in extra_metrics.items():
        if name in metrics:
            raise ConfigError(
                f"a metric is named {name!r} already",
                found=f"metrics: {', '.join(metrics)}",
                mend=f"give yours another name, such as my_{name}",
            )
        value = _number(name, metric(list(truth), list(predicted)))
        low, high = _interval(metric, truth, predicted, resamples, seed)
        if low is not None and high is not None:
            low, high = min(low, value), max(high, value)
        metrics[name] = Score(value, low, high)
    return replace(scores, metrics=metrics)


def _interval(
    metric: Metric, truth: Sequence[Any], predicted: Sequence[Any], resamples: int, seed: int
) -> tuple[float | None, float | None]:
    """Return percentiles over resamples for which the metric is a number; None if it seldom is."""
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(resamples):
        rows = rng.integers(0, len(truth), size=len(truth)).tolist()
        draws.append(float(metric([truth[i] for i in rows], [predicted[i] for i in rows])))
    defined = [value for value in draws if math.isfinite(value)]
    if not defined or 2 * len(defined) < resamples:
        return None, None
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)


def _number(name: str, value: Any) -> float:
    number = isinstance(value, (int, float, np.number))
    if not number or not math.isfinite(value):
        raise ConfigError(
            f"the metric {name!r} returned no number",
            found=repr(value),
            mend="return a finite float from (truth, predicted)",
        )
    return float(value)
