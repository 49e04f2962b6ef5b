"""What cells are read as words, tags and spans, and which are none of these."""

import pytest

from lightune.data.kinds import tags, tokens


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (["B-PER", "O"], ["B-PER", "O"]),
        ("B-PER O", ["B-PER", "O"]),
        ('["B-PER", "O"]', ["B-PER", "O"]),
        ([3, 0], ["3", "0"]),
        ([[0, 3, "PER"]], [{"start": 0, "end": 3, "label": "PER"}]),
        ([{"start": 0, "end": 3, "type": "PER"}], [{"start": 0, "end": 3, "label": "PER"}]),
        (
            '[{"start": 0, "end": 3, "label": "PER", "text": "Ada", "id": 7}]',
            [{"start": 0, "end": 3, "label": "PER", "text": "Ada"}],
        ),
        ([], []),
        ("", None),
        (None, None),
    ],
)
def test_layouts_of_tags(cell, expected):
    assert tags(cell) == expected


@pytest.mark.parametrize(
    "cell",
    [
        *({"a": 1}, [1.5], [["x"]], [[0, 3, "PER"], "O"], [[0, 3, " "]], [[0, 3, ""]]),
        [{"start": "0", "end": 3, "label": "PER"}],
    ],
)
def test_cells_that_are_no_tags(cell):
    with pytest.raises(ValueError, match="tags, such as"):
        tags(cell)


def test_brackets_nested_without_end_are_read_as_they_stand():
    deep = "[" * 50_000
    assert tags(deep) == tokens(deep) == [deep]


@pytest.mark.parametrize("cell", [7, ["a", ""], [["a"]], {"a": 1}])
def test_cells_that_are_no_words(cell):
    with pytest.raises(ValueError, match="words, such as"):
        tokens(cell)
