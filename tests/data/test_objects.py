"""JSON and JSON lines, with the line every row starts on."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightune.data.objects import read_json, read_jsonl
from lightune.errors import DataError


def rows(made):
    return [(r.values["text"], r.values["label"], r.place.line) for r in made.records]


@pytest.mark.parametrize(
    ("name", "content", "lines"),
    [
        ("a.json", '[{"text": "x", "label": 1},\n\n {"label": 0,\n  "text": "y"}]', (1, 3)),
        ("a.json", '{"data": [\n{"text": "x", "label": 1}, {"text": "y", "label": 0}]}', (2, 2)),
        (
            "a.json",
            '{"version": [1], "rows": [\n{"text":"x","label":1},\n{"text":"y","label":0}]}\n',
            (2, 3),
        ),
        ("a.json", '{"text": "x", "label": 1}\n{"text": "y", "label": 0}\n', (1, 2)),
        ("a.jsonl", '{"text": "x", "label": 1}\r\n\r\n{"text": "y", "label": 0}\r\n', (1, 3)),
        ("a.ndjson", '\ufeff{"text": "x", "label": 1.0}\n{"text": "y", "label": "0"}', (1, 2)),
    ],
)
def test_shapes(write, load, name, content, lines):
    assert rows(load(write(name, content))) == [("x", "1", lines[0]), ("y", "0", lines[1])]


def test_json_lines_in_a_json_file_are_said(write, load):
    path = write("a.json", '{"text": "x", "label": 1}\n{"text": "y", "label": 0}\n')
    assert any("JSON lines" in note for note in load(path).notes)


@pytest.mark.parametrize(
    ("name", "content", "spec", "where", "found"),
    [
        ("a.json", '[{"text": "x"},\n {"text": y}]', {}, "a.json:2", "Expecting value"),
        ("a.json", '[{"text": "x"}\n {"text": "y"}]', {}, "a.json:2", "expected ','"),
        ("a.json", '[{"text": "x"},\n', {}, "a.json:2", "end of the file"),
        ("a.json", '[{"text": "x"}]\n]', {}, "a.json:2", "more text"),
        ("a.json", '[{"text": "x"},\n "y"]', {}, "a.json:2", "str: 'y'"),
        ("a.json", '{"text": "x"}', {}, "a.json", "text"),
        ("a.json", "[]", {}, "a.json", "empty list"),
        ("a.json", '{"a": [{"t": 1}], "b": [{"t": 1}]}', {}, "a.json", "a, b"),
        ("a.json", "hello", {}, "a.json:1", "neither"),
        ("a.json", "[" * 100_000, {}, "a.json:1", "nested too deep"),
        ("a.json", f"[{'1' * 5000}]", {}, "a.json:1", "digits"),
        ("a.json", '{"text": "x"}\n{"text": "y"}', {"format": "json"}, "a.json:2", "more text"),
        ("a.jsonl", '{"text": "x"}\n{"text": "y"\n', {}, "a.jsonl:2", "delimiter"),
        ("a.jsonl", '{"text": "x"}\n["y"]\n', {}, "a.jsonl:2", "list"),
        ("a.jsonl", '[\n{"text": "x"}\n]\n', {}, "a.jsonl:1", "Expecting"),
        ("a.jsonl", f'{{"text": "x"}}\n{"[" * 100_000}', {}, "a.jsonl:2", "nested too deep"),
    ],
)
def test_mistakes(write, load, name, content, spec, where, found):
    with pytest.raises(DataError) as caught:
        load(write(name, content), **spec)
    assert where in caught.value.problem
    assert found in caught.value.found
    assert caught.value.mend


def test_json_array_in_a_jsonl_file_names_its_format(write, load):
    with pytest.raises(DataError, match=r"format: json}"):
        load(write("a.jsonl", '[\n{"text": "x"}\n]\n'))


OBJECTS = st.lists(
    st.dictionaries(st.sampled_from(["text", "label", "id"]), st.text(max_size=8), min_size=1),
    min_size=1,
    max_size=6,
)


@settings(max_examples=100, deadline=None)
@given(OBJECTS, st.sampled_from([None, 1]), st.booleans())
def test_what_json_writes_is_read_back(objects, indent, wrapped):
    text = json.dumps({"n": 1, "data": objects} if wrapped else objects, indent=indent)
    table = read_json(text, "f", sure=True)
    for i, row in enumerate(objects):
        assert {name: cells[i] for name, cells in table.columns.items() if name in row} == row
    if indent:
        assert all(text.split("\n")[line - 1].strip() == "{" for line in table.lines)


@settings(max_examples=300, deadline=None)
@given(st.text('[]{}",:1a\n \\', max_size=30))
def test_any_text_is_a_table_or_a_data_error(text):
    for read in (lambda: read_json(text, "f", sure=False), lambda: read_jsonl(text, "f")):
        try:
            read()
        except DataError:
            continue
