"""Folds: balanced, shared, deterministic, and never one text, group or moment on both sides."""

import itertools
from collections import Counter

import pytest
from sklearn.model_selection import StratifiedKFold

from lightune.compare import folds
from lightune.compare.folds import Fold
from lightune.errors import ConfigError, DataError
from lightune.types import Place, Record


def records(labels, texts=None):
    texts = texts or [f"text {i}" for i in range(len(labels))]
    return [
        Record({"text": text} | ({"label": label} if label is not None else {}), Place("f", i + 2))
        for i, (label, text) in enumerate(zip(labels, texts, strict=True))
    ]


SKEWED = records(["a"] * 53 + ["b"] * 21 + ["c"] * 7)


def test_every_record_is_tested_once_and_labels_are_spread_as_scikit_learn_spreads_them():
    made = folds.stratified(SKEWED, 5, seed=0)
    assert sorted(i for fold in made for i in fold.test) == list(range(81))
    for fold in made:
        assert sorted(fold.train + fold.test) == list(range(81))
    names = [record.values["label"] for record in SKEWED]
    theirs = StratifiedKFold(5, shuffle=True, random_state=0).split(names, names)
    counts = [Counter(names[i] for i in test) for _, test in theirs]
    ours = [Counter(names[i] for i in fold.test) for fold in made]
    for label in "abc":
        assert sorted(c[label] for c in ours) == sorted(c[label] for c in counts)
    assert max(map(len, (f.test for f in made))) - min(map(len, (f.test for f in made))) <= 2


def test_the_seed_decides_the_folds_and_nothing_else_does():
    again = [folds.stratified(SKEWED, 4, seed=seed) for seed in (0, 0, 1)]
    assert again[0] == again[1] != again[2]


def test_one_text_stays_in_one_fold_whatever_its_labels():
    texts = [f"text {i // 3}" for i in range(60)]
    made = folds.stratified(records(["a", "b"] * 30, texts), 5, seed=0)
    for fold in made:
        assert {texts[i] for i in fold.train}.isdisjoint(texts[i] for i in fold.test)


def test_a_group_stays_in_one_fold_joined_with_those_that_share_a_text():
    groups = [i // 6 for i in range(60)]
    texts = [f"text {i}" for i in range(60)]
    texts[0] = texts[59] = "shared"  # joins the first group and the last
    made = folds.stratified(records(["a", "b"] * 30, texts), 3, seed=0, groups=groups)
    for fold in made:
        assert {groups[i] for i in fold.train}.isdisjoint(groups[i] for i in fold.test)
        assert (0 in fold.test) == (59 in fold.test)


def test_several_labels_at_once_are_each_spread():
    made = folds.stratified(records([["x"], ["x", "y"], ["y"], []] * 10), 5, seed=0)
    for fold in made:
        counts = Counter(
            label for i in fold.test for label in [["x"], ["x", "y"], ["y"], []][i % 4]
        )
        assert abs(counts["x"] - 4) <= 1
        assert abs(counts["y"] - 4) <= 1


DATES = [f"2026-{month:02d}-{day:02d}" for month in (1, 2) for day in range(1, 21)]


@pytest.mark.parametrize("moments", [list(range(40)), DATES], ids=["numbers", "dates"])
def test_ordered_folds_train_on_the_past(moments):
    made = folds.ordered(records(["a", "b"] * 20), 4, moments)
    assert [len(fold.test) for fold in made] == [8, 8, 8, 8]
    for fold in made:
        assert max(fold.train) < min(fold.test)


def test_a_number_of_hundreds_of_digits_is_a_mistake_that_is_named():
    with pytest.raises(DataError, match="neither a number nor a date"):
        folds.ordered(records(["a", "b"] * 4), 2, [10**400, *range(7)])


def test_records_of_one_moment_are_not_parted_and_a_tested_text_is_not_trained_on():
    moments = [0] * 10 + [1] * 12 + [2] * 8 + [3] * 10
    texts = [f"text {i}" for i in range(40)]
    texts[3] = texts[15]
    made = folds.ordered(records(["a", "b"] * 20, texts), 3, moments)
    assert [{moments[i] for i in fold.test} for fold in made] == [{1}, {2}, {3}]
    assert 3 not in made[0].train
    assert 3 in made[1].train


def test_a_column_of_folds_is_taken_as_it_is():
    names = ["2", "10", "1"] * 8
    made = folds.given(records(["a", "b"] * 12), names)
    assert [{names[i] for i in fold.test} for fold in made] == [{"1"}, {"2"}, {"10"}]


def test_a_given_test_set_takes_its_texts_out_of_training():
    train = records(["a", "b"] * 4)
    made = folds.one(train, records(["a", "b"], ["text 0", "new"]))
    assert made == Fold((1, 2, 3, 4, 5, 6, 7), (8, 9))


@pytest.mark.parametrize(
    "sizes", [["8", "20", "40", "all"], ["2/class", "5/class", "all"]], ids=str
)
def test_subsets_are_nested_and_have_every_label(sizes):
    train = list(range(81))
    parts = [set(folds.subset(SKEWED, train, size, "0/0/0")) for size in sizes]
    for small, large in itertools.pairwise(parts):
        assert small < large
    assert {SKEWED[i].values["label"] for i in parts[0]} == {"a", "b", "c"}
    assert parts[0] != set(folds.subset(SKEWED, train, sizes[0], "0/0/1"))
    if "/" not in sizes[0]:
        assert [len(part) for part in parts[:-1]] == [8, 20, 40]
        assert Counter(SKEWED[i].values["label"] for i in parts[2])["a"] == pytest.approx(26, abs=2)
    else:
        assert Counter(SKEWED[i].values["label"] for i in parts[0]) == {"a": 2, "b": 2, "c": 2}


BAD = {
    "fewer texts than folds": lambda: folds.stratified(records(["a", "b"], ["x", "x"]), 2, 0),
    "a label of one text": lambda: folds.stratified(records(["a"] * 9 + ["b"]), 3, 0),
    "a label of one group": lambda: folds.stratified(
        records(["a"] * 8 + ["b"] * 4), 3, 0, groups=[i // 2 for i in range(8)] + [9] * 4
    ),
    "no moments": lambda: folds.ordered(records(["a", "b"] * 4), 2, ["soon"] * 8),
    "one moment": lambda: folds.ordered(records(["a", "b"] * 4), 2, [5] * 8),
    "a column of one fold": lambda: folds.given(records(["a", "b"] * 4), [1] * 8),
    "a label that comes later": lambda: folds.ordered(
        records(["a"] * 4 + ["b"] * 4), 3, list(range(8))
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_parted_is_said(name):
    with pytest.raises(DataError) as error:
        BAD[name]()
    assert error.value.mend


@pytest.mark.parametrize("size", ["2", "82", "8/class"])
def test_a_size_that_cannot_be_had_is_refused(size):
    with pytest.raises(ConfigError, match="--sizes"):
        folds.subset(SKEWED, range(81), size, "0")
