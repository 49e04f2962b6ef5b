"""Warnings are said once, counted and kept."""

import json

import pytest

from lightune.errors import RunError
from lightune.runs.warned import Warned, Warnings, as_rows, read_warnings

ODD = Warned("truncation", "much is cut", "9 rows", "raise it")


@pytest.fixture
def said():
    return []


def test_each_is_said_once_and_what_was_looked_at_is_listed(said, tmp_path):
    warnings = Warnings(said.append)
    warnings.look("labels")
    warnings.look("truncation", None, ODD)
    warnings.look("truncation", ODD, step=5)
    assert said == ["warning: much is cut (9 rows); raise it"]
    warnings.write(tmp_path)
    content = json.loads((tmp_path / "warnings.json").read_text())
    assert content["checked"] == ["labels", "truncation"]
    assert content["warnings"] == as_rows(warnings.items)
    assert read_warnings(tmp_path) == [ODD]


def test_a_new_warning_is_on_the_disk_at_once(said, tmp_path):
    warnings = Warnings(said.append)
    warnings.keep_in(tmp_path)
    assert read_warnings(tmp_path) == []
    warnings.look("truncation", ODD, step=7)
    assert [w.step for w in read_warnings(tmp_path)] == [7]


def test_a_full_disk_does_not_end_a_training_for_a_warning(said, tmp_path):
    warnings = Warnings(said.append)
    (tmp_path / "run").mkdir()
    warnings.keep_in(tmp_path / "run")
    (tmp_path / "run" / "warnings.json").unlink()
    (tmp_path / "run").rmdir()
    warnings.look("log", ODD, step=7)
    assert len(said) == 1
    with pytest.raises(OSError, match=r"warnings\.json"):
        warnings.write(tmp_path / "run")


def test_a_resumed_run_keeps_what_was_seen_while_training(said):
    before = [ODD, Warned("log", "the log has gaps", "full", "free space", step=3)]
    warnings = Warnings(said.append, before)
    assert [w.check for w in warnings.items] == ["log"]
    warnings.look("log", Warned("log", "the log has gaps", "full again", "free space"), step=9)
    warnings.look("truncation", ODD)
    assert [w.check for w in warnings.items] == ["log", "truncation"]
    assert len(said) == 1


def test_a_run_without_the_file_has_none(tmp_path):
    assert read_warnings(tmp_path) == []


@pytest.mark.parametrize("content", ["{", "[]", '{"warnings": [{"x": 1}]}', '{"warnings": [3]}'])
def test_a_damaged_file_is_an_error(tmp_path, content):
    (tmp_path / "warnings.json").write_text(content)
    with pytest.raises(RunError, match=r"warnings\.json is damaged"):
        read_warnings(tmp_path)
