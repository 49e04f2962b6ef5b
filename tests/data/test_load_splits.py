"""From the recipe's section to train, validation and test; which comes from where is said."""

import json

import pandas as pd
import pytest

from lightune.data.load import load_records, load_splits
from lightune.data.report import add_lengths, render
from lightune.data.spec import DataSpec
from lightune.errors import DataError

CSV = "text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(100))


@pytest.fixture
def splits(fields):
    return lambda want=False, columns=None, seed=0, **spec: load_splits(
        DataSpec(**spec), fields, columns or {}, seed, want
    )


def sizes(found):
    return len(found.train), len(found.validation), len(found.test)


def test_a_fifth_is_held_out_and_said(write, splits):
    found = splits(train=write("a.csv", CSV))
    assert sizes(found) == (80, 0, 20)
    assert any("test: 20 of 100 rows held out (20%), by label" in n for n in found.notes)
    again = splits(train=write("a.csv", CSV))
    assert found == again
    assert splits(train=write("a.csv", CSV), seed=1).test != found.test


@pytest.mark.parametrize(
    ("spec", "want", "expected"),
    [
        ({"test": 0.1}, False, (90, 0, 10)),
        ({"test": 0}, False, (100, 0, 0)),
        ({"test": 0}, True, (90, 10, 0)),
        ({"test": 0.2, "validation": 0.25}, False, (60, 20, 20)),
        ({}, True, (72, 8, 20)),
        ({"limit": 30}, True, (27, 3, 20)),
        ({"limit": 30}, False, (30, 0, 20)),
    ],
)
def test_shares(write, splits, spec, want, expected):
    assert sizes(splits(want, train=write("a.csv", CSV), **spec)) == expected


def test_given_files(write, splits):
    found = splits(
        True,
        train=write("a.csv", CSV),
        test=write("b.csv", "content,label\ntext 1,b\ntext 1,b\nnew,a\nnew,b\n"),
        validation=write("c.csv", "sentence,class\nval,a\n"),
    )
    assert sizes(found) == (100, 1, 4)
    assert found.report["overlap"]["train/test"] == {"texts": 1, "rows": 2}
    assert "texts that train has too: 2 rows of test" in found.notes
    assert found.report["splits"]["test"]["conflicting_texts"] == 1


def test_frames(splits):
    frame = pd.DataFrame({"text": [f"t{i}" for i in range(10)], "label": ["a", "b"] * 5})
    assert sizes(splits(train=frame, test=frame[:3], validation=frame[3:4])) == (10, 1, 3)


def test_the_split_a_folder_brings_is_used(write, splits, tmp_path):
    write("d/train.csv", CSV)
    write("d/test.csv", "text,label\nnew,a\nnewer,b\n")
    write("d/dev.csv", "text,label\nval,a\n")
    found = splits(True, train=str(tmp_path / "d"))
    assert sizes(found) == (100, 1, 2)
    assert any("test.csv, which came with the training data" in note for note in found.notes)
    assert sizes(splits(False, train=str(tmp_path / "d"), test=0.5)) == (50, 0, 50)


@pytest.mark.parametrize("hidden", ["qid,text\n1,new\n2,newer\n", "text,label\nnew,\nnewer,\n"])
def test_a_test_split_without_labels_is_passed_over(write, splits, tmp_path, hidden):
    write("d/train.csv", CSV)
    write("d/test.csv", hidden)
    found = splits(train=str(tmp_path / "d"))
    assert sizes(found) == (80, 0, 20)
    assert any("is not used as test" in note for note in found.notes)


def test_a_damaged_test_split_is_not_passed_over(write, splits, tmp_path):
    write("d/train.csv", CSV)
    write("d/test.csv", "text,label\nnew,a\nnewer,b,c\n")
    with pytest.raises(DataError, match=r"test.csv:3"):
        splits(train=str(tmp_path / "d"))


def test_repeated_texts_stay_on_one_side_and_that_is_said(write, splits):
    path = write("a.csv", CSV + "text 1,b\ntext 1,b\n")
    found = splits(train=path)
    sides = [any(r.values["text"] == "text 1" for r in side) for side in (found.train, found.test)]
    assert sorted(sides) == [False, True]
    assert any("repeated texts (2 rows)" in note for note in found.notes)
    assert found.report["overlap"]["train/test"]["texts"] == 0


