"""What `--dry-run` forecasts, against what the training then takes.

Method:  for each workload, in fresh processes: `lightune train --dry-run`, then the training
         itself, one after the other, so that neither profits from what the other warmed up.
Report:  one JSON line per workload in benchmarks/results/forecast.jsonl: forecast and outcome of
         seconds and peak memory, and the errors, forecast / outcome - 1; then a table.
Run:     .venv/bin/python benchmarks/bench_forecast.py [--steps 150] [--only "short texts, lora"]
Needs:   the data sets (see text_sets.py).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import text_sets

RESULTS = Path(__file__).parent / "results" / "forecast.jsonl"
DATA = {
    "short texts": {"data": "sst2", "batch": 32, "max_length": 128, "model": "minilm"},
    "medium texts": {"data": "ag_news", "batch": 16, "max_length": 128, "model": "minilm"},
    "long texts": {"data": "chnsenticorp", "batch": 16, "max_length": 512, "model": "bge"},
}
MODELS = {"minilm": "minilm", "bge": str(text_sets.WEIGHTS / "bge-small-zh-v1.5")}
WORKLOADS = {
    f"{name}, {method}": {**load, "method": method}
    for name, load in DATA.items()
    for method in ("lora", "full")
}
COMMAND = str(Path(sys.executable).parent / "lightune")


def lightune(load: dict, steps: int, folder: Path, *more: str) -> dict:
    """Return what one call of `lightune train --json` prints."""
    train, test = text_sets.prepare(load["data"], folder)
    rows = steps * load["batch"] // 2  # two epochs
    settings = {
        "data.limit": rows,
        "data.validation": 0.1,
        "train.epochs": 2,
        "train.batch_size": load["batch"],
        "train.max_length": load["max_length"],
        "method.name": load["method"],
    }
    words = [COMMAND, "train", "--json", "--task", "classification", "--data", str(train)]
    words += ["--test", str(first_rows(test, 400, folder)), "--model", MODELS[load["model"]], *more]
    words += [word for key, value in settings.items() for word in ("-s", f"{key}={value}")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def first_rows(path: Path, rows: int, folder: Path) -> Path:
    """Write the header and the first rows of a CSV file."""
    cut = folder / f"{path.stem}_{rows}.csv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    cut.write_text("".join(lines[: rows + 1]), encoding="utf-8")
    return cut


def compare(name: str, steps: int, folder: Path) -> dict:
    """Forecast and train one workload."""
    load = WORKLOADS[name]
    foreseen = lightune(load, steps, folder, "--dry-run")["forecast"]
    run = lightune(load, steps, folder, "--out", str(folder / name.replace(", ", "-")))
    row = {"workload": name, "steps": run["steps"], "seen_beside_training": run["forecast"]}
    for key in ("seconds", "peak_memory_mb"):
        error = foreseen[key] / run[key] - 1
        row |= {f"{key}_forecast": foreseen[key], key: run[key], f"{key}_error": error}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--only", nargs="*", choices=list(WORKLOADS), default=list(WORKLOADS))
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only:
            rows.append(compare(name, options.steps, Path(folder)))
            RESULTS.parent.mkdir(exist_ok=True)
            with RESULTS.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    print(f"{'workload':24} {'seconds':>18} {'error':>7} {'peak memory, MB':>18} {'error':>7}")
    for row in rows:
        parts = [
            f"{row[f'{key}_forecast']:8.0f} /{row[key]:8.0f} {row[f'{key}_error']:+7.0%}"
            for key in ("seconds", "peak_memory_mb")
        ]
        print(f"{row['workload']:24} {'  '.join(parts)}")


if __name__ == "__main__":
    main()
