"""A training of ten thousand steps: does memory grow, are files or threads left open?

    python tests/proof/long_run.py --steps 10000

A tiny model, LoRA with dropout, scored and saved as it goes. Every hundredth of it the process's
resident memory, open files and threads are read. The first fifth, in which caches fill, is left
out; through the rest a line is drawn by least squares. Prints one JSON object.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from small_runs import recipe, rows, write_csv

from lightune import pipeline
from lightune.models.tiny import save_tiny
from lightune.train.memory import rss_mb

MOST_MB = 1.0
"""Growth in a thousand steps that counts as none."""


def prove(steps: int, place: Path) -> dict[str, Any]:
    """Train `steps` steps; return what was read on the way."""
    every = max(1, steps // 100)
    samples: list[tuple[int, float, int, int]] = []
    step_of = pipeline.Progress.step

    def step(self: Any, number: int) -> None:
        step_of(self, number)
        if number % every == 0:
            threads = len(os.listdir("/proc/self/task"))
            samples.append((number, rss_mb(), len(os.listdir("/proc/self/fd")), threads))

    data = str(write_csv(place / "rows.csv", rows(count=40)))
    given = recipe(
        save_tiny(place / "model", "bert"),
        {"name": "lora", "dropout": 0.1},
        data={"train": data, "test": 0.2, "validation": 0.2},
        max_steps=steps,
        batch_size=4,
        save_steps=max(1, steps // 20),
        evaluation={"every": max(1, steps // 20)},
        seal=False,
    )
    begun = time.monotonic()
    with mock.patch.object(pipeline.Progress, "step", step):
        pipeline.train(given, out=place / "run", progress="silent")
    settled = [sample for sample in samples if sample[0] > steps / 5]
    at, memory, files, threads = zip(*settled, strict=True)
    slope = 1000 * float(np.polyfit(at, memory, 1)[0])
    return {
        "steps": steps,
        "mb_per_1000_steps": round(slope, 3),
        "rss_mb": [round(memory[0], 1), round(memory[-1], 1)],
        "open_files": [files[0], files[-1], max(files)],
        "threads": [threads[0], threads[-1], max(threads)],
        "seconds": round(time.monotonic() - begun),
    }


def flat(found: dict[str, Any]) -> bool:
    """Whether nothing grew."""
    same = all(max(found[name]) == found[name][0] for name in ("open_files", "threads"))
    return same and found["mb_per_1000_steps"] < MOST_MB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        found = prove(chosen.steps, Path(place))
    print(json.dumps(found, indent=1))
    sys.exit(not flat(found))


if __name__ == "__main__":
    main()
