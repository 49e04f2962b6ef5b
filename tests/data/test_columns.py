"""Which column is which field, and what is said of it."""

import pickle

import pytest

from lightune.data.columns import ColumnError, Trained
from lightune.data.header import looks_like_header, normal
from lightune.data.load import load_records, load_splits
from lightune.data.spec import DataSpec
from lightune.errors import DataError


def test_named_columns_are_taken_and_several_texts_joined_by_a_line_break(write, load):
    path = write("a.csv", "topic,title,body\nx,T,B\ny,U,\n")
    made = load(path, {"text": ["title", "body"], "label": "topic"})
    assert [r.values["text"] for r in made.records] == ["T\nB", "U"]
    assert any("title + body, joined by a line break" in note for note in made.notes)


def test_one_column_per_class(write, load):
    path = write("a.csv", "text,toxic,rude\na,1,0\nb,1,1\nc,0,0\n")
    made = load(path, {"label": ["toxic", "rude"]})
    assert [r.values["label"] for r in made.records] == [["toxic"], ["toxic", "rude"], []]
    with pytest.raises(DataError, match=r":2: column 'text' does not hold 0 or 1"):
        load(path, {"text": "text", "label": ["toxic", "text"]})


def test_guesses_by_name_are_said_with_the_alternative(write, load):
    made = load(write("a.csv", "sentence,text,label\na,b,1\nc,d,0\n"))
    assert made.records[0].values["text"] == "b"
    assert any("text = column 'text' (also possible: sentence" in note for note in made.notes)


def test_pair(write, load):
    made = load(write("a.tsv", "Quality\t#1 String\t#2 String\n1\ta\tb\n0\tc\t\n"))
    assert made.records[0].values == {"text": "a", "text_pair": "b", "label": "1"}
    assert made.records[1].values["text_pair"] == ""


def test_guesses_by_content_are_said(write, load):
    rows = "".join(f"{i},{'AB'[i % 2]},a fairly long text number {i},short {i}\n" for i in range(9))
    made = load(write("a.csv", "k,v1,v2,v3\n" + rows))
    assert made.records[0].values == {"text": "a fairly long text number 0", "label": "A"}
    (note,) = [note for note in made.notes if "guessed from what they hold" in note]
    assert "label = 'v1'" in note
    assert "text = 'v2' (also possible: v3" in note


def test_a_column_serves_one_field(write, load):
    rows = "".join(f"{('yes', 'no')[i % 2]},{'ABC'[i % 3]}\n" for i in range(12))
    made = load(write("a.csv", "text,kind\n" + rows))
    assert made.records[0].values == {"text": "yes", "label": "A"}


def test_a_misspelt_name_goes_before_what_columns_hold(write, load):
    rows = "".join(f"{'AB'[i % 2]},{'xyz'[i % 3]},text of length {i}\n" for i in range(12))
    made = load(write("a.csv", "kind,labell,sentence\n" + rows))
    assert made.records[2].values["label"] == "z"
    assert any("label = 'labell'" in note for note in made.notes)


def test_two_label_columns_equally_good_are_both_named(write, load):
    rows = "".join(f"{'AB'[i % 2]},{'CD'[i % 2]},text of some length {i}\n" for i in range(8))
    (note,) = [n for n in load(write("a.csv", rows)).notes if "guessed from" in n]
    assert "label = 'column_1' (also possible: column_2" in note


@pytest.mark.parametrize(
    ("content", "columns", "need", "found", "mend"),
    [
        ("texts,label\na,1\nb,0\n", {"text": "text"}, "train", "texts, label", "`text: texts`"),
        ("text,label\na,1\nb,0\n", {"label": "zzz"}, "train", "text, label", "COLUMN"),
        ("id,remark,x\n1,a b,c\n2,d e,f\n", {}, "predict", "id, remark, x", "`text: remark`"),
        ("id,remark\n1,a b\n", {"text": "review"}, "predict", "id, remark", "COLUMN"),
        ("text\na\nb\n", {}, "train", "columns: text", "`label: text`"),
        ("a b,1\nc d,0\ne,1\n", {"text": "body"}, "train", "no header", "column_2"),
    ],
)
def test_absent_columns(write, load, content, columns, need, found, mend):
    with pytest.raises(DataError) as caught:
        load(write("a.csv", content), columns, need)
    assert "a.csv" in caught.value.problem
    assert found in caught.value.found
    assert mend in caught.value.mend


