"""Files, folders, globs and hub data sets: what a name stands for, and what is said of one that
leads nowhere."""

import pytest

from lightune import network
from lightune.data.hub import open_hub, split_for
from lightune.data.load import load_splits
from lightune.data.read import read_rows, read_tables
from lightune.data.sources import is_hub, role_of
from lightune.data.spec import DataSpec
from lightune.errors import DataError

ROWS = "text,label\n{0},1\n{0} too,0\n"


@pytest.fixture
def folder(write, tmp_path):
    for name in ("train", "dev", "test"):
        write(f"{name}.csv", ROWS.format(name))
    write("README.md", "# not data")
    return tmp_path


def texts(source, role=None, **spec):
    tables = read_tables(source, DataSpec(**spec), (), role)
    return [text for table in tables for text in table.columns["text"]]


def test_files_and_globs_in_order_each_file_once(folder):
    both = [f"{folder}/test.csv", f"{folder}/*.csv"]
    assert texts(both)[::2] == ["test", "dev", "train"]


@pytest.mark.parametrize(
    ("role", "expected"),
    [("train", ["train"]), ("test", ["test"]), ("validation", ["dev"]), (None, 3)],
)
def test_folder_files_play_the_roles_they_are_named_for(folder, role, expected):
    found = texts(str(folder), role)[::2]
    assert found == expected if role else len(found) == expected


def test_folder_without_role_names_is_taken_whole(write, tmp_path):
    write("d/b.csv", ROWS.format("b"))
    write("d/a.jsonl", '{"text": "a", "label": 1}\n')
    assert texts(str(tmp_path / "d"), "train") == ["a", "b", "b too"]


def test_files_in_subfolders_are_found_where_there_are_no_others(write, tmp_path):
    write("d/x/a.csv", ROWS.format("a"))
    assert texts(str(tmp_path / "d"))[0] == "a"


def test_read_rows_gives_rows_by_the_users_columns(write):
    path = write("a.csv", "text,label\nhi,1\n")
    (row,) = read_rows(path, DataSpec())
    assert row.values == {"text": "hi", "label": "1"}
    assert str(row.place) == f"{path}:2"


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("msr-para-train.tsv", "train"),
        ("in_domain_dev.tsv", "validation"),
        ("test.jsonl.gz", "test"),
        ("training.csv", "train"),
        ("latest.csv", None),
        ("train_10k.tsv", "train"),
    ],
)
def test_role_of(tmp_path, name, role):
    assert role_of(tmp_path / name) == role


@pytest.mark.parametrize(
    ("name", "problem", "found", "mend"),
    [
        ("trian.csv", "no such file", "dev.csv, empty", "train.csv`?"),
        ("nowhere/a.csv", "no such file", "'nowhere' in it does not", "check the path"),
        ("*.ndjson", "no file matches", "dev.csv", "pattern"),
        ("empty", "without data files", "nothing", "name a file"),
        ("notes.txt", "does not tell the format", "'.txt'", "format: csv"),
        ("rows.zip", "archives are not read", ".zip", "unpack"),
        ("a.parquet.gz", "through gzip", "", "gunzip"),
        ("bad.parquet", "cannot be read as Parquet", "", "write the file again"),
    ],
)
def test_mistakes(folder, write, name, problem, found, mend):
    (folder / "empty").mkdir()
    for file in ("notes.txt", "rows.zip", "a.parquet.gz", "bad.parquet"):
        write(file, "text,label\nx,1\n")
    with pytest.raises(DataError) as caught:
        read_tables(str(folder / name), DataSpec())
    assert problem in caught.value.problem
    assert found in caught.value.found
    assert mend in caught.value.mend


def test_data_in_memory_that_a_recipe_only_names():
    with pytest.raises(DataError, match="was data in memory"):
        read_tables("<DataFrame>", DataSpec())


