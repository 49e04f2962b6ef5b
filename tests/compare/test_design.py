"""The plan of a comparison: which records count as one, however the folds are laid."""

import pytest
from small_runs import recipe, rows, write_csv

from lightune.compare.design import plan
from lightune.compare.spec import CompareSpec
from lightune.recipe import load_recipe


def planned(data, task="classification", **settings):
    return plan(load_recipe(recipe("minilm", data=data, task=task)), CompareSpec(**settings))


def table(tmp_path, times, count=40):
    """Return a file in which each text stands several times, with columns to part it by."""
    made = [row for row in rows(count=count) for _ in range(times)]
    more = [
        row | {"part": i // times // 2 % 4, "author": f"a{i // times // 2}"}
        for i, row in enumerate(made)
    ]  # fmt: skip
    return str(write_csv(tmp_path / f"times-{times}.csv", more))


@pytest.mark.parametrize("way", [{"folds": 4}, {"by": "part"}, {"time": "part", "folds": 2}])
def test_rows_of_one_text_count_as_one_whatever_the_folds(tmp_path, way):
    design = planned({"train": table(tmp_path, 3)}, **way)
    texts = [record.values["text"] for record in design.records]
    assert len(set(design.clusters)) == 40
    assert len(set(zip(texts, design.clusters, strict=True))) == 40
    assert planned({"train": table(tmp_path, 1)}, **way).clusters is None


def test_a_test_file_is_judged_by_text_too(tmp_path):
    test = str(write_csv(tmp_path / "test.csv", [r for r in rows(count=10) for _ in "12"]))
    train = [row | {"text": f"other {row['text']}"} for row in rows(count=20)]
    given = {"train": str(write_csv(tmp_path / "train.csv", train)), "test": test}
    design = planned(given)
    tested = [design.clusters[i] for i in design.folds[0].test]
    assert (len(tested), len(set(tested))) == (20, 10)


def test_groups_are_joined_by_what_texts_they_share(tmp_path):
    design = planned({"train": table(tmp_path, 2)}, group="author", folds=4)
    assert len(set(design.clusters)) == 20
    for fold in design.folds:
        sides = [{design.clusters[i] for i in part} for part in (fold.train, fold.test)]
        assert sides[0].isdisjoint(sides[1])


def test_questions_of_one_passage_count_as_one():
    made = [
        {"question": f"{word} {i}?", "context": f"the {i} film is good", "answers": [f"{i} film"]}
        for i in range(12)
        for word in ("what", "who", "which")
    ]
    design = planned(made, task="question_answering", folds=3)
    assert len(design.records) == 36
    assert len(set(design.clusters)) == 12


@pytest.mark.parametrize(
    "way", [{"group": "author", "folds": 4}, {"by": "part"}, {"time": "part", "folds": 2}]
)
def test_what_scores_a_training_is_not_drawn_from_what_is_tested(tmp_path, way):
    """A share drawn by text alone would hold rows of every group, and of every time."""
    design = planned({"train": table(tmp_path, 1), "validation": 0.2}, **way)
    assert not design.validation
    assert len(design.records) == 40
    assert any("data.validation is not used" in note for note in design.notes)
    assert planned({"train": table(tmp_path, 1), "validation": 0.2}, folds=4).validation


def test_nearly_equal_rows_on_both_sides_are_told():
    text = "the film about the old sea and a boat is good, number"
    pairs = [
        {"text": f"{text} {'x' * (i + 1)}{mark}", "label": ["neg", "pos"][i % 2]}
        for i in range(12)
        for mark in ("", " !")
    ]
    assert any("nearly the same words" in note for note in planned(pairs, folds=3).notes)
    assert not any("nearly" in note for note in planned(rows(count=24), folds=3).notes)