def test_new_texts_need_no_label_column(write, load):
    made = load(write("a.csv", "body,id\nhello,1\n"), {"text": "body", "label": "y"}, "predict")
    assert made.records[0].values == {"text": "hello"}


def test_normal():
    assert normal(" Sentence-1") == normal("sentence_1") == normal("SENTENCE 1")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([["label", "text"], ["1", "a"]], (True, True)),
        ([["v1", "v2"], ["ham", "hello there"], ["spam", "win"]], (True, False)),
        ([["ham", "hello"], ["spam", "win"], ["ham", "bye"], ["ham", "so"]], (False, True)),
        ([["3", "a title"], ["4", "another"]], (False, True)),
        ([["score", "remark"], ["3", "fine"], ["4", "good"]], (True, True)),
        ([["What a wonderful film this was!", "pos"], ["bad", "neg"]], (False, True)),
        ([["hello"], ["you"]], (False, True)),
        ([["label", "why?"], ["a", "x"], ["label", "y"], ["a", "z"], ["a", "v"]], (False, True)),
        ([["v1", "v2", ""], ["ham", "hello there", ""], ["spam", "win", ""]], (True, False)),
        ([["", "v1", "v2"], ["0", "ham", "hello there"], ["1", "spam", "win"]], (True, False)),
        ([["pos", "", "ok"], ["neg", "fine", "ok, then"]], (False, True)),
        ([["text"], ["you"]], (True, True)),
        ([["ham", "win"]], (False, True)),
    ],
)
def test_header_or_data(rows, expected):
    assert looks_like_header(rows, {"text", "label"}) == expected


TRAINED = Trained({"text": ["body"], "label": "y"})
"""What an earlier training read, for the tests below."""


@pytest.mark.parametrize(
    ("content", "need", "expected", "said"),
    [
        ("text,body,y\na,b,1\n", "predict", {"text": "b", "label": "1"}, ""),
        ("text,body\na,b\n", "predict", {"text": "b"}, ""),
        ("text,y\na,1\n", "predict", {"text": "a", "label": "1"}, "(training read 'body')"),
        ("review,label\na,1\n", "train", {"text": "a", "label": "1"}, "(training read 'y')"),
    ],
)
def test_later_files_are_read_as_training_was_where_they_can(
    write, fields, content, need, expected, said
):
    path = write("new.csv", content)
    records, notes = load_records(path, DataSpec(), fields, {}, need, trained=TRAINED)
    assert records[0].values == expected
    assert said in " ".join(notes)
    assert bool(notes) == bool(said)


def test_what_the_user_says_of_a_later_file_wins(write, fields):
    path = write("new.csv", "text,body,y\na,b,1\n")
    records, _ = load_records(
        path, DataSpec(), fields, {"text": "text"}, "predict", trained=TRAINED
    )
    assert records[0].values["text"] == "a"


def test_a_later_file_without_the_column_or_one_like_it(write, fields):
    path = write("new.csv", "id,bdy\n1,2\n")
    with pytest.raises(ColumnError, match="no column 'body' for `text`") as caught:
        load_records(path, DataSpec(), fields, {}, "predict", trained=TRAINED)
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.field, error.column, error.found) == ("text", "bdy", "columns: id, bdy")


def test_numbers_of_columns_say_nothing_of_another_file(write, fields):
    path = write("new.csv", "one text\nanother text\n")
    trained = Trained({"label": "column_1", "text": "column_2"})
    records, _ = load_records(path, DataSpec(), fields, {}, "predict", trained=trained)
    assert [r.values for r in records] == [{"text": "one text"}, {"text": "another text"}]


@pytest.mark.parametrize("need", ["train", "predict"])
def test_a_model_of_pairs_needs_pairs(write, fields, need):
    path = write("new.csv", "text,other,label\na,1,x\n")
    with pytest.raises(ColumnError, match="`text_pair`") as caught:
        load_records(path, DataSpec(), fields, {}, need, trained=Trained({}, ("text_pair",)))
    assert "text, other, label" in caught.value.found


def test_the_columns_read_are_in_the_report(write, fields):
    rows = "".join(f"text {i},{i % 2}\n" for i in range(10))
    named, bare = write("a.csv", "sentence,label\n" + rows), write("b.csv", rows)
    other = write("c.csv", "content,label\n" + rows.replace("text", "other"))

    def columns(train):
        return load_splits(DataSpec(train=train), fields, {}).report["columns"]

    assert columns(named) == {"text": ["sentence"], "label": ["label"]}
    assert columns([named, other]) == {"label": ["label"]}
    assert columns(bare) == {}
