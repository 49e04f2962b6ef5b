"""Labels as words, and rows that cannot be used: counted, said, or refused."""

from dataclasses import replace

import numpy as np
import pytest

from lightune.data.read import read_tables
from lightune.data.records import label_of, make_records, split_labels
from lightune.data.report import describe_split
from lightune.data.spec import DataSpec
from lightune.errors import DataError
from lightune.types import Place, Record
from tests.data.conftest import Field


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("spam", "spam"),
        (" spam ", "spam"),
        (1, "1"),
        (1.0, "1"),
        ("1.0", "1"),
        (2.5, "2.5"),
        (-1.0, "-1"),
        (True, "true"),
        ("True", "true"),
        ("FALSE", "false"),
        (np.float64(3.0), "3"),
        (None, None),
        ("", None),
        ("  ", None),
        (float("nan"), None),
        (["b", "a", "b"], ["b", "a"]),
        ([1, 2.0, True], ["1", "2", "true"]),
        ([], []),
        ({"b", "a"}, ["a", "b"]),
    ],
)
def test_label_of(value, expected):
    assert label_of(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a|b", ["a", "b"]),
        (" a | b|a", ["a", "b"]),
        ("", []),
        (["a"], ["a"]),
        (None, None),
        (1, ["1"]),
    ],
)
def test_split_labels(value, expected):
    assert split_labels(value) == expected


def test_unusable_rows_are_left_out_counted_and_said(write, load):
    path = write("a.csv", "text,label\na,1\n  ,1\nb,\nc,0\n")
    made = load(path)
    assert [r.place.line for r in made.records] == [2, 5]
    assert [p.line for p in made.empty] == [3]
    assert [p.line for p in made.unlabelled] == [4]
    assert made.rows == 4
    assert any(f"an empty text: 1 ({path}:3)" in note for note in made.notes)
    assert any(f"no label: 1 ({path}:4)" in note for note in made.notes)


def test_predictions_keep_every_row(write, load):
    made = load(write("a.csv", "text,label\na,1\n,\nb,0\n"), need="predict")
    assert [r.values.get("text") for r in made.records] == ["a", "", "b"]
    assert "label" not in made.records[1].values


def test_numbers_as_texts_are_words(load):
    made = load([{"text": 12, "label": True}, {"text": 0.5, "label": False}])
    assert [r.values for r in made.records] == [
        {"text": "12", "label": "true"},
        {"text": "0.5", "label": "false"},
    ]


@pytest.mark.parametrize("multi", [True, None])
def test_multi_label(write, load, multi):
    made = load(write("a.csv", "text,label\nx,a|b\ny,\nz,b|c\n"), multi=multi)
    assert [r.values["label"] for r in made.records] == [["a", "b"], [], ["b", "c"]]
    assert any("none of the classes: 1" in note for note in made.notes)


def test_one_label_with_a_bar_among_many_is_one_name(write, load):
    made = load(write("a.csv", "text,label\nx,a|b\ny,a\nz,c\n"))
    assert [r.values["label"] for r in made.records] == ["a|b", "a", "c"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("text,label\n,1\n  ,0\n", "every text is empty"),
        ("text,label\na,\nb,\n", "no row has a label"),
    ],
)
def test_nothing_left(write, load, content, problem):
    with pytest.raises(DataError, match=problem):
        load(write("a.csv", content))


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"text": ["a"], "label": 1}, "does not hold a text"),
        ({"text": "a", "label": {"x": 1}}, "does not hold a label"),
    ],
)
def test_cells_of_the_wrong_type(load, row, problem):
    with pytest.raises(DataError, match=rf"<list>:1: column .* {problem}"):
        load([row], {"label": "label"})


TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


@pytest.mark.parametrize(
    ("cell", "kept"), [(TURNS, 1), (None, 0), ("", 0), (float("nan"), 0), ("[]", 1)]
)
def test_a_conversation_beside_an_empty_text_is_no_empty_row(cell, kept):
    fields = Field("messages", ("messages",), "turns", False), Field("system", ("system",))
    fields = fields[0], replace(fields[1], needed_to_train=False)
    rows = [{"messages": TURNS, "system": "x"}, {"messages": cell, "system": ""}]
    made = make_records(read_tables(rows, DataSpec(), set()), fields, {})
    assert (len(made.records), len(made.empty)) == (1 + kept, 1 - kept)


def test_a_report_counts_what_is_read_of_conversations_and_not_what_is_learnt():
    values = {"messages": TURNS, "system": "xyz", "target": "long " * 9, "answer": "long"}
    split = describe_split([Record(values, Place("d", 1))])
    assert (split["empty_texts"], split["characters"]["max"]) == (0, 5)
