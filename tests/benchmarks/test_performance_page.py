"""The page says what the rows say: targets met and missed, what was not run, one machine."""

import bench_growth
import bench_parts
import bench_training
import performance_page
import pytest
import result_rows
import sides
import workloads

SHORT = workloads.BY_NAME["short texts"]
BEST = sides.BEST[0]


def row(key, seconds, **more):
    return {
        "key": key, "seconds": seconds, "examples": 100, "examples_per_epoch": 100, "tokens": 1000,
        "linear": 10**6, "adapted": 10**6, "ceiling_gflops": {"bfloat16": 1.0},
        "peak_memory_mb": 500.0, "trainable_parameters": 7,
        "machine": result_rows.machine(), **more,
    }  # fmt: skip


@pytest.fixture
def results(tmp_path):
    rows = [
        row(bench_training.key(SHORT, side, "trial", 0), 1 + i) for i, side in enumerate(sides.BEST)
    ]
    for number in range(2):
        rows.append(row(bench_training.key(SHORT, sides.OURS, "speed", number), 2.0))
        rows.append(row(bench_training.key(SHORT, BEST, "speed", number), 3.0, peak_memory_mb=1e3))
    for side, scores in ((sides.OURS, (0.8, 0.9)), (BEST, (0.84, 0.86))):
        for seed, score in enumerate(scores):
            key = bench_training.key(SHORT, side, "score", seed)
            rows.append(row(key, 9.0, score=score))
    for one in rows:
        result_rows.append(tmp_path / "training.jsonl", one)
    return tmp_path


def line(text, start):
    return next(one for one in text.splitlines() if one.startswith(start))


def test_ratios_stand_beside_their_targets(results):
    told = line(performance_page.page(results, ""), "| short texts |")
    assert "not run (≥ 10)" in told
    assert "**1.50** (≥ 2.2 missed by 32%)" in told
    assert "**0.50** (≤ 0.8 met)" in told
    assert "0.8500 beside 0.8400 to 0.8600: not worse" in told


def test_a_worse_score_is_called_worse(results):
    for seed, score in ((0, 0.5), (1, 0.5), (2, 0.5)):
        key = bench_training.key(SHORT, sides.OURS, "score", seed)
        result_rows.append(results / "training.jsonl", row(key, 9.0, score=score))
    assert "WORSE" in line(performance_page.page(results, ""), "| short texts |")


def test_what_was_not_run_is_listed_and_what_was_run_is_not(results):
    page = performance_page.page(results, "")
    missing = page.partition("## Not run")[2]
    assert f"{SHORT.name}, speed: {sides.PLAIN} (3), {sides.OURS} (1), {BEST} (1)" in missing
    assert f"{SHORT.name}, trial" not in missing
    for name in ("long texts, trial", "engine parts", "growth", "profile"):
        assert name in missing


def test_remedies_are_taken_as_they_stand(results):
    assert "## Tried\n\nas it stands" in performance_page.page(
        results, "## Tried\n\nas it stands\n"
    )


def test_rows_of_another_machine_are_left_out(results):
    other = row(bench_training.key(SHORT, sides.OURS, "speed", 2), 99.0)
    other["machine"] = other["machine"] | {"cpu": "slow"}
    path = results / "training.jsonl"
    lines = path.read_text()
    path.unlink()
    result_rows.append(path, other)
    path.write_text(path.read_text() + lines)
    assert "**1.50**" in line(performance_page.page(results, ""), "| short texts |")


def test_a_page_without_rows_says_so(tmp_path):
    page = performance_page.page(tmp_path, "")
    assert "No row was run." in page
    assert "| short texts | not run (≥ 10) |" in page


def test_parts_growth_and_profile_have_their_tables(results):
    for key in bench_parts.wanted(rounds=1):
        result_rows.append(results / "parts.jsonl", row(key, 2.0 if key["side"] == "on" else 5.0))
    for key in bench_growth.wanted():
        more = {"data_mb": 1.0, "steps": 10}
        result_rows.append(results / "growth.jsonl", row(key, 9.0, **more))
    profile = {"seconds": 1.0, "profiled_seconds": 2.0, "groups": {"matrix products": 1.5}}
    key = {"workload": SHORT.name, "steps": 20}
    machine = result_rows.machine()
    result_rows.append(results / "profile.jsonl", {"key": key, **profile, "machine": machine})
    page = performance_page.page(results, "")
    assert "| attention | short texts |" in page
    assert "2.50" in line(page, "| attention | short texts |")
    assert "**9.00** (≤ 8 missed by 12%)" in page
    assert "| 100,000 | 1.0 MB | 9.0 |" in page
    assert "| 1,024 | 900 |" in page
    assert "| matrix products | 1.50 | 75% |" in page
