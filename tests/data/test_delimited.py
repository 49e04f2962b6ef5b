"""CSV and TSV: header, quoting and delimiter as guessed, lines as an editor shows them."""

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightune.data.delimited import read_delimited
from lightune.data.spec import DataSpec
from lightune.errors import DataError

ROOT = Path(__file__).parents[2]


def rows(made):
    return [(r.values.get("text"), r.values.get("label"), r.place.line) for r in made.records]


@pytest.mark.parametrize(
    ("name", "content", "spec"),
    [
        ("a.csv", "text,label\ngood,1\nbad,0\n", {}),
        ("a.csv", "label,text\r\n1,good\r\n0,bad\r\n", {}),
        ("a.csv", "\ufefflabel,text\n1,good\n0,bad", {}),
        ("a.csv", "text;label\ngood;1\nbad;0\n", {}),
        ("a.csv", "text|label\ngood|1\nbad|0\n", {"delimiter": "pipe"}),
        ("a.txt", "text\tlabel\ngood\t1\nbad\t0\n", {"format": "tsv"}),
        ("a.tsv", "Sentence\tLABEL\ngood\t1\nbad\t0\n", {}),
        ("a.csv", ",text,label\n0,good,1\n1,bad,0\n", {}),  # the index of a pandas frame
        ("a.csv", '"text","label"\n"good","1"\n"bad","0"\n', {}),
        ("a.csv", "text,label\rgood,1\rbad,0\r", {}),
    ],
)
def test_headers_delimiters_and_marks(write, load, name, content, spec):
    assert rows(load(write(name, content), **spec)) == [("good", "1", 2), ("bad", "0", 3)]


@pytest.mark.parametrize(
    ("content", "spec"),
    [
        ("ham,hello you\nspam,win a prize\nham,see you\nspam,call now\n", {}),
        ("1,hello you\n2,win a prize\n1,see you\n2,call now\n", {}),
        ("ham,hello you\nspam,win a prize\n", {"header": False}),
        ("ham,hello you\nspam,win a prize\n", {"columns": ["label", "text"]}),
    ],
)
def test_no_header(write, load, content, spec):
    made = load(write("a.csv", content), **spec)
    assert [r.values["text"] for r in made.records[:2]] == ["hello you", "win a prize"]
    assert made.records[0].place.line == 1
    if not spec:
        assert any("no header" in note for note in made.notes)


def test_columns_rename_a_header_that_is_there(write, load):
    path = write("a.csv", "a,b\n1,x y\n0,z w\n")
    assert rows(load(path, header=True, columns=["label", "text"])) == [
        ("x y", "1", 2),
        ("z w", "0", 3),
    ]


def test_lines_are_physical_also_after_quoted_line_breaks_and_blank_lines(write, load):
    path = write("a.csv", 'text,label\n"one\ntwo\r\nthree",1\n\n"a ""b"", c",0\nlast,1\n')
    made = load(path)
    assert rows(made) == [("one\ntwo\r\nthree", "1", 2), ('a "b", c', "0", 6), ("last", "1", 7)]
    assert any("blank lines passed over: 1" in note for note in made.notes)


def test_blank_line_in_a_file_of_one_column_is_a_row(write, load):
    path = write("a.csv", "text\nfirst\n\nthird\n")
    assert rows(load(path, need="predict")) == [
        ("first", None, 2),
        ("", None, 3),
        ("third", None, 4),
    ]


def test_tsv_with_bare_quotes_loses_no_row(write, load):
    # Read as quoting, the second row swallows the third and the fourth.
    path = write("a.tsv", 'label\ttext\nham\t"so he said\nham\thi\nspam\twin" now"\n')
    made = load(path)
    assert [t for t, _, _ in rows(made)] == ['"so he said', "hi", 'win" now"']
    assert any("quoting off" in note for note in made.notes)


def test_tsv_whose_quotes_pair_up_by_chance_loses_no_row(write, load):
    path = write("a.tsv", 'label\ttext\nham\t"so he said\nham\thi\nspam\tand then"\nham\tbye\n')
    assert len(load(path).records) == 4


def test_tsv_with_real_quoting_is_unquoted(write, load):
    path = write("a.tsv", 'text\tlabel\n"a ""b""\nc"\tx\nd\ty\n')
    assert rows(load(path)) == [('a "b"\nc', "x", 2), ("d", "y", 4)]


