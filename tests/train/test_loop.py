"""The loop: what is trained on, in which order, when it is scored, and what is kept."""

import math

import pytest
import torch

from lightune.tasks.classification import Classification
from lightune.train.loop import epoch_steps, keep_best, planned_steps
from lightune.train.state import LoopState
from tests.train.training import Training, collate_for, examples_of, same, spec_of, tiny


class Watching:
    """A collate that notes which examples it was given."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.collate = collate_for(Classification())

    def __call__(self, examples):
        self.seen.append([example.index for example in examples])
        return self.collate(examples)


@pytest.mark.parametrize("order", ["by_length", "random"])
@pytest.mark.parametrize(("count", "accumulate"), [(12, 1), (13, 1), (13, 2), (3, 4)])
def test_every_example_once_per_epoch(order, count, accumulate):
    watching = Watching()
    Training(
        tiny(),
        examples_of(count),
        epochs=3,
        collate=watching,
        optimizer={"accumulate": accumulate},
        engine={"batches": order},
    )
    batches = math.ceil(count / 4)
    assert len(watching.seen) == 3 * batches
    for epoch in range(3):
        part = watching.seen[epoch * batches : (epoch + 1) * batches]
        assert sorted(i for batch in part for i in batch) == list(range(count))
    if batches > 1:
        assert watching.seen[:batches] != watching.seen[batches : 2 * batches]


@pytest.mark.parametrize(
    ("values", "steps"),
    [
        ({"epochs": 2}, 8),
        ({"epochs": 0.5}, 2),
        ({"epochs": 0.3}, 2),
        ({"max_steps": 3}, 3),
        ({"max_steps": 30}, 30),
        ({"epochs": 1, "max_steps": 30}, 4),
        ({"epochs": 2, "optimizer": {"accumulate": 3}}, 4),
    ],
)
def test_the_number_of_steps(values, steps):
    train = examples_of(13)
    assert planned_steps(13, spec_of(**values)) == steps
    training = Training(tiny(), train, **values)
    assert training.result.steps == len(training.losses) == steps
    per_epoch = len(epoch_steps(train, training.spec, 0))
    assert training.result.epochs == pytest.approx(steps / per_epoch)
    assert training.result.stopped is None


def test_it_learns():
    training = Training(tiny(), examples_of(48), epochs=12)
    assert training.losses[0] > 1.0
    assert sum(training.losses[-4:]) / 4 < 0.3
    assert not any(module.training for module in training.model.modules())
    assert training.result.without_gradient == []


@pytest.mark.parametrize("count", [16, 14, 9])
def test_accumulated_batches_equal_one_large_batch(count):
    train = examples_of(count)
    settings = {"epochs": 3, "engine": {"batches": "random"}}
    small = Training(tiny(), train, batch_size=4, optimizer={"accumulate": 4}, **settings)
    large = Training(tiny(), train, batch_size=16, **settings)
    assert small.losses == pytest.approx(large.losses, abs=1e-6)
    for path, weight in large.weights.items():
        torch.testing.assert_close(small.weights[path], weight, rtol=0, atol=1e-4, msg=path)


def test_batches_without_targets_do_not_count_in_an_accumulated_step():
    """Two of three examples are unlabelled, one batch wholly so: the mean is over the third."""
    train = examples_of(3)
    task = Classification()

    def collate(examples):
        batch = collate_for(task)(examples)
        for row, index in enumerate(batch.indices):
            if index != 1:
                batch.targets[row] = -100
        return batch

    class Skipping(Classification):
        name = "skipping"

        def loss(self, outputs, batch, state):
            return torch.nn.functional.cross_entropy(outputs.logits, batch.targets)

    settings = {"max_steps": 1, "optimizer": {"accumulate": 3, "warmup": 0}}
    several = Training(tiny(), train, batch_size=1, task=Skipping(), collate=collate, **settings)
    alone = Training(tiny(), [train[1]], batch_size=1, task=Skipping(), **settings)
    assert several.losses == pytest.approx(alone.losses)
    for path, weight in alone.weights.items():
        torch.testing.assert_close(several.weights[path], weight, rtol=0, atol=1e-6, msg=path)


def test_one_seed_gives_the_same_bits_and_another_seed_others():
    train = examples_of(20)
    torch.manual_seed(1)
    one = Training(tiny(0.3), train, epochs=2, seed=5)
    torch.manual_seed(2)  # what the process drew before is no part of the run
    again = Training(tiny(0.3), train, epochs=2, seed=5)
    other = Training(tiny(0.3), train, epochs=2, seed=6)
    assert one.losses == again.losses
    assert same(one.weights, again.weights)
    assert not same(one.weights, other.weights)


def test_dropout_changes_with_step_and_seed():
    """One example, the same batch at each step, a rate of almost zero: only dropout differs."""
    train = examples_of(1)
    runs = [
        Training(tiny(0.5), train, rate=1e-12, max_steps=4, batch_size=1, seed=s).losses
        for s in (0, 1)
    ]
    assert len(set(runs[0] + runs[1])) == 8


def test_the_callers_random_state_stays():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    model = tiny(0.3)
    torch.set_rng_state(before)
    Training(model, examples_of(8), epochs=1)
    assert torch.equal(torch.get_rng_state(), before)


class Scores:
    """An `evaluate` that gives the scores it is told, and disturbs what it can."""

    def __init__(self, model, *values: float) -> None:
        self.model, self.values, self.weights = model, list(values), []

    def __call__(self) -> dict[str, float]:
        assert not self.model.training
        torch.randn(17)  # a user's metric may draw random numbers
        self.weights.append({k: v.detach().clone() for k, v in self.model.state_dict().items()})
        return {"loss": 1.0, "macro_f1": self.values[len(self.weights) - 1]}


def test_the_best_weights_are_put_back():
    model = tiny()
    scores = Scores(model, 0.3, 0.9, 0.9, 0.1)
    training = Training(
        model, examples_of(8), epochs=4, evaluate=scores, evaluation={"every": "epoch"}
    )
    best = training.result.best
    assert (best.step, best.value, best.metrics["macro_f1"]) == (4, 0.9, 0.9)
    assert same(training.weights, scores.weights[1])
    assert not same(training.weights, scores.weights[3])
    shown = [e["validation_macro_f1"] for e in training.log if "validation_macro_f1" in e]
    assert shown == [0.3, 0.9, 0.9, 0.1]


def test_the_last_weights_are_kept_when_asked():
    model = tiny()
    scores = Scores(model, 0.9, 0.1)
    evaluation = {"every": "epoch", "best": False}
    training = Training(model, examples_of(8), epochs=2, evaluate=scores, evaluation=evaluation)
    assert training.result.best.step == 2
    assert training.result.best.weights == {}
    assert same(training.weights, scores.weights[1])


def test_a_score_that_is_no_number_is_never_the_best():
    model = tiny()
    scores = Scores(model, math.nan, 0.2, math.nan)
    training = Training(
        model, examples_of(4), epochs=3, evaluate=scores, evaluation={"every": "epoch"}
    )
    assert training.result.best.step == 2


def test_a_score_that_is_undefined_is_never_the_best():
    """As F1 of entities is, where a few validation texts have none and none are seen in them."""
    state = LoopState()
    for step, metrics in enumerate(({}, {"f1": 0.2}, {})):
        state.step = step
        keep_best(state, metrics, "f1", None, with_weights=False)
    assert (state.best.step, state.best.value) == (1, 0.2)
    assert state.stale == 1


@pytest.mark.parametrize(
    ("every", "steps"), [("epoch", [4, 8, 9]), (2, [2, 4, 6, 8, 9]), (3, [3, 6, 9]), (None, [])]
)
def test_when_it_scores(every, steps):
    model = tiny()
    scores = Scores(model, *[0.5] * 9)
    training = Training(
        model, examples_of(16), max_steps=9, evaluate=scores, evaluation={"every": every}
    )
    assert [e["step"] for e in training.log if "validation_loss" in e] == steps
    assert (training.result.best is None) == (every is None)


def test_scoring_and_logging_change_no_weight():
    train = examples_of(12)
    plain = Training(tiny(0.3), train, epochs=3, evaluation={"best": False})
    model = tiny(0.3)
    scores = Scores(model, *range(20))
    evaluation = {"every": 1, "log_every": 7, "best": False}
    scored = Training(model, train, epochs=3, evaluate=scores, evaluation=evaluation)
    assert same(plain.weights, scored.weights)


def test_early_stopping_waits_for_its_patience():
    model = tiny()
    scores = Scores(model, 0.5, 0.4, 0.6, 0.6, 0.5, 0.7)
    evaluation = {"every": "epoch", "early_stopping": 2}
    training = Training(model, examples_of(4), epochs=20, evaluate=scores, evaluation=evaluation)
    assert training.result.stopped == "early stopping"
    assert training.result.steps == 5
    assert training.result.state is None
    assert same(training.weights, scores.weights[2])


def test_what_the_log_says():
    train = examples_of(10)
    training = Training(
        tiny(),
        train,
        rate=0.01,
        epochs=4,
        evaluation={"log_every": 5},
        optimizer={"warmup": 0, "schedule": "linear"},
    )
    assert [entry["step"] for entry in training.log] == [1, 5, 10, 12]
    keys = {"step", "epoch", "loss", "learning_rate", "grad_norm", "rss_mb"}
    assert set(training.log[1]) == keys | {"examples_per_s", "tokens_per_s"}
    assert training.log[1]["epoch"] == pytest.approx(5 / 3)
    assert training.log[1]["learning_rate"] == pytest.approx(0.01 * (1 - 4 / 12))
    assert all(entry["grad_norm"] > 0 and entry["examples_per_s"] > 0 for entry in training.log)
    each = Training(tiny(), train, rate=0.01, epochs=4, optimizer={"warmup": 0}).losses
    assert training.log[1]["loss"] == pytest.approx(sum(each[1:5]) / 4)


def test_frozen_parts_keep_the_mode_the_engine_gives_them():
    model = tiny(0.3)
    modes = []

    def set_mode(net):
        net.train()
        net.bert.encoder.layer[0].eval()

    scores = Scores(model, *[0.5] * 4)

    def on_step(step, state):
        modes.append((model.training, model.bert.encoder.layer[0].training))

    Training(
        model,
        examples_of(8),
        epochs=2,
        evaluate=scores,
        evaluation={"every": 1},
        set_mode=set_mode,
        on_step=on_step,
    )
    assert modes == [(True, False)] * 4


def test_low_precision_images_follow_their_masters():
    """bfloat16 in the model, float32 in the optimiser, the best weights put back into both."""
    model = tiny().bfloat16()
    pairs, trainable = [], {}
    for path, image in model.named_parameters():
        master = torch.nn.Parameter(image.detach().float())
        pairs.append((master, image))
        trainable[path] = master
    scores = Scores(model, 0.1, 0.9, 0.5)
    training = Training(
        model,
        examples_of(16),
        epochs=3,
        masters=pairs,
        trainable=trainable,
        evaluate=scores,
        evaluation={"every": "epoch"},
    )
    assert training.losses[-1] < training.losses[0]
    assert same(training.weights, scores.weights[1])
    for master, image in pairs:
        assert torch.equal(image, master.bfloat16())
    assert any(not torch.equal(master.bfloat16().float(), master) for master, _ in pairs)


def test_weights_that_no_gradient_reaches_are_named():
    model = tiny()
    loose = torch.nn.Parameter(torch.zeros(3))
    trainable = dict(model.named_parameters()) | {"loose": loose}
    training = Training(model, examples_of(4), epochs=1, trainable=trainable)
    assert training.result.without_gradient == ["loose"]
