"""How time and memory grow with rows, length, batch and rank; and how long the first step takes.

Method:  one quantity is varied, the others stay.
         `rows`: reading, checking and tokenising a CSV file of so many rows, from the command
         `lightune train` to the end of the first step
         `length`, `batch`, `rank`: steps on texts cut to one length, after a warm-up
         `cold start`: as `rows`, with 200 of them, three times
Data:    AG News descriptions, repeated with a number before each where more rows are asked for;
         for lengths, joined documents of more than 1,024 tokens. minilm reads at most 512 tokens;
         longer ones go through smollm2-135m.
Resume:  rows are appended to benchmarks/results/growth.jsonl, and are not run again.
Run:     .venv/bin/python benchmarks/bench_growth.py [--only KIND] [--minutes 30]
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import result_rows
import sides
import text_sets
import workloads

RESULTS = result_rows.RESULTS / "growth.jsonl"
BASE = {"rows": 1000, "length": 128, "batch": 16, "rank": 8}
VALUES = {
    "cold start": (0, 1, 2),  # repetitions
    "rows": (1000, 3000, 10_000, 30_000, 100_000),
    "length": (32, 64, 128, 256, 512),
    "batch": (4, 8, 16, 32, 64),
    "rank": (4, 8, 16, 64, 256),
    "length, SmolLM2": (32, 128, 512, 1024),
}
STEPS = 12
Key = dict[str, Any]


def wanted(only: str | None = None) -> list[Key]:
    """Return the keys of all rows."""
    return [
        {"kind": kind, "value": value}
        for kind, values in VALUES.items()
        for value in values
        if only in (None, kind)
    ]


def repeated(rows: list[list[str]], count: int) -> Iterator[list[str]]:
    """Yield `count` different rows: the given ones, then again with a number before each text."""
    for i in range(count):
        text, label = rows[i % len(rows)]
        yield [text if i < len(rows) else f"({i // len(rows) + 1}) {text}", label]


def write(path: Path, rows: Iterator[list[str]]) -> Path:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["text", "label"], *rows])
    return path


def short_texts() -> list[list[str]]:
    return list(text_sets.SETS["ag_news"][0]())


def from_command_to_step(data: Path, test: Path, work: Path) -> dict[str, Any]:
    """Run `lightune train` for one step; return the seconds until that step is done.

    The first line of the run's log is written right after the first step, and its time is the
    file's: the folder is looked at every 20 ms.
    """
    with tempfile.TemporaryDirectory(dir=work) as folder:
        log = Path(folder) / "run" / "metrics.jsonl"
        words = [
            str(Path(sys.executable).with_name("lightune")), "train", "--json",
            "--task", "classification", "--data", str(data), "--test", str(test),
            "--model", workloads.model_folder("minilm"), "-s", "train.max_steps=1",
            "-s", "train.max_length=128", "--out", str(log.parent),
        ]  # fmt: skip
        begun = time.perf_counter()
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as p:
            seconds = None
            while p.poll() is None and seconds is None:
                if log.exists() and log.stat().st_size:
                    seconds = time.perf_counter() - begun
                time.sleep(0.02)
            out, errors = p.communicate()
        if p.returncode or seconds is None:
            raise sides.Failed(f"{' '.join(words)}\nstatus {p.returncode}\n{errors[-4000:]}")
    summary = json.loads(out)
    return {"seconds": seconds, "peak_memory_mb": summary["peak_memory_mb"]}


def steps(kind: str, value: int, work: Path) -> dict[str, Any]:
    """Time some steps with one quantity at `value` and the others as in `BASE`."""
    now = BASE | {kind.partition(",")[0]: value}
    model = "smollm2-135m" if "SmolLM2" in kind else "minilm"
    batch = 4 if "SmolLM2" in kind else now["batch"]
    load = replace(
        workloads.BY_NAME["medium texts"],
        model=model,
        batch=batch,
        max_length=now["length"],
        steps=STEPS,
    )
    texts = list(workloads.joined(short_texts(), least=40, most=44))
    rows = [texts[i % len(texts)] for i in range(STEPS * batch)]
    result = sides.run(
        load, sides.OURS, "speed", 0, work,
        train=str(write(work / f"growth_long_{len(rows)}.csv", iter(rows))),
        test=str(write(work / "growth_long_test.csv", iter(texts[-16:]))),
        rank=now["rank"],
    )  # fmt: skip
    kept = ("seconds", "steps", "examples", "examples_per_epoch", "tokens", "peak_memory_mb")
    return {name: result[name] for name in (*kept, "linear", "adapted", "ceiling_gflops")}


def run(key: Key, work: Path) -> dict[str, Any]:
    kind, value = key["kind"], key["value"]
    if kind in ("rows", "cold start"):
        count = value if kind == "rows" else 200
        texts = short_texts()
        data = write(work / f"growth_rows_{count}.csv", repeated(texts, count))
        test = write(work / "growth_rows_test.csv", iter(texts[-20:]))
        return from_command_to_step(data, test, work) | {"data_mb": os.path.getsize(data) / 1e6}
    return steps(kind, value, work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=[*VALUES])
    parser.add_argument("--first", type=int, help="only so many rows, to see that it runs")
    parser.add_argument("--minutes", type=float, default=1e6, help="start no row after so long")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "lightune-bench")
    options = parser.parse_args()
    if not (text_sets.DATA / "ag_news").is_dir():
        print("skipped: no folder ag_news in LIGHTUNE_DATA")
        return
    options.work.mkdir(parents=True, exist_ok=True)
    keys = wanted(options.only)[: options.first]
    ends = time.monotonic() + 60 * options.minutes
    left = result_rows.fill(
        options.results, keys, lambda key: run(key, options.work), lambda: time.monotonic() < ends
    )
    print(f"not run: {len(left)} rows" if left else "all rows are there")


if __name__ == "__main__":
    main()
