"""Order of labels, several labels in one cell, and columns that are no labels."""

from collections import Counter

import pytest

from lightune.errors import DataError
from lightune.tasks import labels
from lightune.types import Place, Record


def records(*cells):
    return [Record({"text": "x", "label": c}, Place("d.csv", i + 2)) for i, c in enumerate(cells)]


@pytest.mark.parametrize(
    "expected",
    [
        ["-1", "0", "0.5", "2", "10"],
        ["class 2", "class 10", "class 010"][:2],
        ["false", "true"],
        ["1", "2", "10", "a", "B", "c"],
        ["v1.2", "v1.10"],
        ["体育", "财经"],
        ["x" + "9" * 5000, "x1" + "0" * 5000],
        ["x", "²"],
        ["nan", "x"],
    ],
)
def test_order_is_natural_and_independent_of_the_rows(expected):
    assert labels.natural_order(expected) == expected
    assert labels.natural_order([*reversed(expected), expected[0]]) == expected


def test_order_is_total():
    names = ["a1", "a01", "A1", "1", "1.0", "01", "", " "]
    assert labels.natural_order(names) == labels.natural_order(names[::-1])


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("a|b", ["a", "b"]),
        ("b | a|b||", ["b", "a"]),
        ("a", ["a"]),
        ("", []),
        ([], []),
        (["a", "a", 1], ["a", "1"]),
    ],
)
def test_cells_with_several_labels(cell, expected):
    assert labels.label_names(cell) == expected


@pytest.mark.parametrize(
    ("cells", "multi", "said"),
    [
        (["a", "b"], False, ""),
        (["a|b", "b|c", "c"], True, "2 of 3"),
        (["a|b", "b", "c"], False, "1 of 3"),
        (["a|b", "b"], False, "1 of 2"),
        ([["a"], ["b", "c"], []], True, "3 of 3"),
        (["a|b", "b|c", None, ""], True, "2 of 2"),
    ],
)
def test_multi_label_needs_a_clear_majority_and_is_said(cells, multi, said):
    decided, note = labels.looks_multi_label(records(*cells))
    assert decided is multi
    assert said in note
    assert bool(note) == bool(said)


@pytest.mark.parametrize(
    ("cells", "refused"),
    [
        ([f"id{i}" for i in range(300)], "text or ids"),
        ([f"this film was number {i} of them" for i in range(40)], "text or ids"),
        ([f"{i / 7:.3f}" for i in range(40)], "numbers to be estimated"),
        ([f"intent {i % 150}" for i in range(600)], None),
        ([f"intent {i}" for i in range(77)], None),
        (["a long name of a class", "another one of these names"] * 3, None),
        ([f"{i}.5" for i in range(5)] * 2, None),
    ],
)
def test_columns_that_are_no_labels(cells, refused):
    rows = records(*cells)
    if refused is None:
        labels.refuse_free_text(Counter(cells), rows)
        return
    with pytest.raises(DataError) as error:
        labels.refuse_free_text(Counter(cells), rows)
    assert refused in error.value.problem
    assert f"{len(rows)} rows" in error.value.found
    assert "task.label=COLUMN" in error.value.mend


@pytest.mark.parametrize("cell", [None, "", "  ", ["a", "b"], []])
def test_exactly_one_label_is_needed(cell):
    with pytest.raises(DataError, match=r"d\.csv:2"):
        labels.single_name(records(cell)[0])


def test_a_list_of_one_is_one_label():
    assert labels.single_name(records(["a"])[0]) == "a"


def test_unknown_label_names_place_nearest_and_how_many_more():
    error = labels.unknown_label("spma", records("spma")[0], ["ham", "spam"], more=2)
    assert (
        error.problem == "d.csv:2: the label 'spma' is not among those trained (and 2 further rows)"
    )
    assert error.mend.startswith("did you mean 'spam'?")
