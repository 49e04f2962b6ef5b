"""Who stands first where contenders were not all tried on the same folds."""

import dataclasses

import numpy as np
import pytest

from lightune.compare.findings import Pair
from lightune.compare.judge import judge
from lightune.compare.ranking import levels, ranked
from lightune.compare.wording import Words
from lightune.types import Prediction, Score
from tests.compare.made_outcomes import classification, outcomes, records

ROWS = records(400)
TASK, STATE = classification(ROWS)


def at_rates(rates):
    """Return outcomes that are right at a rate of their own in each fold.

    Args:
        rates: contender -> its rate on each of the first folds.
    """
    made = []
    for outcome in outcomes(ROWS, dict.fromkeys(rates, 0.5), seeds=1):
        rate = rates[outcome.contender]
        if outcome.fold < len(rate):
            made.append(dataclasses.replace(outcome, predictions=right(outcome, rate)))
    return made


def right(outcome, rate):
    """Return predictions of which a share is right; who is better has all that others have."""
    limit = round(rate[outcome.fold] * len(outcome.predictions))
    found = []
    for place, said in enumerate(outcome.predictions):
        truth = ROWS[said.index].values["label"]
        other = "good" if truth == "bad" else "bad"
        found.append(Prediction(said.index, truth if place < limit else other))
    return tuple(found)


def judged(rates, **options):
    return judge(at_rates(rates), TASK, STATE, ROWS, metric="accuracy", **options)


def test_who_was_dropped_after_easy_folds_does_not_lead():
    rates = {"keeps": [0.98, 0.98, 0.7, 0.7, 0.72], "dropped": [0.85, 0.86]}
    found = judged(rates)
    assert found.standing("dropped").score.value > found.standing("keeps").score.value
    assert [s.contender for s in found.standings] == ["keeps", "dropped"]
    assert (found.leaders, found.crowned) == (["keeps"], "keeps")
    assert "keeps\u2069 is the best of 2" in Words(found).answer()[0]
    for cost in found.standings[1].cheapest:
        mine, other = (getattr(s.cost, cost) for s in reversed(found.standings))
        assert mine < other  # it is no better than the one before it, so only cheaper


def test_a_budget_that_ends_within_a_round_moves_nobody_up():
    rates = {"one": [0.9, 0.9, 0.6], "two": [0.88, 0.88]}
    found = judged(rates)
    assert [s.contender for s in found.standings] == ["one", "two"]
    assert found.standings[1].score.value > found.standings[0].score.value
    assert found.leaders == ["one", "two"]


def test_an_earlier_look_holds():
    rates = {"keeps": [0.9] * 5, "dropped": [0.9, 0.88]}
    assert judged(rates).leaders == ["keeps", "dropped"]
    found = judged(rates, dropped=["dropped"])
    assert (found.leaders, found.crowned) == (["keeps"], "keeps")


def pair(one, other, verdict="better"):
    return Pair(one, other, Score(0.1, 0.05, 0.15), 0.01, 0.01, 1.0, 0.1, verdict, {})


@pytest.mark.parametrize(
    ("pairs", "folds", "order", "leaders"),
    [
        ([], (5, 5, 5), "abc", "abc"),
        ([pair("b", "c"), pair("a", "c", "undecided")], (5, 5, 5), "abc", "ab"),
        ([pair("b", "a")], (2, 5, 5), "bca", "bc"),
        ([pair("b", "a")], (5, 5, 5), "bac", "bc"),
        ([pair("c", "b")], (5, 2, 5), "acb", "ac"),
        ([pair("a", "b"), pair("a", "c")], (5, 5, 5), "abc", "a"),
    ],
)
def test_who_is_beaten_by_anyone_does_not_lead(pairs, folds, order, leaders):
    found = ranked("abc", pairs, dict(zip("abc", folds, strict=True)))
    assert found == (list(order), list(leaders))


def test_levels_are_means_where_nothing_is_missing_and_undo_the_folds_where_something_is():
    scorer_cells = {}
    rng = np.random.default_rng(0)
    ease, skill = rng.normal(size=5), {"a": 0.5, "b": 0.4, "c": 0.1}
    for name, kept in (("a", range(5)), ("b", (0, 1)), ("c", (1, 3, 4))):
        scorer_cells[name] = [Made(f, skill[name] + ease[f]) for f in kept]
    found = levels(scorer_cells, {})
    assert found["a"] - found["b"] == pytest.approx(0.1)
    assert found["a"] - found["c"] == pytest.approx(0.4)
    assert found["a"] == pytest.approx(0.5 + ease.mean())
    whole = {"a": scorer_cells["a"]}
    assert levels(whole, {"a": 7.0}) == {"a": 7.0}


@dataclasses.dataclass
class Made:
    """As much of a cell as a level needs."""

    fold: int
    value: float
    seed: int = 0
    records: int = 40
