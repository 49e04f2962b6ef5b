"""`batch_size: auto`: what is chosen for which memory, and that the result stays the same."""

from itertools import chain

import pytest
import torch

from lightune.errors import ResourceError
from lightune.tasks.classification import Classification
from lightune.train import batch_fit
from lightune.train.batch_fit import fitting_rows, with_fitting_batch
from lightune.train.loop import epoch_steps
from lightune.train.spec import TrainSpec
from tests.train.training import STATE, Training, collate_for, examples_of, spec_of, tiny


@pytest.mark.parametrize(
    ("room", "rows", "expected"),
    [
        (1e9, 16, 16),
        (100 + 16 * 10, 16, 8),  # all but the margin
        (1.1 * (100 + 16 * 10), 16, 16),
        (1.1 * (100 + 4 * 10), 16, 4),
        (1.1 * (100 + 4 * 10) - 1, 16, 2),
        (1.1 * 110, 16, 1),
        (1.1 * 110 - 1, 16, 0),
        (1e9, 1, 1),
        (1.1 * (100 + 6 * 10), 12, 6),
        (1.1 * (100 + 3 * 10), 12, 3),
    ],
)
def test_the_largest_part_that_fits(room, rows, expected):
    tried = []

    def measure(at_once):
        tried.append(at_once)
        return 100 + 10 * at_once

    assert fitting_rows(measure, rows, room) == expected
    assert max(tried) <= max(2, expected), "nothing is tried that would not fit"


def test_what_takes_more_than_expected_is_halved_again():
    assert fitting_rows(lambda rows: 100 + rows**2, 16, 1.1 * (100 + 20)) == 4


def fitted(room_mb, count=40, **values):
    task, model = Classification(), tiny()
    spec = TrainSpec.model_validate({"batch_size": "auto", **values})
    return with_fitting_batch(
        model,
        task,
        STATE,
        examples_of(count),
        spec=spec,
        trainable=dict(model.named_parameters()),
        collate=collate_for(task),
        room_mb=room_mb,
    )


def test_with_memory_enough_nothing_is_split():
    spec = fitted(1e6)
    assert (spec.batch_size, spec.engine.micro_batch) == (16, None)
    assert fitted(None).batch_size == 16, "the system is asked where nothing is forced"


def test_with_little_memory_the_batch_is_computed_in_parts(monkeypatch):
    """The peak is made up: so small a model's is lost among the process's pages."""
    rows = []
    whole = batch_fit.Step.__call__

    def watched(step, batch):
        rows.append(len(batch))
        whole(step, batch)

    monkeypatch.setattr(batch_fit.Step, "__call__", watched)
    monkeypatch.setattr(batch_fit, "rss_mb", lambda: 500.0)
    monkeypatch.setattr(batch_fit, "peak_mb", lambda device: 500.0 + 100 + 10 * rows[-1])
    spec = fitted(1.1 * 145)
    assert (spec.batch_size, spec.engine.micro_batch) == (16, 4)
    assert rows == [1, 2, 4]
    with pytest.raises(ResourceError, match="not even one example"):
        fitted(1.1 * 109)


def test_every_example_once_and_the_same_steps():
    train = examples_of(37)
    whole = epoch_steps(train, spec_of(batch_size=8, optimizer={"accumulate": 2}), 1)
    parts = epoch_steps(
        train, spec_of(batch_size=8, optimizer={"accumulate": 2}, engine={"micro_batch": 3}), 1
    )
    assert [list(chain(*step)) for step in parts] == [list(chain(*step)) for step in whole]
    assert max(len(batch) for step in parts for batch in step) == 3


@pytest.mark.parametrize("part", [1, 3, 8])
def test_the_result_is_that_of_the_whole_batch(part):
    train = examples_of(37)
    settings = {"batch_size": 8, "epochs": 2, "max_steps": None}
    whole = Training(tiny(), train, **settings)
    split = Training(tiny(), train, engine={"micro_batch": part}, **settings)
    assert split.result.steps == whole.result.steps == 10
    assert split.losses == pytest.approx(whole.losses, rel=1e-4)
    for path, weight in whole.weights.items():
        torch.testing.assert_close(split.weights[path], weight, rtol=1e-3, atol=1e-4)
