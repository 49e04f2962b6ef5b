"""The workloads of the speed benchmarks: data, model, batch size, length, epochs, LoRA settings.

Why:     every side of a comparison reads the same files and settings from here, so that they
         cannot drift apart.
Holds:   five workloads; for each the rows and steps of its two kinds of runs:
         `speed`  some dozens of steps, timed after a warm-up; no score
         `score`  the whole training, with the final score on the test set
Data:    from `text_sets.py`. Long texts are AG News descriptions of one topic, 8 to 14 joined to a
         document: real sentences, and up to 512 tokens as the benchmark asks for.
Not here: how a side trains (`side_lightune.py`, `peer_trainer.py`, `peer_trl.py`).
"""

import csv
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import text_sets

RATE = 5e-4
WARM_STEPS = 4
"""Steps of a training of its own before the timed one, in the same process."""


@dataclass(frozen=True)
class Workload:
    """One row of the table of targets.

    Attributes:
        data: name in `text_sets`, or `long`, or `gsm8k`.
        rows: training rows of a score run.
        test_rows: test rows of a score run.
        steps: timed optimiser steps per epoch of a speed run.
        plain_steps: the same for the plain peer, which pads every batch to `pad` tokens and so
            takes the same time for each.
        pad: the plain peer's fixed length.
        first_block: LoRA on the blocks from this one on; None adapts all.
        targets: ratios asked for: time against plain, time against the best, memory against the
            best; None where nothing is asked.
    """

    name: str
    task: str
    data: str
    model: str
    rows: int
    test_rows: int
    batch: int
    max_length: int
    epochs: int
    steps: int
    plain_steps: int
    pad: int
    targets: tuple[float | None, float | None, float | None]
    first_block: int | None = None

    @property
    def trl(self) -> bool:
        """Whether TRL's trainer is a peer."""
        return self.task == "instruct"


WORKLOADS = (
    Workload(
        "short texts", "classification", "sst2", "minilm", 8000, 872, 32, 128, 1,
        steps=100, plain_steps=20, pad=128, targets=(10, 2.2, 0.8),
    ),
    Workload(
        "medium texts", "classification", "ag_news", "minilm", 10000, 2000, 16, 128, 1,
        steps=100, plain_steps=20, pad=128, targets=(8, 2.5, 0.7),
    ),
    Workload(
        "last 2 blocks", "classification", "ag_news", "minilm", 2000, 2000, 16, 128, 5,
        steps=50, plain_steps=8, pad=128, targets=(None, 4, None), first_block=4,
    ),
    Workload(
        "long texts", "classification", "long", "minilm", 900, 400, 8, 512, 2,
        steps=60, plain_steps=12, pad=512, targets=(6, 3, 0.6),
    ),
    Workload(
        "SmolLM2 instructions", "instruct", "gsm8k", "smollm2-135m", 1000, 200, 4, 512, 1,
        steps=60, plain_steps=10, pad=512, targets=(5, 2.2, 0.6),
    ),
)  # fmt: skip
"""Smallest first."""

BY_NAME = {load.name: load for load in WORKLOADS}


def shrunk(load: Workload, rows: int, steps: int) -> Workload:
    """Return the workload cut down to a few rows and steps: to see that all of it runs."""
    return replace(
        load,
        rows=min(load.rows, rows),
        test_rows=min(load.test_rows, rows),
        steps=min(load.steps, steps),
        plain_steps=min(load.plain_steps, steps),
    )


def missing(load: Workload) -> str | None:
    """Return why a workload cannot be run here, or None where it can."""
    need = {"long": "ag_news"}.get(load.data, load.data)
    folder = text_sets.DATA / need
    return None if folder.is_dir() else f"{load.name}: no folder {need} in LIGHTUNE_DATA"


def files(load: Workload, kind: str, plain: bool, work: Path) -> tuple[Path, Path]:
    """Write the training and the test file of one run, unless they are there.

    Args:
        kind: `speed` takes `steps * batch` rows and hardly any test rows; `score` takes all.
        plain: whether they are for the plain peer.
    """
    steps = load.plain_steps if plain else load.steps
    count = load.rows if kind == "score" else min(load.rows, steps * load.batch)
    tests = load.test_rows if kind == "score" else load.batch
    train, test = _whole(load, work)
    return text_sets.first(train, count, work), text_sets.first(test, tests, work)


def _whole(load: Workload, work: Path) -> tuple[Path, Path]:
    work.mkdir(parents=True, exist_ok=True)
    if load.data == "gsm8k":
        return text_sets.DATA / "gsm8k/train.jsonl", text_sets.DATA / "gsm8k/test.jsonl"
    if load.data == "long":
        return _long("train", work), _long("test", work)
    return text_sets.prepare(load.data, work)


def _long(split: str, work: Path) -> Path:
    path = work / f"long_{split}.csv"
    if not path.exists():
        texts = list(text_sets.SETS["ag_news"][("train", "test").index(split)]())
        with path.with_suffix(".part").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["text", "label"], *joined(texts)])
        path.with_suffix(".part").replace(path)
    return path


def joined(rows: list[list[str]], least: int = 8, most: int = 14) -> Iterator[list[str]]:
    """Yield `[text, label]`: texts of one label joined to documents, in random order, each text
    used once at most."""
    draw = random.Random(0)
    by_label: dict[str, list[str]] = {}
    for text, label in rows:
        by_label.setdefault(label, []).append(text)
    documents = []
    for label, texts in sorted(by_label.items()):
        while len(texts) >= most:
            count = draw.randint(least, most)
            documents.append([" ".join(texts[:count]), label])
            texts = texts[count:]
    draw.shuffle(documents)
    yield from documents


def model_folder(name: str) -> str:
    """Return the folder of a catalogue model's files, fetched if need be."""
    command = [str(Path(sys.executable).with_name("lightune")), "models", "pull", name, "--json"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    if shown.returncode:
        raise SystemExit(shown.stderr)
    return json.loads(shown.stdout)["model"]["folder"]


def job(load: Workload, kind: str, plain: bool, seed: int, work: Path) -> dict[str, Any]:
    """Return what a side's process reads: the workload's settings, files and folders."""
    train, test = files(load, kind, plain, work)
    return {
        **asdict(load),
        "folder": model_folder(load.model),
        "train": str(train),
        "test": str(test),
        "few": str(text_sets.first(Path(test), load.batch, work)),
        "score": kind == "score",
        "warm": WARM_STEPS if kind == "speed" else 0,
        "seed": seed,
        "rate": RATE,
        "rank": 8,
        "alpha": 16,
    }
