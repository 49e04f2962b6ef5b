"""The race: the budget is held, nobody is dropped without evidence, and what is open is said.

Contenders here are made of coins, so that the truth is known; the evidence is the real one.
"""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from lightune.compare import race as racing
from lightune.compare.bench import OutOfTime
from lightune.compare.contenders import Contender
from lightune.compare.judge import judge
from lightune.compare.outcome import Outcome
from lightune.compare.trials import Trial
from lightune.errors import ModelError, Stopped
from lightune.tasks.classification import Classification
from lightune.types import Place, Prediction, Record

LABELS = ["neg", "pos"]
TASK = Classification()


def world(folds, records=40, seeds=1):
    """Return records, and rounds of trials for contenders by name."""
    truth = [LABELS[i % 2] for i in range(folds * records)]
    rows = [Record({"text": str(i), "label": t}, Place("f", i)) for i, t in enumerate(truth)]

    def rounds(names, baselines=()):
        made = []
        for seed in range(seeds):
            for fold in range(folds):
                test = tuple(range(fold * records, (fold + 1) * records))
                train = tuple(i for i in range(len(rows)) if i not in test)
                made.append([
                    Trial(Contender(n, SimpleNamespace(), n if n in baselines else None),
                          fold, seed, "all", train, test)
                    for n in names
                ])  # fmt: skip
        return made

    return rows, rounds


def coins(rows, accuracy, seconds=0.0, clock=None):
    """Return what runs a trial: right with the contender's own probability, in its own time."""

    def run(trial, deadline):
        took = seconds if isinstance(seconds, float) else seconds[trial.contender.name]
        if clock is not None:
            if deadline is not None and clock.now + took > deadline:
                clock.now = deadline
                raise OutOfTime
            clock.now += took
        name = trial.contender.name
        rng = np.random.default_rng([trial.fold, trial.seed, *map(ord, name)])
        right = rng.random(len(trial.test)) < accuracy[name]
        said = []
        for i, ok in zip(trial.test, right, strict=True):
            label = rows[i].values["label"]
            other = LABELS[label == "neg"]
            said.append(Prediction(i, label if ok else other))
        kind = "baseline" if trial.contender.baseline else "method"
        return Outcome(
            name, trial.fold, trial.seed, len(trial.train), {"accuracy": float(right.mean())},
            tuple(said), took, 0, 1, 4, 0.01, 100.0, {"kind": kind, "size": "all"},
        )  # fmt: skip

    return run


def race(rows, rounds, run, deadline=None, done=()):
    kept = []
    state = TASK.learn(rows)
    alpha = racing.alpha_of(len(rounds), deadline)

    def judged(outcomes):
        return judge(outcomes, TASK, state, rows, metric="accuracy", alpha=alpha)

    found = racing.run(
        rounds,
        done,
        trial=run,
        keep=kept.append,
        judge=judged,
        tell=lambda *told: None,
        deadline=deadline,
    )
    return found, kept, judged(found.outcomes)


