"""Files of one word a line: what is a sentence, what is left out, which line is wrong."""

import pytest

from lightune.data.read import read_file
from lightune.data.spec import DataSpec
from lightune.errors import DataError


def read(tmp_path, content, name="d.conll", **spec):
    file = tmp_path / name
    file.write_bytes(content.encode())
    return read_file(file, DataSpec(train=str(file), **spec))


@pytest.mark.parametrize(
    ("content", "tokens", "tags", "lines"),
    [
        ("EU B-ORG\nsays O\n\nno O\n", [["EU", "says"], ["no"]], [["B-ORG", "O"], ["O"]], [1, 4]),
        ("EU\tB-ORG\r\nsays\tO\r\n", [["EU", "says"]], [["B-ORG", "O"]], [1]),
        ("\n\n \n北 B-LOC\n京 I-LOC\n\n\n", [["北", "京"]], [["B-LOC", "I-LOC"]], [4]),
        ("EU NNP B-NP B-ORG\nsays VBZ B-VP O\n", [["EU", "says"]], [["B-ORG", "O"]], [1]),
        ("-DOCSTART- O\n\nno O\n", [["no"]], [["O"]], [3]),
        ("# id 7\nno\tO\n#tag\tO\n", [["no", "#tag"]], [["O", "O"]], [2]),
        ("# a = b\nno O\n", [["no"]], [["O"]], [2]),
        ("a O\n\u3000 O\nb\xa0c   B-X \n", [["a", "\u3000", "b\xa0c"]], [["O", "O", "B-X"]], [1]),
        ("New York\tB-LOC\nis\tO\n", [["New York", "is"]], [["B-LOC", "O"]], [1]),
    ],
)
def test_sentences(tmp_path, content, tokens, tags, lines):
    table = read(tmp_path, content)
    assert table.columns == {"tokens": tokens, "tags": tags}
    assert list(table.lines) == lines


def test_words_alone_are_to_be_tagged(tmp_path):
    assert read(tmp_path, "EU\nsays\n\nno\n").columns == {"tokens": [["EU", "says"], ["no"]]}


def test_what_is_left_out_is_counted(tmp_path):
    content = "-DOCSTART- -X- O\n\n# first\nno NN O\n\n# second\nyes NN O\n"
    notes = read(tmp_path, content).notes
    assert "2 sentences" in notes[0]
    assert "of 3 cells a line the first and the last" in notes[0]
    assert [note.rpartition(": ")[2] for note in notes[1:]] == ["1", "2"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("EU B-ORG\nsays\nno O\n", "d.conll:2: the line has another number of cells"),
        ("EU\tB-ORG\nsays\t\n", "d.conll:2"),
        ("EU\tB-ORG\n\tO\n", "d.conll:2"),
        ("-DOCSTART- O\n", "holds no words"),
    ],
)
def test_a_bad_line_is_named(tmp_path, content, said):
    with pytest.raises(DataError) as error:
        read(tmp_path, content)
    assert said in error.value.problem
    assert error.value.mend


@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("d.txt", "no O\n", {"tokens", "tags"}),
        ("d.tsv", "no\tO\n\nyes\tO\n", {"tokens", "tags"}),
        ("d.tsv", "text\ttags\nno\tO\n", {"text", "tags"}),
        ("d.jsonl", '{"tokens": ["no"], "tags": ["O"]}\n', {"tokens", "tags"}),
    ],
)
def test_which_files_are_of_this_form(tmp_path, name, content, columns):
    assert read(tmp_path, content, name, format="conll").columns.keys() == columns
