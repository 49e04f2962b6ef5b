"""What is judged from outcomes: who is called better, who is not, and by which numbers."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from lightune.compare import tests_of_difference as tests
from lightune.compare.cells import Scorer
from lightune.compare.judge import judge
from lightune.compare.outcome import Outcome
from lightune.errors import ConfigError, DataError
from lightune.tasks.base import tasks
from lightune.types import Place, Prediction, Record
from tests.compare.made_outcomes import classification, outcomes, records, regression

ROWS = records(200)
TASK, STATE = classification(ROWS)


def judged(rates, rows=ROWS, **options):
    made = {k: options.pop(k) for k in ("folds", "seeds", "sizes", "grids") if k in options}
    return judge(outcomes(rows, rates, **made), TASK, STATE, rows, **options)


def test_a_clear_winner_is_crowned_and_the_numbers_are_the_predictions():
    made = outcomes(ROWS, {"lora": 0.95, "head": 0.7, "majority class": 0.5})
    found = judge(made, TASK, STATE, ROWS, metric="accuracy")
    assert (found.crowned, found.leaders) == ("lora", ["lora"])
    assert [s.contender for s in found.standings] == ["lora", "head", "majority class"]
    for standing in found.standings:
        mine = [o for o in made if o.contender == standing.contender]
        right = [p.value == ROWS[p.index].values["label"] for o in mine for p in o.predictions]
        assert standing.score.value == pytest.approx(np.mean(right))
        assert standing.score.low < standing.score.value < standing.score.high
    assert [p.adjusted for p in found.pairs] == pytest.approx(
        tests.holm([p.p for p in found.pairs])
    )
    assert {p.verdict for p in found.pairs} == {"better"}
    assert [s.baseline for s in found.standings] == [False, False, True]


def test_no_winner_among_equals():
    found = judged({"lora": 0.9, "full": 0.9, "head": 0.6}, metric="accuracy")
    assert found.crowned is None
    assert set(found.leaders) == {"lora", "full"}
    pair = found.pair("full", "lora")
    assert pair.verdict == "undecided"
    assert pair.detectable > pair.difference.value >= 0


def test_who_predicts_the_same_is_the_same():
    made = outcomes(ROWS, {"lora": 0.9})
    made += [dataclasses.replace(o, contender="copy") for o in made]
    found = judge(made, TASK, STATE, ROWS, metric="macro_f1")
    assert found.pairs[0].verdict == "same"
    assert found.pairs[0].p == 1


def test_equivalence_needs_the_margin():
    rows = records(4000)
    made = outcomes(rows, {"lora": 0.97, "full": 0.97}, seeds=2)
    state = TASK.learn(rows)
    assert judge(made, TASK, state, rows, metric="accuracy").pairs[0].verdict == "equivalent"
    tight = judge(made, TASK, state, rows, metric="accuracy", margin=0.001)
    assert tight.pairs[0].verdict == "undecided"


def test_order_of_outcomes_and_repetition_change_nothing():
    made = outcomes(ROWS, {"lora": 0.9, "head": 0.8, "full": 0.88})
    once = judge(made, TASK, STATE, ROWS).to_json()
    shuffled = [
        dataclasses.replace(o, predictions=tuple(reversed(o.predictions))) for o in reversed(made)
    ]
    again = judge(shuffled, TASK, STATE, ROWS).to_json()
    assert json.dumps(once["pairs"], allow_nan=False) == json.dumps(again["pairs"])
    assert [s["score"] for s in once["standings"]] == [s["score"] for s in again["standings"]]


def test_influence_is_the_jackknife_of_scikit_learns_metric():
    made = outcomes(ROWS, {"lora": 0.8}, seeds=1)[0]
    cell = Scorer(TASK, STATE, ROWS, "macro_f1").cell(made)
    truth = np.array([ROWS[i].values["label"] for i in cell.rows])
    guess = np.array([p.value for p in cell.predictions])
    n = len(truth)
    assert cell.value == pytest.approx(f1_score(truth, guess, average="macro"))
    without = [
        f1_score(np.delete(truth, i), np.delete(guess, i), average="macro") for i in range(n)
    ]
    wanted = (n - 1) * (cell.value - np.array(without))
    np.testing.assert_allclose(cell.influence, wanted - wanted.mean(), atol=1e-9)
    assert cell.each is None
    plain = Scorer(TASK, STATE, ROWS, "accuracy").cell(made)
    np.testing.assert_array_equal(plain.each, truth == guess)
    np.testing.assert_allclose(plain.influence, plain.each - plain.value, atol=1e-12)


def test_clusters_count_as_one_each():
    rows = records(200, labels=("good", "good", "bad", "bad"))
    made = []
    for outcome in outcomes(records(100), {"lora": 0.8}, seeds=1, folds=1):
        pairs = [2 * p.index + k for p in outcome.predictions for k in (0, 1)]
        values = [p.value for p in outcome.predictions for _ in (0, 1)]
        twins = tuple(Prediction(i, v) for i, v in zip(pairs, values, strict=True))
        made.append(dataclasses.replace(outcome, predictions=twins))
    state = TASK.learn(rows)
    apart = judge(made, TASK, state, rows, metric="accuracy").standings[0].score
    numbers = [i // 2 for i in range(200)]
    together = judge(made, TASK, state, rows, metric="accuracy", clusters=numbers)
    wide = together.standings[0].score.high - together.standings[0].score.low
    assert wide == pytest.approx(2**0.5 * (apart.high - apart.low), rel=0.05)


def test_other_tests_are_those_of_the_textbook():
    made = outcomes(ROWS, {"lora": 0.9, "head": 0.8}, seeds=1)
    found = judge(made, TASK, STATE, ROWS, metric="accuracy").pairs[0]
    right = {}
    for o in made:
        for p in o.predictions:
            right.setdefault(o.contender, {})[p.index] = p.value == ROWS[p.index].values["label"]
    a, b = (np.array([right[c][i] for i in range(200)]) for c in ("lora", "head"))
    only = (int((a & ~b).sum()), int((b & ~a).sum()))
    assert found.other_tests["mcnemar"] == pytest.approx(stats.binomtest(only[0], sum(only)).pvalue)
    folds = {o.fold: [p.index for p in o.predictions] for o in made}
    apart = np.array([a[i].mean() - b[i].mean() for _, i in sorted(folds.items())])
    assert found.other_tests["corrected_t"] == tests.corrected_t(apart, 0.25)[1]
    assert 0 < found.other_tests["bootstrap"] < 0.05


def test_corrected_t_knows_how_much_was_trained_on():
    """32 records train and 40 test: 5 folds are hardly more evidence than one."""
    made = outcomes(ROWS, {"lora": 0.9, "head": 0.8}, seeds=1, sizes=("32",))
    found = judge(made, TASK, STATE, ROWS, metric="accuracy")
    a, b = (np.array(list(found.standing(c).fold_scores.values())) for c in ("lora", "head"))
    known = found.pair("lora", "head").other_tests["corrected_t"]
    assert known == pytest.approx(tests.corrected_t(a - b, 40 / 32)[1])
    assert known > tests.corrected_t(a - b, 0.25)[1]


def test_f1_has_randomisation_in_place_of_mcnemar():
    found = judged({"lora": 0.9, "head": 0.7, "full": 0.9}, metric="macro_f1")
    for pair in found.pairs:
        assert pair.other_tests.keys() == {"bootstrap", "corrected_t", "randomisation"}
    assert found.pair("lora", "head").other_tests["randomisation"] < 0.01
    assert found.pair("lora", "full").other_tests["randomisation"] > 0.05


def test_lower_is_better_for_errors():
    found = judge(*regression({"worse": 0.5, "better": 0.1}), metric="rmse")
    assert [s.contender for s in found.standings] == ["better", "worse"]
    assert found.crowned == "better"
    assert found.pairs[0].difference.value > 0
    assert found.scale is None
    assert found.margin == pytest.approx(found.standings[0].score.value / 100)


def test_corpus_metrics_have_points_of_their_own_scale():
    pytest.importorskip("sacrebleu")
    rows = [
        Record({"source": f"a {i}", "target": f"the cat {i} sat on the mat"}, Place("f", i))
        for i in range(60)
    ]
    task = tasks()["translation"]()
    made = []
    for name, every in (("good", 60), ("poor", 2)):
        for fold in range(3):
            texts = [
                rows[i].values["target"] if i % every or name == "good" else "a dog ran"
                for i in range(fold, 60, 3)
            ]
            said = tuple(
                Prediction(i, t, {}, {"loss": 1.0, "tokens": 6.0})
                for i, t in zip(range(fold, 60, 3), texts, strict=True)
            )
            settings = {"kind": "method"}
            made.append(Outcome(name, fold, 0, 40, {}, said, 1.0, 1, 1, 1, 0.1, 1.0, settings))
    found = judge(made, task, task.learn(rows), rows, metric="bleu")
    assert (found.scale, found.margin) == (100, 1)
    assert found.standings[0].contender == "good"
    assert found.pairs[0].other_tests["randomisation"] < 0.01
    assert found.standings[0].score.high is None  # nothing varied: no interval, not one of width 0


def test_curves_choices_and_front():
    rates = {"lora rank=2": 0.8, "lora rank=16": 0.9, "head": 0.75, "majority class": 0.5}
    grids = {"lora rank=2": {"method.rank": 2}, "lora rank=16": {"method.rank": 16}}
    found = judged(rates, sizes=("32", "all"), grids=grids, metric="accuracy")
    assert [p.size for p in found.curves["head"]] == ["32", "all"]
    assert found.size == "all"
    [choice] = found.choices
    assert choice.setting == "method.rank"
    assert choice.values == [(2, "lora rank=2"), (16, "lora rank=16")]
    for cost in ("seconds", "latency"):
        front = {s.contender for s in found.standings if cost in s.cheapest}
        for s in found.standings:
            mine = (s.score.value, -getattr(s.cost, cost))
            above = [
                o for o in found.standings
                if o is not s and o.score.value >= mine[0] and -getattr(o.cost, cost) >= mine[1]
            ]  # fmt: skip
            assert (s.contender in front) == (not above)


def test_models_are_a_choice_too():
    made = outcomes(ROWS, {"lora, minilm": 0.9, "lora, tiny": 0.8, "head, minilm": 0.7}, seeds=1)
    for outcome in made:
        method, model = outcome.contender.split(", ")
        outcome.settings["method"], outcome.settings["model"] = {"name": method}, model
    [choice] = judge(made, TASK, STATE, ROWS, metric="accuracy").choices
    assert (choice.setting, choice.among) == ("model", "lora")
    assert choice.values == [("minilm", "lora, minilm"), ("tiny", "lora, tiny")]


def test_who_was_dropped_is_compared_on_its_own_folds():
    made = outcomes(ROWS, {"lora": 0.9, "head": 0.6}, seeds=1)
    kept = [o for o in made if o.contender == "lora" or o.fold < 2]
    found = judge(kept, TASK, STATE, ROWS, metric="accuracy")
    assert [s.folds for s in found.standings] == [5, 2]
    assert [n.code for n in found.notes] == ["one_seed", "fewer_folds"]
    alone = [o for o in made if o.fold == (0 if o.contender == "lora" else 1)]
    apart = judge(alone, TASK, STATE, ROWS, metric="accuracy")
    assert apart.pairs[0].verdict == "undecided"
    json.dumps(apart.to_json(), allow_nan=False)


def test_who_was_planned_and_not_tried_is_named():
    made = outcomes(ROWS, {"lora": 0.95, "head": 0.6}, seeds=1)
    options = {"planned": ["lora", "head", "full", "ia3"], "untrainable": {"full": "too large"}}
    found = judge(made, TASK, STATE, ROWS, metric="accuracy", **options)
    assert (found.untried, dict(found.untrainable)) == (["ia3"], {"full": "too large"})
    assert found.settled
    equal = judged({"lora": 0.9, "full": 0.9, "head": 0.6}, metric="accuracy")
    assert not equal.settled


def test_who_ended_before_the_last_seed_is_noted():
    made = outcomes(ROWS, {"lora": 0.9, "head": 0.8, "majority class": 0.5}, seeds=2)
    first = [o for o in made if o.contender == "lora" or o.seed == 0 or o.fold < 2]
    kept = [o for o in first if o.contender != "majority class" or o.seed == 0]
    notes = {n.code: n.values for n in judge(kept, TASK, STATE, ROWS, metric="accuracy").notes}
    assert notes == {"fewer_seeds": {"contenders": ["head"]}}


def test_one_training_each_decides_nothing():
    rates = {"lora": 0.95, "head": 0.6}
    once = judged(rates, folds=1, seeds=1, metric="accuracy")
    assert once.pairs[0].verdict == "undecided"
    assert [n.code for n in once.notes] == ["one_training"]
    for repeated in ({"folds": 2, "seeds": 1}, {"folds": 1, "seeds": 3}):
        assert judged(rates, metric="accuracy", **repeated).pairs[0].verdict == "better"


def test_a_perfect_score_keeps_an_interval():
    found = judged({"lora": 1.5, "head": 0.5}, metric="accuracy")
    score = found.standings[0].score
    assert (score.value, score.high) == (1.0, 1.0)
    assert score.low == pytest.approx(0.025 ** (1 / 200))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda made: [], DataError, "nothing to judge"),
        (lambda made: [dataclasses.replace(made[0], predictions=made[0].predictions[:5]),
                       *made[1:]], DataError, "different records in fold 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_refused(change, error, words):
    made = outcomes(ROWS, {"lora": 0.9, "head": 0.6}, seeds=1)
    with pytest.raises(error, match=words):
        judge(change(made), TASK, STATE, ROWS, metric="accuracy")


def test_an_unknown_metric_names_the_near_one():
    with pytest.raises(ConfigError, match="no metric 'acuracy'") as caught:
        judged({"lora": 0.9}, metric="acuracy")
    assert caught.value.mend == "--metric accuracy"
