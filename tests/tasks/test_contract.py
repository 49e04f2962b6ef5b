"""What holds for every task that `learnable.py` has records of."""

import json

import pytest
import torch

from lightune.evaluate.predict import predict_logits
from lightune.predictor import pad_id
from lightune.run import Run
from lightune.tasks.base import tasks
from tests.small_runs import lines, small_run
from tests.tasks.learnable import LEARNABLE


@pytest.fixture(scope="module", params=LEARNABLE)
def learnt(request, tiny, tmp_path_factory):
    """The task's records learnt by heart by a tiny model."""
    case = LEARNABLE[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    file = folder / "ten.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in case.rows))
    settings = {"max_steps": 120, "batch_size": 10, "learning_rate": 4e-3} | case.train
    run = small_run(
        folder / "run",
        tiny(case.family),
        "full",
        task={"name": request.param, **case.settings},
        data={"train": str(file), "test": str(file), "overlap": "allow"},
        **settings,
    )
    return request.param, run, file


def test_records_are_of_tasks_that_exist():
    assert set(LEARNABLE) <= set(tasks())


def test_learns_ten_records_by_heart(learnt):
    name, run, _ = learnt
    for metric, least in LEARNABLE[name].perfect.items():
        assert run.metrics[metric]["value"] >= least, run.metrics


def test_a_saved_run_says_the_same(learnt):
    _, run, file = learnt
    again = Run.open(run.folder)
    assert again.predict(file) == run.predict(file)
    scores = again.evaluate(file)["metrics"]
    assert scores == run.metrics


def test_every_record_is_accounted_for(learnt):
    name, run, file = learnt
    kept = lines(run.folder / "predictions.jsonl")
    places = list(range(1, len(LEARNABLE[name].rows) + 1))
    assert [row["line"] for row in kept] == places
    assert [row["line"] for row in run.predict(file)] == places
    assert run.summary()["records"] == len(places)


def test_neither_batch_size_nor_order_matters(learnt):
    _, run, file = learnt
    predictor = run.predictor
    examples = predictor.encode(run.records(file))
    if predictor.task.generation(predictor.tokenizer, predictor.state, "predict"):
        examples = [e for e in examples if e.target is not None]
    model = predictor.prepared.model

    def logits(rows, batch_size):
        return predict_logits(
            model,
            predictor.task,
            rows,
            predictor.state,
            pad_id=pad_id(predictor.tokenizer),
            max_length=predictor.max_length,
            batch_size=batch_size,
        )

    every = logits(examples, 32)
    alone = torch.cat([_wide(logits([e], 1), every) for e in examples])
    backwards = _wide(logits(examples[::-1], 3), every).flip(0)
    assert every.dtype == torch.float32
    torch.testing.assert_close(alone, every, atol=1e-4, rtol=0)
    torch.testing.assert_close(backwards, every, atol=1e-4, rtol=0)


def _wide(logits, like):
    """Fill up to the width of `like`: where there are logits for each token, batches differ."""
    made = logits.new_zeros(len(logits), *like.shape[1:])
    made[tuple(slice(size) for size in logits.shape)] = logits
    return made
