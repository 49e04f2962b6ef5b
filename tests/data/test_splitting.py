"""Holding out: by label, by seed, and never one text on both sides."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from lightune.data.split import hold_out, text_key
from lightune.errors import DataError
from lightune.types import Place, Record


def make(pairs):
    return [
        Record({"text": text, "label": label}, Place("f.csv", line))
        for line, (text, label) in enumerate(pairs, start=2)
    ]


def many(**counts):
    return make((f"{label} {i}", label) for label, n in counts.items() for i in range(n))


def labels(records):
    return Counter(record.values["label"] for record in records)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 0.33])
def test_shares_per_label_are_those_of_scikit_learn(share):
    records = many(a=123, b=45, c=32)
    _, held = hold_out(records, share, 0)
    names = np.array([r.values["label"] for r in records])
    theirs = Counter(train_test_split(names, test_size=len(held), stratify=names)[1].tolist())
    assert len(held) == round(200 * share)
    assert all(abs(labels(held)[name] - theirs[name]) <= 1 for name in theirs)


def test_one_seed_one_split_another_seed_another():
    records = many(a=50, b=50)
    first, again, other = (hold_out(records, 0.2, seed) for seed in (0, 0, 1))
    assert first == again
    assert first[1] != other[1]


def test_order_is_kept_and_nothing_is_lost_or_doubled():
    records = many(a=20, b=30)
    rest, held = hold_out(records, 0.3, 5)
    assert sorted(rest + held, key=lambda r: r.place.line) == records
    assert [r.place.line for r in held] == sorted(r.place.line for r in held)


def test_rows_added_to_one_label_do_not_move_those_of_another():
    before = labels_held(many(a=40, b=40))
    after = labels_held(many(a=40, b=80))
    assert before["a"] == after["a"]


def labels_held(records):
    _, held = hold_out(records, 0.2, 0)
    return {k: [r.values["text"] for r in held if r.values["label"] == k] for k in "ab"}


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.sampled_from("abc")), min_size=4, max_size=60),
    st.floats(0.05, 0.6),
    st.integers(0, 3),
)
def test_never_one_text_on_both_sides(pairs, share, seed):
    records = make((f"text {i}", label) for i, label in pairs)
    rest, held = hold_out(records, share, seed, strict=False)
    assert not {text_key(r) for r in rest} & {text_key(r) for r in held}
    assert len(rest) + len(held) == len(records)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.sampled_from("abcd"), st.integers(2, 30), min_size=1))
def test_every_label_is_on_both_sides(counts):
    rest, held = hold_out(many(**counts), 0.1, 0)
    assert set(labels(rest)) == set(labels(held)) == set(counts)


def test_one_of_each_label_stays_however_large_the_share():
    rest, held = hold_out(many(a=2, b=3), 0.9, 0)
    assert labels(rest) == {"a": 1, "b": 1}
    assert labels(held) == {"a": 1, "b": 2}


def test_a_text_with_two_labels_goes_with_the_rarer():
    records = make([(f"t{i}", "a") for i in range(20)] + [("t0", "b"), ("u", "b")])
    rest, held = hold_out(records, 0.2, 0)
    assert "b" in labels(rest)
    assert "b" in labels(held)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ([("alone", "rare")], "has one row"),
        ([("alone", "rare"), ("alone", "rare")], "has one text"),
    ],
)
def test_a_label_that_cannot_be_on_both_sides(extra, words):
    records = make([(f"t{i}", "ab"[i % 2]) for i in range(10)] + extra)
    with pytest.raises(DataError) as caught:
        hold_out(records, 0.2, 0)
    assert caught.value.problem.startswith("f.csv:12: label 'rare'")
    assert words in caught.value.problem
    assert "alone" in caught.value.found
    assert "test: FILE" in caught.value.mend
    rest, held = hold_out(records, 0.2, 0, strict=False)
    assert "rare" in labels(rest)
    assert "rare" not in labels(held)


@pytest.mark.parametrize("label", [lambda i: [f"x{i}", "y"], lambda i: f"x{i}|y"])
def test_rare_sets_of_labels_are_drawn_together(label):
    records = make([(f"t{i}", label(i)) for i in range(20)])
    rest, held = hold_out(records, 0.2, 0)
    assert (len(rest), len(held)) == (16, 4)


def test_share_is_checked():
    with pytest.raises(ValueError, match="between 0 and 1"):
        hold_out(many(a=4), 1.0, 0)


def test_labels_that_stand_alone_may_be_no_labels():
    records = [Record({"text": f"t{i}", "label": f"id{i}"}, Place("a.csv", i)) for i in range(9)]
    with pytest.raises(DataError, match="has one row") as caught:
        hold_out(records, 0.2, 0)
    assert "task.label=COLUMN" in caught.value.mend


def test_one_question_with_two_answers_is_on_one_side():
    records = [
        Record({"prompt": f"question {i // 2}", "answer": f"answer {i}"}, Place("f.csv", i + 2))
        for i in range(40)
    ]
    rest, held = hold_out(records, 0.25, 0)
    assert not {r.values["prompt"] for r in rest} & {r.values["prompt"] for r in held}
    assert len(held) == 10
