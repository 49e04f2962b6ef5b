"""Which column is which field, and what is said of it."""

import pytest

from lightune.data.header import looks_like_header, normal
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
