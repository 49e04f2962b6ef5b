"""Which name a misspelt one stands for."""

import pytest

from lightune.errors import nearest, nearest_file

LAYERS = ("classifier", "dense", "query", "value", "q_proj")


@pytest.mark.parametrize(
    ("word", "names", "expected"),
    [
        ("labell", ("text", "label"), "label"),
        ("Q_Porj", LAYERS, "q_proj"),
        ("learning-rate", ("epochs", "learning_rate"), "learning_rate"),
        ("TEXT", ("text", "Text"), "text"),  # the first of names that read alike
        ("k_proj_weights", ("classifier", "dense"), None),
        ("zzz", LAYERS, None),
        ("x", (), None),
    ],
)
def test_nearest(word, names, expected):
    assert nearest(word, names) == expected


@pytest.mark.parametrize(
    ("name", "names", "expected"),
    [
        ("reviews.cvs", ("notes.txt", "reviews.csv"), "reviews.csv"),
        ("train.cvs", ("train.tsv", "train.csv"), "train.csv"),
        ("missing.csv", ("png.csv", "good.csv"), None),  # only the ending is alike
        (".hidden", (".hiden",), ".hiden"),
    ],
)
def test_nearest_file(name, names, expected):
    assert nearest_file(name, names) == expected
