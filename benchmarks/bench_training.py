"""Training on two cores: Lightune against Hugging Face Trainer with PEFT, plain and at its best.

Method:  every side trains in a process of its own, one after the other, on the same rows, base
         weights, LoRA (rank 8, alpha 16), batch size, epochs, learning rate and dropout; the
         order of the sides is drawn anew in every round, so that a slow spell of the machine
         falls on all of them. The time is that of the training loop; start-up and scoring are
         left out.
Report:  one JSON line per run in benchmarks/results/training.jsonl, then medians, quartiles and
         the ratio of the peers' time to Lightune's; `results_page.py` puts them into a page.
Run:     .venv/bin/python benchmarks/bench_training.py [--rounds 3] [--only short]
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

RESULTS = Path(__file__).parent / "results" / "training.jsonl"
WORKLOADS = {
    "short texts": {"data": "sst2", "rows": 4000, "batch": 32, "max_length": 128},
    "medium texts": {"data": "ag_news", "rows": 2000, "batch": 16, "max_length": 128},
}
TARGETS = {"query, value": ["query", "value"], "all linear layers": ["all-linear"]}
RATE = "5e-4"
BIN = Path(sys.executable).parent


def subset(path: Path, rows: int, folder: Path) -> Path:
    """Write the first rows of a CSV file (the sets are in random order) and its header."""
    cut = folder / f"{path.stem}_{rows}.csv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    cut.write_text("".join(lines[: rows + 1]), encoding="utf-8")
    return cut


def peer(kind: str, attention: str):
    """Return the function that makes the command line of one peer."""

    def command(load: dict, targets: list[str], train: Path, test: Path, out: str, seed: int):
        return [
            sys.executable, str(Path(__file__).with_name("peer_trainer.py")),
            "--model", model_folder(), "--train", str(train), "--test", str(test),
            "--kind", kind, "--attention", attention, "--batch-size", str(load["batch"]),
            "--max-length", str(load["max_length"]), "--learning-rate", RATE,
            "--targets", *targets, "--seed", str(seed), "--work", out,
        ]  # fmt: skip

    return command


def lightune(load: dict, targets: list[str], train: Path, test: Path, out: str, seed: int):
    """Return Lightune's command line."""
    chosen = targets[0] if targets == ["all-linear"] else f"[{', '.join(targets)}]"
    settings = (
        f"train.batch_size={load['batch']}", f"train.max_length={load['max_length']}",
        f"train.learning_rate={RATE}", "train.epochs=1", f"train.seed={seed}",
        f"method.targets={chosen}",
    )  # fmt: skip
    words = [str(BIN / "lightune"), "train", "--json", "--task", "classification"]
    words += ["--data", str(train), "--test", str(test), "--model", "minilm", "--out", f"{out}/run"]
    return words + [word for setting in settings for word in ("-s", setting)]


SIDES = {
    "Lightune": lightune,
    "Trainer + PEFT, plain": peer("plain", "sdpa"),
    "Trainer + PEFT, best (sdpa)": peer("best", "sdpa"),
    "Trainer + PEFT, best (eager)": peer("best", "eager"),
}


def model_folder() -> str:
    """Return the folder of minilm's files, fetched if need be."""
    shown = subprocess.run(
        [str(BIN / "lightune"), "models", "pull", "minilm", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(shown.stdout)["model"]["folder"]


def run(side: str, load: dict, targets: list[str], train: Path, test: Path, seed: int) -> dict:
    """Train one side once; return its seconds, speed, score and peak memory."""
    with tempfile.TemporaryDirectory() as out:
        words = SIDES[side](load, targets, train, test, out, seed)
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
    result = json.loads(done.stdout.splitlines()[-1])
    accuracy = result["metrics"]["accuracy"]["value"] if side == "Lightune" else result["accuracy"]
    return {
        "seconds": result["seconds"],
        "examples_per_s": result["examples_per_s"],
        "accuracy": accuracy,
        "peak_memory_mb": result["peak_memory_mb"],
    }


def report(rows: list[dict]) -> None:
    """Print medians, quartiles and ratios."""
    for workload, adapted in sorted({(r["workload"], r["targets"]) for r in rows}):
        print(f"\n{workload}, LoRA on {adapted}")
        chosen = [r for r in rows if (r["workload"], r["targets"]) == (workload, adapted)]
        ours = statistics.median(r["seconds"] for r in chosen if r["side"] == "Lightune")
        for side in SIDES:
            seconds = [r["seconds"] for r in chosen if r["side"] == side]
            if not seconds:
                continue
            memory = statistics.median(r["peak_memory_mb"] for r in chosen if r["side"] == side)
            scores = [f"{r['accuracy']:.3f}" for r in chosen if r["side"] == side]
            spread = f"{min(seconds):.1f} to {max(seconds):.1f}"
            middle = statistics.median(seconds)
            print(
                f"  {side:30} {middle:8.1f} s ({spread})  {middle / ours:5.2f} x"
                f"  {memory:6.0f} MB  accuracy {' '.join(scores)}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=[*WORKLOADS])
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.rounds):
            for name, load in WORKLOADS.items():
                if options.only not in (None, name):
                    continue
                train, test = text_sets.prepare(load["data"], Path(folder))
                train = subset(train, load["rows"], Path(folder))
                test = subset(test, 800, Path(folder))
                for adapted, targets in TARGETS.items():
                    for side in random.sample(list(SIDES), len(SIDES)):
                        result = run(side, load, targets, train, test, seed)
                        row = {"workload": name, "targets": adapted, "side": side, "seed": seed}
                        rows.append(row | result)
                        RESULTS.parent.mkdir(exist_ok=True)
                        with RESULTS.open("a") as file:
                            file.write(json.dumps(rows[-1]) + "\n")
                        print(json.dumps(rows[-1]), flush=True)
    report(rows)


if __name__ == "__main__":
    main()
