"""Contenders: one for each method, model and value; names that tell them apart; baselines."""

import pytest

from lightune.compare import contenders as module
from lightune.compare.contenders import EMBEDDINGS, MAJORITY, TFIDF, UNTUNED, baselines, contenders
from lightune.compare.spec import CompareSpec
from lightune.errors import ConfigError, ConfigErrors
from lightune.recipe import load_recipe
from lightune.settings import parse

RECIPE = {
    "task": "classification",
    "model": "minilm",
    "method": {"name": "lora", "rank": 4},
    "data": "reviews.csv",
    "train": {"epochs": 2},
}


def made(**spec):
    return contenders(load_recipe(RECIPE), parse(CompareSpec, spec, "compare"))


def test_a_method_that_is_only_named_keeps_what_the_recipe_says_of_it():
    lora, full = made(methods=["lora", "full"])
    assert (lora.name, lora.recipe.method.rank) == ("lora", 4)
    assert full.recipe.method.name == "full"
    assert lora.recipe.train == full.recipe.train == load_recipe(RECIPE).train


def test_settings_of_a_method_are_in_its_name():
    found = made(methods=["lora", {"name": "lora", "rank": 16}, ["bottleneck", "lora"]])
    assert [c.name for c in found] == ["lora", "lora rank=16", "bottleneck+lora"]
    assert found[1].recipe.method.rank == 16


def test_each_value_of_the_grid_is_one_contender_and_a_method_without_the_setting_is_one():
    grid = {"method.rank": [2, 8], "train.epochs": [1, 3]}
    found = made(methods=["lora", "bitfit"], grid=grid)
    assert [c.name for c in found] == [
        "lora rank=2 epochs=1",
        "lora rank=2 epochs=3",
        "lora rank=8 epochs=1",
        "lora rank=8 epochs=3",
        "bitfit epochs=1",
        "bitfit epochs=3",
    ]
    assert found[3].recipe.method.rank == 8
    assert found[3].recipe.train.epochs == 3
    assert found[3].settings()["grid"] == {"method.rank": 8, "train.epochs": 3}


def test_nested_keys_are_dotted_ones():
    assert parse(CompareSpec, {"grid": {"method": {"rank": [2]}}}, "compare").grid == {
        "method.rank": [2]
    }


def test_several_models_are_in_the_names():
    found = made(methods=["lora", "full"], models=["minilm", "smollm2-135m"])
    assert [c.name for c in found][:2] == ["lora, minilm", "full, minilm"]
    assert found[2].recipe.model == "smollm2-135m"


def test_models_of_one_name_are_told_apart_by_the_shortest_end_of_their_paths():
    models = ["here/a/bert", "here/b/bert", "here/b/minilm", "bert"]
    found = made(methods=["lora"], models=models)
    assert [c.name for c in found] == ["lora, a/bert", "lora, b/bert", "lora, minilm", "lora, bert"]
    own = dict.fromkeys(models, True)
    names = [c.name for c in baselines("causal_lm", found, own)]
    assert names == [f"{UNTUNED}, {end}" for end in ("a/bert", "b/bert", "minilm", "bert")]


def test_choices_are_recipes_of_one_contender():
    [one] = made(methods=["lora"], tune={"train.learning_rate": [1e-4, 5e-4]})
    assert one.name == "lora"
    assert [dict(c) for c, _ in one.choices] == [
        {"train.learning_rate": 1e-4},
        {"train.learning_rate": 5e-4},
    ]
    assert [r.train.learning_rate for _, r in one.choices] == [1e-4, 5e-4]


def test_every_combination_is_tried():
    spec = {"tune": {"method.rank": [2, 4], "train.epochs": [1, 2, 3]}}
    [one] = made(methods=["lora"], **spec)
    assert len(one.choices) == 6


@pytest.mark.parametrize(
    ("head", "own", "expected"),
    [
        ("sequence_classification", False, [MAJORITY, TFIDF, EMBEDDINGS]),
        ("sequence_classification", True, [MAJORITY, TFIDF, EMBEDDINGS, UNTUNED]),
        ("regression", False, [module.MEAN, module.TFIDF_RIDGE, module.EMBEDDINGS_RIDGE]),
        ("question_answering", False, []),
        ("question_answering", True, [UNTUNED]),
        ("causal_lm", True, [UNTUNED]),
    ],
)
def test_baselines_are_those_of_the_task(head, own, expected):
    found = baselines(head, made(methods=["lora"]), {"minilm": own})
    assert [c.baseline for c in found] == expected
    assert [c.name for c in found] == expected


def test_each_model_has_its_own_embeddings():
    tuned = made(methods=["lora"], models=["minilm", "smollm2-135m"])
    found = baselines("sequence_classification", tuned, {"minilm": False, "smollm2-135m": False})
    assert [c.name for c in found][2:] == [f"{EMBEDDINGS}, minilm", f"{EMBEDDINGS}, smollm2-135m"]


@pytest.mark.parametrize(
    ("spec", "kind", "word"),
    [
        ({"grid": {"method.rang": [2]}}, ConfigError, "method.rang"),
        ({"grid": {"data.limit": [2]}}, ConfigErrors, "data.limit"),
        ({"grid": {"train.epochz": [2]}}, ConfigErrors, "epochs"),
        ({"grid": {"method.rank": []}}, ConfigErrors, "list"),
        ({"tune": {"method.rank": 4}}, ConfigErrors, "list"),
        ({"grid": {"method.rank": [2]}, "tune": {"method.rank": [4]}}, ConfigError, "method.rank"),
        ({"grid": {"task.text": ["title", "body"]}}, ConfigError, "other records"),
        ({"tune": {"task.label": ["a", "b"]}}, ConfigError, "other records"),
        ({"methods": ["lora", "lora"]}, ConfigError, "twice"),
        ({"methods": []}, ConfigErrors, "methods"),
        ({"folds": 1}, ConfigErrors, "folds"),
        ({"sizes": ["0"]}, ConfigErrors, "sizes"),
        ({"budget": "0s"}, ConfigErrors, "budget"),
    ],
    ids=str,
)
def test_a_mistake_names_its_key(spec, kind, word):
    with pytest.raises(kind) as error:
        made(**spec)
    assert word in str(error.value)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1.5 m", 90), ("2h", 7200)])
def test_budgets_are_times(text, seconds):
    assert parse(CompareSpec, {"budget": text}, "compare").seconds == seconds
