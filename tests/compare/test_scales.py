"""Values that metrics can have: intervals hold their score, only shares are said in per cent."""

import numpy as np
import pytest

from lightune.compare.judge import judge
from lightune.compare.outcome import Outcome
from lightune.compare.scales import PER_TOKEN, SCALES, check_tokenizers, scale_of
from lightune.compare.wording import Words
from lightune.errors import ConfigError
from lightune.evaluate.report import LOWER_IS_BETTER
from lightune.evaluate.report import SCALES as HIGHEST
from lightune.tasks.base import tasks
from lightune.types import Place, Prediction, Record


def texts(losses):
    """Return outcomes of language models with these losses per token."""
    rng = np.random.default_rng(0)
    rows = [Record({"text": f"text {i}"}, Place("f", i)) for i in range(60)]
    hard = rng.normal(scale=0.3, size=60)
    task = tasks()["language_modeling"]()
    made = []
    for name, loss in losses.items():
        for fold in range(5):
            said = tuple(
                Prediction(i, None, {}, {"loss": loss + hard[i] + rng.normal(scale=0.05),
                                         "tokens": 20.0})
                for i in range(fold, 60, 5)
            )  # fmt: skip
            settings = {"kind": "method"}
            made.append(Outcome(name, fold, 0, 48, {}, said, 1.0, 1, 1, 1, 0.1, 1.0, settings))
    return made, task, task.learn(rows), rows


@pytest.mark.parametrize("metric", ["log_likelihood", "loss", "perplexity", "bits_per_byte"])
def test_metrics_of_texts_are_said_as_they_are(metric):
    found = judge(*texts({"lora": 3.2, "head": 3.8}), metric=metric)
    assert found.crowned == "lora"
    assert found.scale is None
    for standing in found.standings:
        score = standing.score
        assert score.low < score.value < score.high
    assert found.margin == pytest.approx(abs(found.standings[0].score.value) / 100)
    said = " ".join([*Words(found).answer(), *(Words(found).pair(p) for p in found.pairs)])
    assert "%" not in said.replace("95 %", "")
    assert "point" not in said


def test_bounds_are_those_of_the_metrics():
    for name, scale in SCALES.items():
        assert (scale.highest is None) or name == "log_likelihood" or name in (
            "hamming_loss", "calibration_error") or name not in LOWER_IS_BETTER  # fmt: skip
        assert not scale.per_cent or (scale.lowest, scale.highest, scale.points) == (0, 1, 1)
    assert {name: scale_of(name).highest for name in HIGHEST} == HIGHEST
    assert scale_of("pass_at_5").per_cent
    assert scale_of("of a plug-in").cut(-7.0, 9.0) == (-7.0, 9.0)
    assert scale_of("pearson").cut(-1.2, 1.1) == (-1.0, 1.0)
    assert scale_of("pearson").widest == 2


@pytest.mark.parametrize("metric", PER_TOKEN)
def test_two_tokenizers_are_not_compared_by_token(metric):
    check_tokenizers(metric, {"a": "1", "b": "1"})
    with pytest.raises(ConfigError, match="split texts in different ways") as caught:
        check_tokenizers(metric, {"a": "1", "b": "2"})
    assert "bits_per_byte" in caught.value.mend
    check_tokenizers("bits_per_byte", {"a": "1", "b": "2"})
