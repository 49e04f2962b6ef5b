"""Data in memory: pandas, polars, datasets, Arrow, lists and dicts all give the same records."""

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from lightune.data.frames import read_frame
from lightune.data.spec import DataSpec
from lightune.errors import DataError

COLUMNS = {"text": ["good", "bad", None], "label": [1, 0, 1]}


@pytest.mark.parametrize(
    "source",
    [
        pd.DataFrame(COLUMNS),
        pd.DataFrame(COLUMNS, index=[7, 8, 9]),
        pd.DataFrame({**COLUMNS, "label": [1.0, 0.0, np.nan]}),
        pl.DataFrame(COLUMNS),
        pl.DataFrame(COLUMNS).lazy(),
        pa.table(COLUMNS),
        datasets.Dataset.from_dict(COLUMNS),
        datasets.DatasetDict({"test": datasets.Dataset.from_dict(COLUMNS)}),
        COLUMNS,
        [{"text": "good", "label": 1}, {"label": 0, "text": "bad"}, {"label": 1}],
    ],
    ids=lambda source: type(source).__name__,
)
def test_every_frame(load, source):
    spec = DataSpec(train=source)
    made = load(spec.train)
    assert [(r.values["text"], r.values["label"]) for r in made.records] == [
        ("good", "1"),
        ("bad", "0"),
    ]
    assert [r.place.line for r in made.records] == [1, 2]
    assert made.records[0].place.file.startswith("<")
    assert str(made.empty[0]).endswith(":3")
    assert spec.model_dump()["train"].startswith("<")
    assert len(load(source, need="predict").records) == 3


def test_missing_values_are_none():
    frame = pd.DataFrame({"a": [1.5, np.nan], "b": pd.array([1, None], dtype="Int64")})
    frame["c"] = pd.to_datetime(["2026-01-01", None])
    assert all(column[1] is None for column in read_frame(frame).columns.values())


def test_class_labels_go_by_their_names(load):
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    rows = {"text": ["a", "b", "c"], "label": [1, 0, -1]}
    made = load(datasets.Dataset.from_dict(rows, features=features))
    assert [r.values["label"] for r in made.records] == ["yes", "no"]
    assert len(made.unlabelled) == 1
    assert any("shown by their names" in note for note in made.notes)


def test_lists_of_class_labels(load):
    many = datasets.List(datasets.ClassLabel(names=["a", "b"]))
    features = datasets.Features({"text": datasets.Value("string"), "labels": many})
    rows = {"text": ["x", "y"], "labels": [[0, 1], []]}
    made = load(datasets.Dataset.from_dict(rows, features=features))
    assert [r.values["label"] for r in made.records] == [["a", "b"], []]


def test_parquet(load, tmp_path):
    pq.write_table(pa.table(COLUMNS), tmp_path / "a.parquet")
    made = load(str(tmp_path / "a.parquet"))
    assert [r.values["text"] for r in made.records] == ["good", "bad"]
    assert made.records[1].place.line == 2


def test_truncated_parquet(load, tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(COLUMNS), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        load(str(path))


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (pd.DataFrame({"text": [], "label": []}), "has no rows"),
        (pd.DataFrame([["a", "b"]], columns=["text", "text"]), "two columns are named"),
        ({"text": ["a"], "label": [1, 2]}, "differ in length"),
        ([{"text": "a", "label": 1}, "b"], "must be an object"),
    ],
)
def test_mistakes(load, source, problem):
    with pytest.raises(DataError, match=problem):
        load(source)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"train": 3}, "must name files"),
        ({"train": []}, "must name files"),
        ({"test": 1.5}, "at least 0 and below 1"),
        ({"test": 1}, "at least 0 and below 1"),
        ({"encoding": "utf8x"}, "no such encoding"),
        ({"delimiter": "::"}, "one character"),
        ({"limit": 0}, "greater than or equal to 1"),
        ({"columns": []}, "at least 1"),
    ],
)
def test_settings_are_checked(values, problem):
    with pytest.raises(ValidationError, match=problem):
        DataSpec(**values)


def test_settings_as_written(tmp_path):
    spec = DataSpec(train=[tmp_path / "a.csv"], test=0, delimiter="tab")
    assert spec.model_dump()["train"] == [str(tmp_path / "a.csv")]
    assert (spec.test, spec.delimiter) == (0.0, "\t")
    assert len(DataSpec.model_fields) <= 13


@pytest.mark.parametrize("form", [pd.DataFrame, lambda rows: rows])
def test_what_stands_deep_in_a_cell_is_plain(form):
    deep = {"a": np.float32(0.5), "b": [pd.NA, np.array([1, 2])], "c": float("nan")}
    rows = [{"x": deep, "y": np.array(["s", "t"])}, {"x": None, "y": np.float32("nan")}]
    found = read_frame(form(rows)).columns
    assert found == {
        "x": [{"a": 0.5, "b": [None, [1, 2]], "c": None}, None],
        "y": [["s", "t"], None],
    }
    assert type(found["x"][0]["b"][1][0]) is int
