"""What stops a training: records that cannot be learnt from, a signal; and how it goes on."""

import math
import os
import signal

import pytest
import torch

from lightune.errors import RunError
from lightune.tasks.classification import Classification
from tests.train.training import Training, collate_for, examples_of, same, tiny

# What stops a training.


def poisoned(count: int, bad: set[int]):
    """A collate that makes the records in `bad` give a loss that is not a number."""
    task = Classification()

    def collate(examples):
        batch = collate_for(task)(examples)
        batch.inputs["inputs_embeds"] = torch.zeros(*batch.inputs.pop("input_ids").shape, 16)
        for row, index in enumerate(batch.indices):
            if index in bad:
                batch.inputs["inputs_embeds"][row] = math.inf
        return batch

    return collate


def refused(model, train, **options) -> str:
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(RunError) as caught:
        Training(model, train, **options)
    if "steps_before" not in options:
        assert same(before, dict(model.state_dict())), "no bad step may reach the weights"
    return str(caught.value)


def test_a_loss_that_is_no_number_names_the_records():
    text = refused(
        tiny(),
        examples_of(12),
        batch_size=12,
        epochs=1,
        collate=poisoned(12, {3, 7}),
        place="reviews.csv:{}".format,
    )
    assert "step 1: the loss is nan" in text
    assert "these records alone give it: reviews.csv:3, reviews.csv:7" in text
    assert "leave them out" in text


def test_a_loss_that_is_no_number_for_every_record_blames_the_rate():
    text = refused(
        tiny(),
        examples_of(12),
        rate=0.5,
        batch_size=12,
        epochs=1,
        collate=poisoned(12, {*range(12)}),
    )
    assert "records of this step" in text
    assert "and 4 more" in text
    assert "`train.learning_rate: 0.05`" in text


def test_a_gradient_that_is_no_number_stops_too():
    model = tiny()
    model.classifier.weight.register_hook(lambda grad: grad * math.nan)
    text = refused(model, examples_of(4), epochs=1)
    assert "the gradient's norm is nan" in text
    assert "train.learning_rate" in text


def test_a_step_without_any_target_stops():
    def collate(examples):
        batch = collate_for(Classification())(examples)
        batch.targets.fill_(-100)
        return batch

    text = refused(tiny(), examples_of(4), epochs=1, collate=collate)
    assert "no record of it has a target" in text
    assert "record 0" in text
    assert "train.max_length" in text


def test_no_examples_and_several_processes_are_refused(monkeypatch):
    assert "no training examples" in refused(tiny(), [], epochs=1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "WORLD_SIZE=2" in refused(tiny(), examples_of(4), epochs=1)


# Stopping and going on.


@pytest.mark.parametrize("stop_after", [1, 4, 5, 11, 12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_stopped_training_goes_on_bit_for_bit(stop_after, dtype):
    train = examples_of(16)
    settings = {"epochs": 3, "evaluation": {"every": 2}, "optimizer": {"schedule": "cosine"}}

    def prepared():
        model = tiny(0.3)
        if dtype is torch.float32:
            return model, {}
        trainable = {
            path: torch.nn.Parameter(w.detach().clone()) for path, w in model.named_parameters()
        }
        model.to(dtype)
        return model, {
            "trainable": trainable,
            "masters": [(trainable[path], image) for path, image in model.named_parameters()],
        }

    def run(model, options, **more):
        scores = lambda: {"macro_f1": -float(model.classifier.bias.detach().float().sum())}  # noqa: E731
        return Training(model, train, evaluate=scores, **settings, **options, **more)

    straight = run(*prepared())

    def stop(step, state):
        if step == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    first = run(*prepared(), on_step=stop)
    assert signal.getsignal(signal.SIGTERM) is handler
    assert first.result.stopped == "SIGTERM"
    assert first.result.steps == stop_after
    second = run(*prepared(), resume=first.result.state)
    assert second.result.stopped is None
    assert first.losses + second.losses == straight.losses
    assert same(second.weights, straight.weights)
    assert second.result.best.step == straight.result.best.step


def test_capturing_the_state_changes_nothing_and_is_not_changed():
    train = examples_of(16)
    plain = Training(tiny(0.3), train, epochs=2)
    states = []
    captured = Training(
        tiny(0.3), train, epochs=2, on_step=lambda step, state: states.append(state())
    )
    assert same(plain.weights, captured.weights)
    assert [state.step for state in states] == list(range(1, 9))
    assert [(state.epoch, state.position) for state in states][3:5] == [(1, 0), (1, 1)]
    resumed = Training(tiny(0.3), train, epochs=2, resume=states[2])
    assert same(plain.weights, resumed.weights)
    assert len(resumed.losses) == 5


def test_the_second_signal_acts_at_once():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # test runners may ignore it

    def stop(step, state):
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    try:
        with pytest.raises(KeyboardInterrupt):
            Training(tiny(), examples_of(16), epochs=1, on_step=stop)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
