"""One training with default settings on a public data set, and what is kept of it as a row.

Method:  `lightune train` in a process of its own, with nothing set but data, model, method, seed.
Holds:   `correct` has one bit per test record, so that two rows can be compared record by record;
         `adapter_bytes` is the size of the trained weights' file, the new head's included.
Errors:  `sides.Failed` with the command and its output.
Not here: which rows there are (`classification.py`, `methods.py`).
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import sides
import text_sets

MODELS = {"chnsenticorp": "bge-small-zh"}
"""Models of the data sets that are not run with `minilm`."""

KEPT = ("trainable_parameters", "total_parameters", "seconds", "examples_per_s", "epochs",
        "peak_memory_mb", "records")  # fmt: skip


def model_of(name: str) -> str:
    """Return the model a data set is run with; a local copy stands in for the hub where given."""
    model = MODELS.get(name, "minilm")
    local = text_sets.WEIGHTS / "bge-small-zh-v1.5"
    return str(local) if model == "bge-small-zh" and local.is_dir() else model


def command(name: str, method: str, seed: int, files: tuple[Path, Path], out: Path) -> list[str]:
    """Return the command line of one row.

    Args:
        files: training and test records.
    """
    return [
        str(Path(sys.executable).with_name("lightune")), "train", "--json",
        "--task", "classification",
        "--data", str(files[0]), "--test", str(files[1]), "--model", model_of(name),
        "--method", method, "-s", f"train.seed={seed}", "-s", "data.overlap=allow",
        "--out", str(out),
    ]  # fmt: skip


def run(
    name: str, method: str, seed: int, files: tuple[Path, Path], threads: int | None = None
) -> dict[str, Any]:
    """Train one row and return what is worth keeping; None takes all the threads there are."""
    environment = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        words = command(name, method, seed, files, out)
        summary = json.loads(sides.output(words, environment))
        return {
            "data": name,
            "model": MODELS.get(name, "minilm"),
            "method": method,
            "seed": seed,
            "metrics": {key: value["value"] for key, value in summary["metrics"].items()},
            **{key: summary[key] for key in KEPT},
            "baseline": summary["baselines"],
            **left_in(out),
        }


def left_in(run: Path) -> dict[str, Any]:
    """Return what a run folder tells beside its summary."""
    here = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    lines = (run / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    told = [json.loads(line) for line in lines]
    weights = [file.stat().st_size for file in (run / "adapter").glob("*.safetensors")]
    return {
        "adapter_bytes": sum(weights),
        "correct": packed([one["prediction"] == one["label"] for one in told]),
        "versions": here["packages"],
        "cpu": here["cpu"],
    }


def packed(bits: list[bool]) -> str:
    """Return bits as hexadecimal digits."""
    return np.packbits(np.array(bits, dtype=bool)).tobytes().hex()


def unpacked(digits: str, count: int) -> np.ndarray:
    """Return the first `count` bits, `[count]`, 1.0 or 0.0."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8), count=count).astype(float)