def test_quotes_behind_a_blank_are_quotes(write, load):
    path = write("a.csv", 'label, text\n1, "one, two"\n"0", "say ""so"""\n')
    assert rows(load(path)) == [("one, two", "1", 2), ('say "so"', "0", 3)]


def test_quotes_behind_a_backslash_are_said(write, load):
    made = load(write("a.csv", 'text,label\n"say \\"a, b\\"",1\n"c",0\n'))
    assert rows(made) == [('say "a, b"', "1", 2), ("c", "0", 3)]
    assert any("inside a cell" in note for note in made.notes)


def test_csv_with_an_open_quote_but_clean_lines(write, load):
    made = load(write("a.csv", 'text,label\n"a,1\nb,0\n'))
    assert rows(made) == [('"a', "1", 2), ("b", "0", 3)]
    assert any("quoting off" in note for note in made.notes)


def test_quoting_may_be_said(write, load):
    path = write("a.tsv", 'text\tlabel\n"a"\tx\nb\ty\n')
    assert rows(load(path, quoting=False))[0][0] == '"a"'
    assert rows(load(path))[0][0] == "a"


def test_gzip(write, load):
    path = write("a.csv.gz", gzip.compress(b"text,label\ngood,1\nbad,0\n"))
    assert rows(load(path)) == [("good", "1", 2), ("bad", "0", 3)]


def test_cells_longer_than_the_csv_module_allows(write, load):
    limit = csv.field_size_limit(1000)
    long = "x" * 200_000
    assert load(write("a.csv", f"text,label\n{long},1\nb,0\n")).records[0].values["text"] == long
    assert csv.field_size_limit(limit) == 1000


@pytest.mark.parametrize(
    ("name", "content", "spec", "where", "found"),
    [
        ("a.csv", "text,label\na,1\nb,1,2\nc,0\n", {}, "a.csv:3", "3 cells where 2"),
        ("a.csv", 'text,label\n"a\nb",1\nb\nc,0\n', {}, "a.csv:4", "1 cell where 2"),
        ("a.tsv", "x\ty\tz\n1\t2\n3\t4\n", {}, "a.tsv:1", "3 cells where 2"),
        ("a.csv", 'text,label\na,1\n"b,1\nc,\n', {"quoting": True}, "a.csv:3", "never closes"),
        ("a.csv", 'text,label\na,1\n"b" c,1\n', {"quoting": True}, "a.csv:3", "expected after"),
        ("a.csv", "text,label\n", {}, "a.csv", "columns: text, label"),
        ("a.csv", "text,text\na,b\n", {}, "a.csv:1", "text, text"),
        ("a.csv", "a,b\n1,2\n", {"columns": ["x"]}, "a.csv:1", "2 cells"),
    ],
)
def test_mistakes(write, load, name, content, spec, where, found):
    with pytest.raises(DataError) as caught:
        load(write(name, content), **spec)
    assert where in caught.value.problem
    assert found in caught.value.found
    assert caught.value.mend


def test_all_messages_of_the_bundled_sms_spam_survive(load):
    made = load(str(ROOT / "examples" / "data" / "sms_spam.tsv"))
    assert len(made.records) == 5574
    assert sum(r.values["label"] == "spam" for r in made.records) == 747
    fifth = made.records[4]
    assert fifth.values["text"].endswith("around he\nre though")
    assert (fifth.place.line, made.records[5].place.line) == (5, 7)


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r\0\ufeff"), max_size=20)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8))
def test_what_the_csv_module_writes_is_read_back_with_its_lines(written):
    buffer, lines = io.StringIO(newline=""), []
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(["text", "label"])
    for row in written:
        lines.append(buffer.getvalue().count("\n") + 1)
        writer.writerow(row)
    table = read_delimited(buffer.getvalue(), "f", "csv", DataSpec(header=True))
    assert list(zip(*table.columns.values(), strict=True)) == written
    assert list(table.lines) == lines


@settings(max_examples=300, deadline=None)
@given(st.text('ab",;\t\n\r|', max_size=40), st.sampled_from(["csv", "tsv"]))
def test_any_text_is_a_table_or_a_data_error(text, format):
    if not text.strip():
        return
    try:
        table = read_delimited(text, "f", format, DataSpec())
    except DataError:
        return
    assert all(len(column) == len(table) for column in table.columns.values())
