"""Outcomes survive their file unchanged, and a foreign line is refused."""

import json
import math

import pytest

from lightune.compare.outcome import Outcome, from_row, to_row
from lightune.errors import RunError
from lightune.runs.files import json_line
from lightune.types import Prediction

COST = {
    "seconds": 1.25,
    "peak_memory": 10**9,
    "trained_weights": 1000,
    "adapter_bytes": 4096,
    "latency": 0.01,
    "throughput": 312.5,
}


@pytest.mark.parametrize(
    "predictions",
    [
        (Prediction(7, "pos", {"neg": 0.1, "pos": 0.9}),),
        (Prediction(0, ["a", "b"]), Prediction(3, [])),
        (Prediction(2, 0.1 + 0.2),),
        (Prediction(5, "轻调\n", {}, {"loss": 1.5, "tokens": 3}), Prediction(6, None)),
    ],
    ids=["label", "labels", "number", "text"],
)
def test_an_outcome_comes_back_equal(predictions):
    settings = {"method": {"name": "lora", "rank": 8}}
    outcome = Outcome("lora", 1, 2, 40, {"accuracy": 1 / 3}, predictions, **COST, settings=settings)
    assert from_row(json.loads(json_line(to_row(outcome)))) == outcome


def test_an_undefined_metric_is_left_out():
    outcome = Outcome("lora", 0, 0, 8, {"accuracy": 0.5, "auc": math.nan}, (), **COST)
    assert from_row(json.loads(json_line(to_row(outcome)))).metrics == {"accuracy": 0.5}


@pytest.mark.parametrize("change", [{"predictions": [[1, 2]]}, {"fold": None}], ids=str)
def test_a_line_that_is_no_outcome_is_refused(change):
    row = to_row(Outcome("lora", 0, 0, 8, {}, (), **COST))
    broken = {name: value for name, value in (row | change).items() if value is not None}
    with pytest.raises(RunError, match=r"trials\.jsonl"):
        from_row(broken)
