"""The comparison of methods: its order, what is kept of a row, the interval, and the page."""

import json

import methods
import methods_page
import numpy as np
import pytest
import result_rows
import set_rows
import sides
from scipy import stats

from lightune.methods.base import methods as every_method


def row(data="mrpc", method="head", seed=0, right=(1, 0, 1, 1), **more):
    """A row as a training would leave it."""
    return {
        "data": data, "model": "minilm", "method": method, "seed": seed, "seconds": 12.0,
        "metrics": {"accuracy": float(np.mean(right))}, "records": len(right),
        "trainable_parameters": 10, "total_parameters": 1000, "peak_memory_mb": 500.0,
        "adapter_bytes": 1_500_000, "correct": set_rows.packed([bool(x) for x in right]),
        "versions": {"torch": "2", "transformers": "5"}, "cpu": "a processor",
    } | more  # fmt: skip


def test_the_smallest_set_comes_first_and_each_method_before_further_seeds():
    keys = methods.wanted()
    assert [key["data"] for key in keys] == sorted(
        (key["data"] for key in keys), key=methods.SETS.index
    )
    mrpc = [(key["seed"], key["method"]) for key in methods.wanted(["mrpc"])]
    assert {method for seed, method in mrpc if seed == 0} == {
        name for name, kind in every_method().items() if kind.__module__.startswith("lightune.")
    }
    assert [seed for seed, _ in mrpc] == sorted(seed for seed, _ in mrpc)
    assert {method for seed, method in mrpc if seed == 2} == set(methods.SEEDED)


def test_a_failed_row_does_not_end_the_others_and_is_tried_again(tmp_path):
    path, asked = tmp_path / "rows.jsonl", []
    keys = methods.wanted(["mrpc"], ["head", "lora", "ia3"])

    def run(key):
        asked.append(key)
        if key["method"] == "lora" and len(asked) <= len(keys):
            raise sides.Failed("no memory")
        return {"seconds": 1.0}

    left, failures = methods.fill(path, keys, run, abreast=2)
    assert left == []
    assert ["no memory" in told for told in failures] == [True] * 3
    assert methods.fill(path, keys, run) == ([], [])
    assert [key["method"] for key in asked[len(keys) :]] == ["lora"] * 3
    assert len(result_rows.read(path)) == len(keys)


def test_rows_for_which_there_is_no_time_are_left(tmp_path):
    keys = methods.wanted(["mrpc"], ["head"])
    left, failures = methods.fill(tmp_path / "rows.jsonl", keys, dict, lambda: False, abreast=2)
    assert (left, failures) == (keys, [])


def test_rows_of_the_other_table_are_not_run_again(tmp_path):
    path = tmp_path / "classification.jsonl"
    told = [row(method="lora"), row(data="cola", method="lora"), row(data="sst2", method="full")]
    path.write_text("".join(json.dumps(one) + "\n" for one in told))
    assert [methods.key_of(one) for one in methods.run_before(path)] == [
        {"data": "mrpc", "method": "lora", "seed": 0}
    ]


def test_what_is_kept_of_a_run_folder(tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/adapter_model.safetensors").write_bytes(b"x" * 7)
    (tmp_path / "adapter/tokenizer.json").write_text("{}")
    (tmp_path / "environment.json").write_text(json.dumps({"packages": {"torch": "2"}, "cpu": "c"}))
    answers = [("a", "a"), ("a", "b"), ("b", "b")]
    lines = [json.dumps({"prediction": guess, "label": truth}) for guess, truth in answers]
    (tmp_path / "predictions.jsonl").write_text("\n".join(lines) + "\n")
    kept = set_rows.left_in(tmp_path)
    assert kept["adapter_bytes"] == 7
    assert set_rows.unpacked(kept["correct"], 3).tolist() == [1, 0, 1]


def test_the_interval_is_paired_and_over_records():
    rng = np.random.default_rng(0)
    seeds = [(rng.random(400) < 0.7, rng.random(400) < 0.6) for _ in range(3)]
    ours = [row(right=one, seed=n) for n, (one, _) in enumerate(seeds)]
    theirs = [row(right=other, seed=n) for n, (_, other) in enumerate(seeds)]
    score, count = methods_page.difference(ours, theirs)
    gain = np.mean([one.astype(float) - other for one, other in seeds], axis=0)
    oracle = stats.bootstrap((gain,), np.mean, n_resamples=1000, method="percentile", rng=1)
    assert count == 3
    assert score.value == pytest.approx(gain.mean())
    assert score.low == pytest.approx(oracle.confidence_interval.low, abs=0.01)
    assert score.high == pytest.approx(oracle.confidence_interval.high, abs=0.01)
    assert methods_page.difference(ours[:1], theirs[1:]) is None


def test_the_page_has_the_figures_and_names_what_was_not_run():
    rows = [
        row(method="full", right=(1, 1, 1, 1)),
        row(),
        row(seed=1, right=(1, 1, 1, 0)),
        row(method="prompt_tuning", right=(1, 1, 1, 1)),
        {name: v for name, v in row(method="lora").items() if name not in ("adapter_bytes",)},
        row(data="sst2_8k", method="lora", adapter_bytes=2_000_000),
    ]
    text = methods_page.page(f"a\n{methods_page.BEGIN}\nold\n{methods_page.END}\nz\n", rows)
    assert text.startswith("a\n")
    assert text.endswith(f"{methods_page.END}\nz\n")
    assert "old" not in text
    assert "| `head` | 0.7500 (0.7500 to 0.7500, 2 seeds) | 75.0% | 10 (1.00%) | 12 |" in text
    assert "| `lora` | 0.7500 (one seed) | 75.0% | 10 (1.00%) | 12 | 500 MB | 2.00 MB |" in text
    assert "- `prompt_tuning` minus `head`: +0.2500, interval +0.0000 to" in text
    assert "- `prefix_tuning` minus `head`: not run" in text
    missing = text.partition("Rows not run")[2]
    assert "- MRPC: `prefix_tuning` (seed 0, 1, 2); `bottleneck` (seed 0, 1, 2)" in missing
    assert "`head` (seed 2)" in missing
    assert "`prompt_tuning` (seed 1, 2)" in missing
    assert "- AG News: " in missing