@pytest.mark.parametrize(
    ("source", "hub"),
    [
        ("hf:stanfordnlp/imdb", True),
        ("hf:imdb", True),
        ("stanfordnlp/imdb", True),
        ("nyu-mll/glue:sst2#train", True),
        ("nowhere/train.csv", False),
        ("reviews.csv", False),
        ("lightune/nothing", False),  # its folder is here, so it is a mistyped path
    ],
)
def test_what_is_a_hub_address(source, hub, tmp_path, monkeypatch):
    (tmp_path / "lightune").mkdir()
    monkeypatch.chdir(tmp_path)
    assert is_hub(source) == hub


class TestHub:
    """The hub itself is replaced: tests run without network."""

    @pytest.fixture(autouse=True)
    def hub(self, monkeypatch):
        import datasets

        monkeypatch.setattr(network, "why_no_hub", lambda: "")
        open_hub.cache_clear()
        self.asked = []

        def load_dataset(name, config=None, revision=None):
            self.asked.append((name, config, revision))
            if "missing" in name:
                raise datasets.exceptions.DatasetNotFoundError(f"Dataset '{name}' doesn't exist")
            rows = {"train": ["a", "b", "d", "e"], "test": ["c"]}
            make = datasets.Dataset.from_dict
            return datasets.DatasetDict(
                {
                    k: make({"text": v, "label": ["x", "y", "x", "y"][: len(v)]})
                    for k, v in rows.items()
                }
            )

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        yield
        open_hub.cache_clear()

    @pytest.mark.parametrize(
        ("source", "role", "spec", "expected"),
        [
            ("hf:org/name", "train", {}, ["a", "b", "d", "e"]),
            ("hf:org/name", "test", {}, ["c"]),
            ("hf:org/name:cfg#train", "test", {}, ["a", "b", "d", "e"]),
            ("hf:org/name", "train", {"split": "test"}, ["c"]),
            ("hf:org/name", None, {}, ["c"]),
        ],
    )
    def test_splits(self, source, role, spec, expected):
        assert texts(source, role, revision="v1", **spec) == expected
        assert self.asked == [("org/name", "cfg" if ":cfg" in source else None, "v1")]

    @pytest.mark.parametrize(("source", "rows"), [("hf:org/name", 1), ("hf:org/name#train", 2)])
    def test_the_test_split_comes_along_unless_one_split_is_asked_for(self, source, rows, fields):
        assert len(load_splits(DataSpec(train=source), fields, {}).test) == rows
        assert len(self.asked) == 1

    def test_what_the_hub_says_is_passed_on(self):
        with pytest.raises(DataError, match="doesn't exist"):
            texts("hf:org/missing")

    def test_a_plain_name_is_asked_for_once_and_briefly(self, monkeypatch):
        import huggingface_hub

        def dataset_info(self, name, revision, timeout):
            raise ConnectionError("no route to host")

        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
        with pytest.raises(DataError, match="neither a file or folder here") as caught:
            texts("reviews/trian")
        assert "hf:reviews/trian" in caught.value.mend
        assert not self.asked

    @pytest.mark.parametrize("source", ["hf:org/name", "org/name"])
    def test_a_hub_out_of_reach_is_not_asked(self, source, monkeypatch, tmp_path, capfd):
        import datasets

        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
        monkeypatch.setattr(network, "why_no_hub", lambda: "offline: no route to host")
        with pytest.raises(DataError) as caught:
            texts(source)
        assert "no route to host" in caught.value.found
        assert caught.value.mend
        assert not self.asked
        assert capfd.readouterr() == ("", "")

    def test_what_was_fetched_before_is_read_without_the_hub(self, monkeypatch, tmp_path):
        import datasets

        (tmp_path / "org___name").mkdir()
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
        monkeypatch.setattr(network, "why_no_hub", lambda: "offline: no route to host")
        assert texts("hf:org/name") == ["c"]


def test_split_that_is_not_there():
    with pytest.raises(DataError, match="no split 'test'"):
        split_for(["train", "extra"], "test", "hf:x", None)
