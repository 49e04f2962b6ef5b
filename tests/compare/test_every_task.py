"""Every task can be compared: trained and untrained contenders are told, and reported."""

import pytest
from small_runs import recipe

import lightune
from lightune.compare.contenders import UNTUNED
from lightune.compare.scales import FIRST, SCALES
from tests.tasks.learnable import LEARNABLE


@pytest.mark.parametrize("task", LEARNABLE)
def test_a_task_is_compared(tiny, tmp_path, task):
    what = LEARNABLE[task]
    found = lightune.compare(
        recipe(
            tiny(what.family), task={"name": task, **what.settings}, data=what.rows, max_steps=1
        ),
        out=tmp_path / "out",
        methods=["lora"],
        folds=2,
        silent=True,
    )
    names = {standing.contender for standing in found.findings.standings}
    assert "lora" in names
    if task in ("token_classification", "question_answering"):
        assert names == {"lora"}  # an output layer drawn at random says nothing of the model
    elif task not in ("classification", "regression"):
        assert names == {"lora", UNTUNED}
        untuned = found.findings.standing(UNTUNED)
        assert untuned.cost.trained_weights == 0
        assert untuned.cost.seconds == 0
    for standing in found.findings.standings:
        assert all(name in SCALES or name.startswith(FIRST) for name in standing.metrics)
        score, low, high = standing.score, standing.score.low, standing.score.high
        assert low is None or low <= score.value <= high
    assert found.findings.records == len(what.rows)
    assert (tmp_path / "out" / "report.html").stat().st_size > 1000