def test_a_class_with_one_row(write, splits):
    path = write("a.csv", CSV + "alone,c\n")
    with pytest.raises(DataError, match=r"a.csv:102: label 'c' has one row"):
        splits(train=path)
    # Two rows can be trained and tested on; that validation lacks the label stops nobody.
    assert sizes(splits(True, train=write("a.csv", CSV + "one,c\ntwo,c\n")))[1] > 0


def test_several_labels_by_their_look_need_no_setting(write, splits):
    rows = "".join(f"text {i},a|x{i}\n" for i in range(20))
    found = splits(train=write("a.csv", "text,label\n" + rows))
    assert sizes(found) == (16, 0, 4)
    assert found.train[0].values["label"][0] == "a"
    test = write("b.csv", "text,label\nnew,a\nnewer,\n")
    given = splits(train=write("a.csv", "text,label\n" + rows), test=test)
    assert [r.values["label"] for r in given.test] == [["a"], []]


def test_too_few_rows(write, splits):
    with pytest.raises(DataError, match=r"too few rows|has one row"):
        splits(train=write("a.csv", "text,label\na,1\n"))


def test_nothing_to_train_on(splits):
    with pytest.raises(DataError, match="nothing to train on"):
        splits()


def test_scoring_a_file_takes_the_rows_that_training_tested_on(write, splits, fields):
    train, test = write("a.csv", CSV), write("b.csv", "text,label\nnew,a\n,b\nnewer,\nold,b\n")
    tested = splits(train=train, test=test).test
    scored, notes = load_records(test, DataSpec(), fields, {})
    assert scored == tested
    assert len(notes) == 3
    assert len(load_records(test, DataSpec(), fields, {}, "predict")[0]) == 4


def test_scoring_a_folder_takes_its_test_files(write, fields, tmp_path):
    write("d/train.csv", CSV)
    write("d/test.csv", "text,label\nnew,a\n")
    assert len(load_records(str(tmp_path / "d"), DataSpec(), fields, {})[0]) == 1
    assert len(load_records(str(tmp_path / "d"), DataSpec(), fields, {}, "predict")[0]) == 101


def test_report_counts_and_survives_json(write, splits):
    path = write("a.csv", CSV + "text 1,a\n,a\nx,\ntext 4,a\n")
    report = json.loads(json.dumps(splits(train=path, test=0).report))
    train = report["splits"]["train"]
    assert train["rows_read"] == 104
    assert train["rows"] == 102
    assert (train["empty_texts"], train["missing_labels"]) == (1, 1)
    assert (train["duplicate_texts"], train["conflicting_texts"]) == (2, 1)
    assert train["conflicting_examples"] == [[f"{path}:3", f"{path}:102"]]
    assert train["labels"] == {"a": 52, "b": 50}
    assert train["imbalance_ratio"] == pytest.approx(52 / 50)
    assert train["characters"] == {"min": 6, "median": 7, "p95": 7, "max": 7}
    assert train["files"] == [path]


def test_report_tells_other_rows_by_their_hash(write, splits):
    first, again = (splits(train=write("a.csv", CSV), test=0).report for _ in range(2))
    other = splits(train=write("a.csv", CSV.replace("text 7,b", "text 7,a")), test=0).report
    hashes = [r["splits"]["train"]["sha256"] for r in (first, again, other)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_lengths_and_lines_for_people(write, splits):
    report = splits(train=write("a.csv", CSV + "x,a\n" * 3), test=0).report
    add_lengths(report, "train", [8] * 102 + [4], 8, [0] * 100 + [5, 7, 0])
    tokens = report["splits"]["train"]["tokens"]
    assert (tokens["truncated_rows"], tokens["tokens_lost"], tokens["max"]) == (2, 12, 15)
    assert tokens["tokens_lost_share"] == pytest.approx(12 / (102 * 8 + 4 + 12))
    text = "\n".join(render(report))
    assert "train: 103 rows; a 53, b 50" in text
    assert "2 repeat another row's text" in text
    assert "2 rows cut at 8 (1.4% of all tokens lost)" in text
