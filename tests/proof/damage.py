"""Flip bits, truncate and delete files of a checkpoint and of a sealed run: is all of it seen?

    python tests/proof/damage.py --flips 1000 --truncations 100

The checkpoint is a tiny model's, written as a training writes it and read as a resume reads it.
The run is a folder of files of the same sizes with a seal, compared as `lightune verify` does
before it loads anything. Each damage is made alone, judged, and taken back.
Prints one JSON object: for both, how many of each kind were made and how many were seen.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lightune.errors import RunError
from lightune.runs import sealed
from lightune.train import checkpoint
from lightune.train.state import Best, LoopState


def a_state() -> LoopState:
    """Return a state of 2,000 weights with moments and a best copy."""
    torch.manual_seed(0)
    weights = {f"layer.{n}.weight": torch.randn(20, 25) for n in range(4)}
    moments = {
        path: {"step": torch.tensor(7.0), "exp_avg": w / 9, "exp_avg_sq": w * w}
        for path, w in weights.items()
    }
    best = Best(5, 0.5, {"accuracy": 0.5}, {path: w + 1 for path, w in weights.items()})
    return LoopState(7, 1, 2, 0, 0, best, weights, moments)


def damaged(content: bytes, kind: str, chance: random.Random) -> bytes:
    """Return a file's bytes with one bit flipped, or cut."""
    if kind == "truncations":
        return content[: chance.randrange(len(content))]
    changed = bytearray(content)
    changed[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def judge(
    folder: Path, seen: Callable[[], bool], counts: dict[str, int], seed: int
) -> dict[str, Any]:
    """Damage the files of `folder`, each time one of them, as often as `counts` says."""
    chance = random.Random(seed)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    by_size = [path.stat().st_size for path in files]
    assert not seen(), "a whole folder must pass"
    found: dict[str, Any] = {"files": len(files)}
    for kind, count in counts.items():
        hits = 0
        for _ in range(count):
            [path] = chance.choices(files, by_size)
            content = path.read_bytes()
            path.write_bytes(damaged(content, kind, chance))
            hits += seen()
            path.write_bytes(content)
        found[kind] = [count, hits]
    hits = 0
    for path in files:
        content = path.read_bytes()
        path.unlink()
        hits += seen()
        path.write_bytes(content)
    found["deletions"] = [len(files), hits]
    assert not seen(), "every damage was taken back"
    return found


def prove(flips: int, truncations: int, seed: int, place: Path) -> dict[str, Any]:
    """Return what was made and seen, for a checkpoint and for a sealed run."""
    counts = {"flips": flips, "truncations": truncations}
    saved = checkpoint.write(place / "checkpoints", a_state(), {"recipe": "task: x", "seconds": 1})
    run = place / "run"
    (run / "adapter").mkdir(parents=True)
    for name in ("recipe.yaml", "eval.json", "predictions.jsonl", "adapter/lightune.json"):
        (run / name).write_text(f"{name}\n" * 40)
    (run / "adapter" / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 32)
    seal: dict[str, Any] = {"files": sealed.hashes(run)}

    def refused() -> bool:
        try:
            checkpoint.read(saved)
        except RunError:
            return True
        return False

    return {
        "checkpoint": judge(saved, refused, counts, seed),
        "sealed run": judge(run, lambda: bool(sealed.changed(run, seal)), counts, seed),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--truncations", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        found = prove(chosen.flips, chosen.truncations, chosen.seed, Path(place))
    print(json.dumps(found, indent=1))
    kinds = ("flips", "truncations", "deletions")
    sys.exit(
        any(found[thing][kind][0] != found[thing][kind][1] for thing in found for kind in kinds)
    )


if __name__ == "__main__":
    main()
