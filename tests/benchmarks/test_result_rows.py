"""Rows are run once per machine, survive a kill while writing, and stop when time is up."""

import pytest
import result_rows

KEYS = [{"side": side, "number": n} for n in range(2) for side in ("a", "b")]


def quietly(path, keys, run, go_on=lambda: True):
    return result_rows.fill(path, keys, run, go_on, tell=lambda text: None)


def test_what_is_in_the_file_is_not_run_again(tmp_path):
    path, ran = tmp_path / "new" / "rows.jsonl", []

    def run(key):
        ran.append(key)
        return {"seconds": len(ran)}

    assert quietly(path, KEYS[:1], run) == []
    assert quietly(path, KEYS, run) == []
    assert ran == KEYS
    assert [row["seconds"] for row in result_rows.read(path)] == [1, 2, 3, 4]


def test_a_failing_row_leaves_those_before_it(tmp_path):
    path = tmp_path / "rows.jsonl"

    def run(key):
        if key["number"]:
            raise RuntimeError("killed")
        return {}

    with pytest.raises(RuntimeError):
        quietly(path, KEYS, run)
    assert [row["key"] for row in result_rows.read(path)] == KEYS[:2]


def test_a_half_line_is_passed_over_and_its_row_run_again(tmp_path):
    path = tmp_path / "rows.jsonl"
    quietly(path, KEYS[:2], lambda key: {})
    path.write_bytes(path.read_bytes()[:-30])
    quietly(path, KEYS[:2], lambda key: {"again": True})
    rows = result_rows.read(path)
    assert [row["key"] for row in rows] == KEYS[:2]
    assert [row.get("again") for row in rows] == [None, True]


def test_rows_not_reached_in_time_are_returned(tmp_path):
    clock = iter([True, False, False, False])
    left = quietly(tmp_path / "rows.jsonl", KEYS, lambda key: {}, lambda: next(clock))
    assert left == KEYS[1:]


@pytest.mark.parametrize(
    "change", [{"cpu": "another"}, {"cores": 96}, {"packages": {"torch": "1"}}]
)
def test_rows_of_another_machine_do_not_count(tmp_path, change):
    path, ran = tmp_path / "rows.jsonl", []
    result_rows.append(path, {"key": KEYS[0], "machine": result_rows.machine() | change})
    quietly(path, KEYS[:1], lambda key: ran.append(key) or {})
    assert ran == KEYS[:1]
    assert len(result_rows.newest_machine(result_rows.read(path))) == 1
