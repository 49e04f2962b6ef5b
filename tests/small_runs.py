"""Whole trainings that take a fraction of a second: a tiny random model, a few rows, two steps."""

import csv
import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from lightune.pipeline import train
from lightune.run import Run

WORDS = {"neg": "bad", "pos": "good", "so-so": "dull"}


def rows(kind: str = "binary", count: int = 40) -> list[dict[str, Any]]:
    """Return distinct labelled rows: `binary`, `multi-class`, `multi-label` or `pair`."""
    labels = list(WORDS)[: 3 if kind.startswith("multi") else 2]
    made = []
    for number in range(count):
        label = labels[number % len(labels)]
        # Lengths differ, so that batches differ in width; the label can be read from the text.
        text = f"{'the film is ' * (number % 5)}{WORDS[label]} number {number}"
        row: dict[str, Any] = {"text": text, "label": label}
        if kind == "multi-label":
            row["label"] = [label, labels[0]] if number % 2 and label != labels[0] else [label]
        if kind == "pair":
            row = {"text": text, "text_pair": f"what time {number}", "label": label}
        made.append(row)
    return made


def write_csv(path: Path, table: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return path


def recipe(model: Path | str, method: Any = "lora", **changes: Any) -> dict[str, Any]:
    """Return a recipe for two quick steps in float32 on one thread.

    Args:
        changes: `data`, `task`, or keys of `train`; `evaluation` and `optimizer` replace theirs.
    """
    task = changes.pop("task", "classification")
    data = changes.pop("data", None) or rows()
    if isinstance(data, list):
        data = {"train": data}
    quick = {"max_steps": 2, "precision": "fp32", "engine": {"threads": 1}}
    return {
        "task": task,
        "model": str(model),
        "method": method,
        "data": data,
        "train": quick | {"optimizer": {"warmup": 0}} | changes,
    }


def small_run(out: Path, model: Path | str, method: Any = "lora", **changes: Any) -> Run:
    """Train `recipe(...)` into the folder `out`."""
    metrics = changes.pop("metrics", None)
    return train(recipe(model, method, **changes), out=out, metrics=metrics, progress="silent")


def files(folder: Path) -> dict[str, bytes]:
    """Return every file below `folder` by its relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def weights(run: Run) -> dict[str, Tensor]:
    """Return the tensors of a run's adapter."""
    [file] = run.adapter.glob("*.safetensors")
    return load_file(file)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