class Clock:
    """Time that passes only where a trial takes some."""

    def __init__(self):
        self.now = 0.0


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(racing, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


def test_without_a_budget_everything_is_run_and_nobody_dropped():
    rows, rounds = world(5)
    plan = rounds(["good", "bad"])
    found, kept, _ = race(rows, plan, coins(rows, {"good": 0.95, "bad": 0.5}))
    assert len(kept) == 10
    assert found.complete
    assert not found.dropped


def test_one_that_is_shown_to_be_worse_is_tried_no_more(clock):
    rows, rounds = world(8, records=60)
    plan = rounds(["a", "b", "bad", "coin"], ["coin"])
    accuracy = {"a": 0.9, "b": 0.89, "bad": 0.3, "coin": 0.5}
    found, kept, _ = race(rows, plan, coins(rows, accuracy, 1.0, clock), deadline=1000.0)
    assert set(found.dropped) == {"bad"}  # the baseline stays, and b is not told from a
    assert sum(outcome.contender == "bad" for outcome in kept) == found.dropped["bad"] < 8
    assert sum(outcome.contender == "b" for outcome in kept) == 8
    assert found.complete


def test_a_race_that_is_decided_ends_early(clock):
    rows, rounds = world(8, records=60)
    accuracy = {"a": 0.97, "bad": 0.5}
    found, kept, findings = race(rows, rounds(["a", "bad"]), coins(rows, accuracy, 1.0, clock), 1e6)
    assert found.complete
    assert len(kept) < 16
    assert findings.crowned == "a"


@pytest.mark.parametrize("number", range(20))
def test_the_budget_is_held(clock, number):
    rng = np.random.default_rng(number)
    names = [f"m{i}" for i in range(int(rng.integers(2, 6)))]
    seconds = {name: float(rng.uniform(1, 30)) for name in names}
    rows, rounds = world(5, records=20)
    budget = float(rng.uniform(100, 400))
    run = coins(rows, dict.fromkeys(names, 0.8), seconds, clock)
    found, _, _ = race(rows, rounds(names), run, deadline=budget)
    assert clock.now <= budget
    if not found.complete:
        assert clock.now >= budget - max(seconds.values()) - racing.RESERVE
        left = 5 * sum(seconds.values()) - clock.now
        assert found.missing == pytest.approx(left, rel=0.3, abs=max(seconds.values()))


def test_equals_are_seldom_dropped_in_a_race():
    """Of 60 races between equals, in which 5 % of all looks together may raise a false alarm."""
    dropped = 0
    for world_number in range(60):
        rows, rounds = world(4, records=50)
        plan = rounds([f"{world_number}a", f"{world_number}b"])
        accuracy = dict.fromkeys([f"{world_number}a", f"{world_number}b"], 0.8)
        found, _, _ = race(rows, plan, coins(rows, accuracy), deadline=time.monotonic() + 1000)
        dropped += bool(found.dropped)
    assert dropped <= 7  # above it by chance, at 5 %: 2 %


def test_what_is_done_is_not_run_again(clock):
    rows, rounds = world(4)
    plan = rounds(["a", "b"])
    run = coins(rows, {"a": 0.9, "b": 0.8}, 1.0, clock)
    found, kept, _ = race(rows, plan, run)
    again, more, _ = race(rows, plan, run, done=kept[:5])
    assert len(more) == 3
    assert again.outcomes == found.outcomes


def test_more_rounds_are_asked_for_where_they_would_decide():
    """Half a standard error away from what can be detected needs about four times the rounds."""
    pair = SimpleNamespace(
        one="a",
        other="b",
        verdict="undecided",
        detectable=0.08,
        difference=SimpleNamespace(value=0.04),
    )
    found = SimpleNamespace(pairs=[pair], leaders=["a", "b"])
    assert racing.more_rounds(found, 3) == 9
    pair.difference.value = 0.0
    assert racing.more_rounds(found, 3) is None
    pair.verdict = "equivalent"
    assert racing.more_rounds(found, 3) == 0


def test_looks_share_what_one_judgement_may_err():
    """Of 16 rounds the looks are after 1, 2, 4, 8, and the last judgement after 16."""
    assert racing.alpha_of(16, None) == 0.05
    assert racing.alpha_of(16, 1.0) == pytest.approx(0.05 / 5)
    assert racing.alpha_of(1, 1.0) == 0.05


def failing(run, who, fold):
    """Return what runs a trial, but for one contender whose training diverges on a fold."""

    def runs(trial, deadline):
        if trial.contender.name in who and trial.fold == fold:
            raise ModelError("the loss is not a number", found="step 1", mend="a lower rate")
        return run(trial, deadline)

    return runs


def test_who_cannot_be_trained_is_left_out_and_the_others_go_on():
    rows, rounds = world(4)
    run = coins(rows, {"a": 0.9, "b": 0.8, "wild": 0.9})
    found, kept, findings = race(rows, rounds(["wild", "a", "b"]), failing(run, ["wild"], 1))
    assert found.complete
    assert list(found.failed) == [("wild", "all")]
    assert "not a number" in str(found.failed["wild", "all"])
    assert {outcome.contender for outcome in found.outcomes} == {"a", "b"}
    assert [o.contender for o in kept].count("wild") == 1
    assert {standing.contender for standing in findings.standings} == {"a", "b"}
    again, more, _ = race(rows, rounds(["wild", "a", "b"]), run, done=kept)  # now it is mended
    assert not again.failed
    assert [o.contender for o in more] == ["wild"] * 3


def test_where_nothing_can_be_trained_the_error_is_raised():
    rows, rounds = world(3)
    plan = rounds(["coin", "a", "b"], ["coin"])
    run = failing(coins(rows, {"coin": 0.5, "a": 0.9, "b": 0.8}), ["a", "b"], 0)
    with pytest.raises(ModelError, match="not a number"):
        race(rows, plan, run)
    stopped = coins(rows, {"coin": 0.5, "a": 0.9, "b": 0.8})

    def stops(trial, deadline):
        if trial.contender.name == "a":
            raise Stopped("stopped", mend="again")
        return stopped(trial, deadline)

    with pytest.raises(Stopped):
        race(rows, plan, stops)
