"""The whole: one call gives findings; two calls agree; a killed one goes on; mistakes are said."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
from small_runs import lines, recipe, rows, write_csv

import lightune
from lightune.compare import experiment
from lightune.compare.outcome import MEASURED, from_row
from lightune.compare.race import Race
from lightune.errors import ConfigError, ConfigErrors, DataError, RunError


def settings(tiny, **changes):
    return {"methods": ["lora", "head"], "folds": 3, "silent": True} | changes


def exact(folder):
    """Return the trials of a comparison without what a clock gives."""
    found = [from_row(row) for row in lines(folder / "trials.jsonl")]
    return [replace(outcome, **dict.fromkeys(MEASURED, 0)) for outcome in found]


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """Return a comparison of two methods, under two seeds, and its recipe."""
    made = recipe(tiny("bert"), data=rows(count=48), epochs=2, max_steps=4)
    out = tmp_path_factory.mktemp("compare") / "one"
    return made, lightune.compare(made, out=out, seeds=2, **settings(tiny))


def test_methods_stand_beside_baselines_on_the_same_folds(finished):
    _, found = finished
    names = [s.contender for s in found.findings.standings]
    assert set(names) == {
        "lora",
        "head",
        "majority class",
        "TF-IDF + logistic regression",
        "frozen embeddings + logistic regression",
    }
    trials = exact(found.folder)
    assert len(trials) == 2 * 3 * 2 + 3 * 3
    tested = {}
    for trial in trials:
        places = tuple(p.index for p in trial.predictions)
        assert tested.setdefault(trial.fold, places) == places
    assert sorted(i for places in tested.values() for i in places) == list(range(48))
    majority = found.findings.standing("majority class")
    assert majority.metrics["accuracy"] == pytest.approx(0.5)
    assert found.findings.standing("TF-IDF + logistic regression").metrics["accuracy"] > 0.9
    assert json.loads((found.folder / "report.json").read_text())["task"] == "classification"
    assert found.to_json()["complete"]


def test_two_comparisons_agree_exactly(finished, tiny, tmp_path):
    made, found = finished
    again = lightune.compare(made, out=tmp_path / "two", seeds=2, **settings(tiny))
    assert exact(again.folder) == exact(found.folder)
    one, two = (c.findings.to_json() for c in (found, again))
    for standing in (*one["standings"], *two["standings"]):
        del standing["cost"], standing["cheapest"]
    assert one == two


def test_a_killed_comparison_goes_on_and_ends_the_same(finished, tiny, tmp_path, monkeypatch):
    made, found = finished
    real, count = experiment.run_trial, iter(range(100))

    def dies(*arguments):
        if next(count) == 7:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(experiment, "run_trial", dies)
    with pytest.raises(KeyboardInterrupt):
        lightune.compare(made, out=tmp_path / "two", seeds=2, **settings(tiny))
    log = tmp_path / "two" / "trials.jsonl"
    log.write_bytes(log.read_bytes() + b'{"contender": "lora", "fo')  # the line it died in
    ran = []
    monkeypatch.setattr(
        experiment, "run_trial", lambda one, *rest: ran.append(one.key) or real(one, *rest)
    )
    again = lightune.compare(made, out=tmp_path / "two", seeds=2, **settings(tiny))
    assert len(ran) == 21 - 7
    assert sorted(exact(again.folder), key=str) == sorted(exact(found.folder), key=str)
    nothing = lightune.compare(made, out=tmp_path / "two", seeds=2, **settings(tiny))
    assert len(ran) == 21 - 7
    assert nothing.findings == again.findings


def test_another_design_is_not_mixed_in(finished, tiny):
    made, found = finished
    with pytest.raises(RunError, match="something else"):
        lightune.compare(made, out=found.folder, seeds=1, **settings(tiny))


def test_the_folder_repeats_the_comparison(finished, tiny, tmp_path):
    """From files: the written recipe, with its section `compare`, has the same fingerprint."""
    data = write_csv(tmp_path / "data.csv", rows(count=24))
    made = recipe(tiny("bert"), data=str(data))
    made["compare"] = {"methods": ["bitfit"], "folds": 2}
    first = lightune.compare(
        made, out=tmp_path / "out", silent=True, overrides=["grid.train.epochs=[1, 2]"]
    )
    again = lightune.compare(first.folder / "recipe.yaml", out=tmp_path / "out", silent=True)
    assert again.findings == first.findings
    assert {"bitfit epochs=1", "bitfit epochs=2"} <= {s.contender for s in again.findings.standings}


def test_sizes_give_learning_curves(tiny, tmp_path):
    made = recipe(tiny("bert"), data=rows(count=36))
    found = lightune.compare(
        made,
        out=tmp_path / "out",
        methods=["head"],
        folds=3,
        sizes=["2/class", 8, "all"],
        silent=True,
    )
    assert {len(points) for points in found.findings.curves.values()} == {3}
    assert {t.size for t in exact(found.folder)} == {4, 8, 24}


def test_records_are_parted_by_a_column(tiny, tmp_path):
    table = [row | {"author": f"a{i % 6}"} for i, row in enumerate(rows(count=36))]
    made = recipe(tiny("bert"), data=table)
    found = lightune.compare(
        made, out=tmp_path / "out", methods=["head"], folds=3, group="author", silent=True
    )
    for trial in exact(found.folder):
        inside = {p.index % 6 for p in trial.predictions}
        assert inside.isdisjoint(i % 6 for i in range(36) if i % 6 not in inside)
        assert len(trial.predictions) == 6 * len(inside)


def test_a_named_test_set_is_the_only_fold(tiny, tmp_path):
    made = recipe(tiny("bert"), data={"train": rows(count=20), "test": rows(count=30)[20:]})
    found = lightune.compare(made, out=tmp_path / "out", methods=["head"], silent=True)
    assert found.findings.folds == 1
    assert found.findings.records == 10


MISTAKES = {
    "an unknown setting": ({"fold": 3}, ConfigErrors, "fold"),
    "an unknown method": ({"methods": ["lorra"]}, ConfigErrors, "lorra"),
    "no list": ({"grid": {"method.rank": 8}}, ConfigErrors, "list"),
    "a setting nobody has": ({"grid": {"method.rankk": [8]}}, ConfigError, "rankk"),
    "the seed as a setting": ({"grid": {"train.seed": [1, 2]}}, ConfigErrors, "seeds"),
    "a method twice": ({"methods": ["lora", "lora"]}, ConfigError, "twice"),
    "no time": ({"budget": "soon"}, ConfigErrors, "budget"),
    "no size": ({"sizes": ["many"]}, ConfigErrors, "many"),
    "too many records": ({"sizes": [4000]}, ConfigError, "fewer records"),
    "two ways": ({"group": "label", "time": "text"}, ConfigError, "one way"),
    "a run that may have seen the test": (
        {"overrides": ["train.from=runs/earlier"]},
        ConfigError,
        "train.from",
    ),
    "no column": ({"group": "autor"}, DataError, "autor"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_said_before_anything_is_written(tiny, tmp_path, name):
    changes, kind, word = MISTAKES[name]
    with pytest.raises(kind, match=word) as error:
        lightune.compare(recipe(tiny("bert")), out=tmp_path / "out", **{"silent": True} | changes)
    assert error.value.mend
    assert not (tmp_path / "out").exists()


def test_models_that_split_texts_differently_are_not_compared_by_token(tiny, tmp_path):
    made = recipe(
        tiny("llama-lm"), task="language_modeling", data=[{"text": f"a {i}"} for i in range(9)]
    )
    other = tmp_path / "other"
    shutil.copytree(tiny("llama-lm"), other)
    rules = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
    rules["normalizer"] = {"type": "Lowercase"}
    (other / "tokenizer.json").write_text(json.dumps(rules), encoding="utf-8")
    models = [str(tiny("llama-lm")), str(other)]
    with pytest.raises(ConfigError, match="log_likelihood is of each token") as error:
        lightune.compare(made, out=tmp_path / "out", models=models, silent=True)
    assert "bits_per_byte" in error.value.mend
    assert not (tmp_path / "out").exists()


def test_who_diverges_is_left_out_and_the_others_are_judged(tiny, tmp_path):
    made = recipe(tiny("bert"), data=rows(count=30))
    said = []
    found = lightune.compare(
        made,
        out=tmp_path / "out",
        methods=["full"],
        folds=2,
        note=said.append,
        overrides=["grid.train.learning_rate=[1e-4, 1e30]"],
    )
    names = {standing.contender for standing in found.findings.standings}
    assert "full learning_rate=0.0001" in names
    assert "full learning_rate=1e+30" not in names
    [failed] = found.to_json()["failed"]
    assert (failed["contender"], failed["size"]) == ("full learning_rate=1e+30", "all")
    assert failed["problem"]
    assert sum("could not be trained" in sentence for sentence in said) == 1


def test_a_metric_that_a_baseline_cannot_have_is_no_mistake(tiny, tmp_path):
    """The correlation of the same guess for all with anything is undefined."""
    table = [{"text": row["text"], "label": i % 7} for i, row in enumerate(rows(count=24))]
    made = recipe(tiny("bert"), data=table, task="regression")
    given = {"methods": ["head"], "folds": 2, "silent": True}
    found = lightune.compare(made, out=tmp_path / "out", metric="pearson", **given)
    assert found.findings.metric == "pearson"
    assert {o.contender for o in exact(found.folder)} >= {"mean", "head"}
    with pytest.raises(ConfigError, match="pearsn"):
        lightune.compare(made, out=tmp_path / "two", metric="pearsn", **given)
    assert [o.contender for o in exact(tmp_path / "two")] == ["mean"]  # nothing was trained


def test_a_budget_makes_its_looks_share_the_5_per_cent(tiny, tmp_path):
    made = recipe(tiny("bert"), data=rows(count=24))
    given = {"methods": ["head"], "folds": 3, "silent": True, "out": tmp_path / "out"}
    assert lightune.compare(made, **given).findings.alpha == 0.05
    assert lightune.compare(made, budget="1h", **given).findings.alpha == pytest.approx(0.05 / 3)


def test_no_time_is_promised_where_what_is_left_would_not_decide():
    """A lead of 2 points where 8 can be found needs 16 times the rounds; 4 points, 4 times."""

    def minutes(lead):
        pair = SimpleNamespace(
            one="a", other="b", verdict="undecided", detectable=0.08,
            difference=SimpleNamespace(value=lead),
        )  # fmt: skip
        found = SimpleNamespace(pairs=[pair], leaders=["a", "b"])
        race = Race(complete=False, missing=480.0, left_rounds=8)
        return experiment._minutes(race, found, 10)

    assert minutes(0.04) == pytest.approx(6.0)
    assert minutes(0.02) is None
