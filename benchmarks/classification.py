"""Scores of default settings on public data, three seeds, full fine-tuning beside LoRA.

Method:  every row is one `lightune train` with the built-in defaults and nothing tuned per data
         set; the test set is the official one (GLUE's development sets, whose tests are hidden).
Report:  one JSON line per row in benchmarks/results/classification.jsonl; `results_page.py` makes
         docs/results.md of it.
Resume:  a row that is in the file is not run again; rows go from the smallest data set up.
Run:     .venv/bin/python benchmarks/classification.py [--only NAME] [--seeds 3] [--abreast 2]
Abreast: several rows at a time, with the cores shared out among them, end sooner than one after
         the other; each takes longer, so its seconds are an upper bound.
Needs:   the data sets (see text_sets.py); those that are absent are skipped, and said.
"""

import argparse
import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import set_rows
import text_sets

RESULTS = Path(__file__).parent / "results" / "classification.jsonl"
METHODS = ("lora", "full")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=[*text_sets.SETS])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--abreast", type=int, default=1, help="rows that run at a time")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "lightune-sets")
    options = parser.parse_args()
    if not text_sets.DATA.is_dir():
        raise SystemExit(f"no data sets in {text_sets.DATA}; set LIGHTUNE_DATA")
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    done = {(r["data"], r["method"], r["seed"]) for r in map(json.loads, lines)}
    names = [options.only] if options.only else list(text_sets.SETS)
    first = [(name, method, 0) for method in METHODS for name in names]
    rest = [(n, m, s) for m in METHODS for s in range(1, options.seeds) for n in names]
    rows = first + rest
    threads = max(1, (os.cpu_count() or 1) // options.abreast) if options.abreast > 1 else None
    files = {name: text_sets.prepare(name, options.work) for name in names}

    def keep(row: tuple[str, str, int]) -> None:
        result = set_rows.run(*row, files[row[0]], threads)
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(*row, result["metrics"], f"{result['seconds']:.0f} s", flush=True)

    with ThreadPoolExecutor(options.abreast) as pool:
        list(pool.map(keep, (row for row in rows if row not in done)))


if __name__ == "__main__":
    main()
