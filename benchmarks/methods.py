"""Every method with its default settings on four public data sets, beside one another.

Method:  a row is one training of one method with one seed (`set_rows.py`), nothing tuned per data
         set. Six methods get three seeds, the rest one.
Order:   the smallest data set first; within it every method once, then further seeds.
Report:  one JSON line per row in benchmarks/results/methods.jsonl; `methods_page.py` puts the table
         into docs/methods.md.
Resume:  a row that is in the file is not run again on this machine (`result_rows.py`), nor one that
         `classification.py` has run. A row that fails is told, left out, and tried again by the
         next call.
Run:     .venv/bin/python benchmarks/methods.py [--only mrpc] [--method lora] [--seeds 3]
             [--minutes 60] [--abreast 2] [--rows 64 to see that it runs]
Abreast: see `classification.py`; seconds are then an upper bound.
Needs:   the data sets (see text_sets.py).
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import classification
import result_rows
import set_rows
import sides
import text_sets

from lightune.methods.capabilities import capabilities

RESULTS = result_rows.RESULTS / "methods.jsonl"
SETS = ("mrpc", "sst2_8k", "chnsenticorp", "ag_news")
"""Smallest first."""

SEEDED = ("head", "prompt_tuning", "prefix_tuning", "lora", "bottleneck", "full")
METHODS = (*SEEDED, *(name for name in capabilities() if name not in SEEDED))
SEEDS = 3

Key = dict[str, Any]


def wanted(
    sets: Iterable[str] = SETS, methods: Iterable[str] = METHODS, seeds: int = SEEDS
) -> list[Key]:
    """Return the keys of all rows, in the order in which they are run."""
    chosen = tuple(methods)
    return [
        {"data": data, "method": method, "seed": seed}
        for data in sets
        for seed in range(seeds)
        for method in chosen
        if seed == 0 or method in SEEDED
    ]


def key_of(row: dict[str, Any]) -> Key:
    return {name: row[name] for name in ("data", "method", "seed")}


def run_before(path: Path = classification.RESULTS) -> list[dict[str, Any]]:
    """Return the rows of `classification.py` that are rows of this comparison too."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    keys = wanted()
    return [row for row in map(json.loads, lines) if key_of(row) in keys]


def fill(
    path: Path,
    keys: list[Key],
    run: Callable[[Key], dict[str, Any]],
    go_on: Callable[[], bool] = lambda: True,
    abreast: int = 1,
) -> tuple[list[Key], list[str]]:
    """Run what the file lacks, several rows at a time; a row that fails does not end the others.

    Returns:
        The keys for which there was no time, and what the failed rows said.
    """

    def attempt(key: Key) -> tuple[list[Key], str]:
        try:
            return result_rows.fill(path, [key], run, go_on), ""
        except sides.Failed as error:
            print(f"failed: {key}", flush=True)
            return [], f"{key}: {error}"

    with ThreadPoolExecutor(abreast) as pool:
        done = list(pool.map(attempt, keys))
    return [key for left, _ in done for key in left], [told for _, told in done if told]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=SETS)
    parser.add_argument("--method", action="append", choices=METHODS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--minutes", type=float, default=1e6, help="start no row after so long")
    parser.add_argument("--abreast", type=int, default=1, help="rows that run at a time")
    parser.add_argument("--rows", type=int, help="cut the data down: no results, only a try-out")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "lightune-sets")
    options = parser.parse_args()
    if not text_sets.DATA.is_dir():
        raise SystemExit(f"no data sets in {text_sets.DATA}; set LIGHTUNE_DATA")
    sets = options.only or SETS
    before = [] if options.rows else [key_of(row) for row in run_before()]
    keys = wanted(sets, options.method or METHODS, options.seeds)
    keys = [key for key in keys if key not in before]
    files = {name: text_sets.prepare(name, options.work) for name in sets}
    if options.rows:
        keys = [{**key, "rows": options.rows} for key in keys]
        files = {
            name: tuple(text_sets.first(path, options.rows, options.work) for path in pair)
            for name, pair in files.items()
        }
    threads = max(1, (os.cpu_count() or 1) // options.abreast) if options.abreast > 1 else None
    ends = time.monotonic() + 60 * options.minutes
    left, failures = fill(
        options.results,
        keys,
        lambda key: set_rows.run(
            key["data"], key["method"], key["seed"], files[key["data"]], threads
        ),
        lambda: time.monotonic() < ends,
        options.abreast,
    )
    if left:
        print(f"not run: {len(left)} rows; run again to go on")
    print(*failures, sep="\n\n")
    if failures:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
