"""Which rows a benchmark runs, in which order, and what they are made of."""

import csv
import json
import sys
from collections import Counter

import bench_growth
import bench_parts
import bench_training
import pytest
import result_rows
import sides
import trl_environment
import workloads

SHORT = workloads.BY_NAME["short texts"]
LLM = workloads.BY_NAME["SmolLM2 instructions"]


def rows_of(keys, seconds):
    """Rows as a side would leave them, `seconds` by name of the side."""
    return [
        {"key": key, "seconds": seconds.get(key["side"], 9.0), "examples": 10,
         "machine": result_rows.machine()}
        for key in keys
    ]  # fmt: skip


def test_the_fastest_form_of_each_kind_of_peer_goes_on():
    fast = {sides.BEST[1]: 1.0, sides.TRL[2]: 2.0}
    rows = rows_of(bench_training.trials(LLM), fast)
    expected = [sides.OURS, sides.BEST[1], sides.TRL[2], sides.PLAIN]
    assert bench_training.chosen(rows, LLM) == expected


def test_before_the_trials_no_peer_is_at_its_best():
    assert bench_training.chosen([], LLM) == [sides.OURS, sides.PLAIN]


def test_trials_of_fewer_steps_do_not_count():
    tried = rows_of(bench_training.trials(workloads.shrunk(SHORT, 64, 2)), {})
    assert bench_training.chosen(tried, SHORT) == [sides.OURS, sides.PLAIN]


def test_every_key_is_there_once_and_a_round_has_every_side():
    loads = workloads.WORKLOADS
    rows = [r for load in loads for r in rows_of(bench_training.trials(load), {})]
    keys = [json.dumps(key) for key in bench_training.wanted(rows, loads)]
    assert max(Counter(keys).values()) == 1
    for load in loads:
        rounds = bench_training.planned(rows, load, "speed", 3)
        assert [len(keys) for keys in rounds] == [2 + load.trl + (load.targets[0] is not None)] * 3


@pytest.fixture
def no_processes(monkeypatch):
    """Sides that answer at once; returns the list of those that were asked."""
    asked = []

    def run(load, side, kind, seed, work, **more):
        asked.append((load.name, side, kind, load.steps))
        if side == sides.PLAIN:
            raise sides.Failed("no memory")
        return {"seconds": 1.0, "examples": 10, "peak_memory_mb": 1.0, "examples_per_epoch": 10,
                "tokens": 10, "linear": 1, "adapted": 1, "ceiling_gflops": {"x": 1.0}}  # fmt: skip

    monkeypatch.setattr(sides, "run", run)
    return asked


def test_a_stopped_benchmark_goes_on_and_a_failed_side_does_not_end_it(tmp_path, no_processes):
    results, asked = tmp_path / "rows.jsonl", no_processes

    def bench(go_on):
        one = bench_training.Bench(results, tmp_path, [SHORT], go_on)
        one.all(("trial", "speed"), rounds=2, seeds=0)
        return one

    clock = iter([True] * 5 + [False] * 99)
    assert bench(lambda: next(clock)).left
    first = len(asked)
    done = bench(lambda: True)
    assert len(done.failed) == 2
    assert "no memory" in done.failed[0]
    again = len(asked)
    assert not bench(lambda: True).rows()[99:]
    counts = Counter(a for a in asked[:again] if a[1] != sides.PLAIN)
    assert first == 5
    assert max(v for (_, _, _, steps), v in counts.items() if steps == 10) == 1  # trials
    assert [a[1] for a in asked[again:]] == [sides.PLAIN] * 2  # only what failed is tried again
    assert "examples/s" in "\n".join(bench_training.report(done.rows()))


def test_joined_documents_use_each_text_at_most_once_and_keep_the_label():
    rows = [[f"{label}{i}", label] for label in "xy" for i in range(100)]
    documents = list(workloads.joined(rows))
    pieces = [piece for text, _ in documents for piece in text.split()]
    assert len(pieces) == len(set(pieces)) > 150
    assert all(piece[0] == label for text, label in documents for piece in text.split())
    assert all(8 <= len(text.split()) <= 14 for text, _ in documents)
    assert documents == list(workloads.joined(rows))


def test_growing_data_has_no_row_twice():
    rows = list(bench_growth.repeated([["a", "x"], ["b", "y"]], 7))
    assert len({text for text, _ in rows}) == len(rows) == 7


def test_a_speed_run_reads_just_the_rows_of_its_steps(tmp_path, monkeypatch):
    whole = tmp_path / "whole.csv"
    with whole.open("w", newline="") as file:
        csv.writer(file).writerows([["text", "label"], *([f"a\n{i}", "x"] for i in range(5000))])
    monkeypatch.setattr(workloads, "_whole", lambda load, work: (whole, whole))
    for plain, rows in (
        (False, SHORT.steps * SHORT.batch),
        (True, SHORT.plain_steps * SHORT.batch),
    ):
        train, _ = workloads.files(SHORT, "speed", plain, tmp_path)
        with train.open(newline="") as file:
            assert len(list(csv.DictReader(file))) == rows


def test_absent_data_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(workloads.text_sets, "DATA", tmp_path)
    assert "ag_news" in workloads.missing(workloads.BY_NAME["long texts"])


def test_every_part_has_one_row_that_is_on_per_workload_and_round():
    keys = bench_parts.wanted(rounds=2)
    on = Counter((k["workload"], k["number"]) for k in keys if k["side"] == "on")
    assert set(on.values()) == {1}
    off = {(k["workload"], k["side"]) for k in keys if k["side"] != "on"}
    assert off == {(load, part.name) for part in bench_parts.PARTS for load in part.loads}


def test_a_failed_process_tells_its_command_and_output():
    with pytest.raises(sides.Failed, match="status 3") as raised:
        sides.process([sys.executable, "-c", "import sys; print('why', file=sys.stderr); exit(3)"])
    assert "why" in str(raised.value)


@pytest.mark.parametrize(
    ("wanted", "whole"), [({"trl": "1"}, False), ({"trl": "1", "Torch": "2"}, True)]
)
def test_trl_gets_an_environment_of_its_own_where_it_would_change_ours(wanted, whole):
    assert trl_environment.needs_a_whole_environment(wanted) is whole
