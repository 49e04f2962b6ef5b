"""The frozen-prefix cache: what it saves where only the last two blocks are trained.

Method:  `lightune train` on rows of AG News with `method.layers=last-2`, five epochs, once with
         `train.engine.prefix_cache=on` and once `off`, in processes of their own; the order is
         drawn anew in every round. The time is that of the training loop, the filling of the
         cache included.
Report:  one JSON line per run in benchmarks/results/prefix_cache.jsonl, then medians, spread, the
         ratio, and the score of each.
Run:     .venv/bin/python benchmarks/bench_prefix_cache.py [--rounds 3] [--rows 2000]
Needs:   the data sets (see text_sets.py).
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import text_sets

RESULTS = Path(__file__).parent / "results" / "prefix_cache.jsonl"
SETTINGS = ("method.layers=last-2", "train.epochs=5", "train.max_length=128")
SIDES = ("on", "off")


def first_rows(path: Path, rows: int, folder: Path) -> Path:
    """Write the first rows of a CSV file (the sets are in random order) and its header."""
    cut = folder / f"{path.stem}_{rows}.csv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    cut.write_text("".join(lines[: rows + 1]), encoding="utf-8")
    return cut


def run(side: str, train: Path, test: Path, seed: int) -> dict:
    """Train once; return seconds, score and peak memory."""
    with tempfile.TemporaryDirectory() as out:
        words = [str(Path(sys.executable).with_name("lightune")), "train", "--json"]
        words += ["--task", "classification", "--model", "minilm", "--out", f"{out}/run"]
        words += ["--data", str(train), "--test", str(test)]
        settings = (*SETTINGS, f"train.seed={seed}", f"train.engine.prefix_cache={side}")
        words += [word for setting in settings for word in ("-s", setting)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
    result = json.loads(done.stdout)
    return {
        "prefix_cache": side,
        "seed": seed,
        "seconds": result["seconds"],
        "accuracy": result["metrics"]["accuracy"]["value"],
        "peak_memory_mb": result["peak_memory_mb"],
    }


def report(rows: list[dict]) -> None:
    """Print medians, spread and the ratio."""
    middle = {}
    for side in SIDES:
        chosen = [row for row in rows if row["prefix_cache"] == side]
        seconds = [row["seconds"] for row in chosen]
        middle[side] = statistics.median(seconds)
        scores = " ".join(f"{row['accuracy']:.3f}" for row in chosen)
        memory = statistics.median(row["peak_memory_mb"] for row in chosen)
        spread = f"{min(seconds):.1f} to {max(seconds):.1f}"
        print(f"{side:3} {middle[side]:7.1f} s ({spread})  {memory:5.0f} MB  accuracy {scores}")
    print(f"off / on: {middle['off'] / middle['on']:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=2000)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        train, test = text_sets.prepare("ag_news", Path(folder))
        train = first_rows(train, options.rows, Path(folder))
        test = first_rows(test, 400, Path(folder))
        for seed in range(options.rounds):
            for side in random.sample(SIDES, len(SIDES)):
                rows.append({"rows": options.rows} | run(side, train, test, seed))
                RESULTS.parent.mkdir(exist_ok=True)
                with RESULTS.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
                print(json.dumps(rows[-1]), flush=True)
    report(rows)


if __name__ == "__main__":
    main()
