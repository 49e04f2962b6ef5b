"""What each part of the engine is worth: Lightune with it on, and with it off.

Method:  on and off by turns in processes of their own, on the workloads of bench_training.py where
         the part matters, each the speed run described there; the order is drawn anew per round.
Holds:   `off` does what the part replaces: PyTorch's attention, its dropout, its autograd, random
         batches, every block in every epoch, all logits at once. Equality of the results is the
         matter of tests, not of this script.
Resume:  rows are appended to benchmarks/results/parts.jsonl, and are not run again.
Run:     .venv/bin/python benchmarks/bench_parts.py [--rounds 3] [--minutes 30] [--only PART]
"""

import argparse
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import figures
import result_rows
import sides
import workloads

RESULTS = result_rows.RESULTS / "parts.jsonl"
ROUNDS = 3
SHORT, MEDIUM, LAST, LONG, LLM = (load.name for load in workloads.WORKLOADS)


@dataclass(frozen=True)
class Part:
    """A part of the engine: what it is, the change that switches it off, and where it matters."""

    name: str
    off: str
    loads: tuple[str, ...]


PARTS = (
    Part("attention", "train.engine.attention=sdpa", (SHORT, MEDIUM, LONG)),
    Part("dropout", "train.engine.dropout=torch", (SHORT, MEDIUM)),
    Part("lowrank", "train.engine.lowrank=false", (SHORT, MEDIUM, LLM)),
    Part("batches", "train.engine.batches=random", (SHORT, MEDIUM, LLM)),
    Part("prefix_cache", "train.engine.prefix_cache=off", (LAST,)),
    Part("losses", "train.engine.losses=full", (LLM,)),
    Part("native", "train.engine.native=off", (SHORT, MEDIUM, LLM)),
    Part("precision", "train.precision=fp32", (SHORT, MEDIUM)),
)
Key = dict[str, Any]


def wanted(rounds: int = ROUNDS, only: str | None = None, steps: int | None = None) -> list[Key]:
    """Return the keys of all rows, a round at a time: `on` once per workload, and every `off`."""
    keys = []
    for number in range(rounds):
        for load in workloads.WORKLOADS:
            chosen = [
                p for p in PARTS if load.name in p.loads and only in (None, p.name)
            ]  # fmt: skip
            variants = [("on", "")] * bool(chosen) + [(p.name, p.off) for p in chosen]
            keys += [
                {
                    "workload": load.name, "side": name, "change": change, "number": number,
                    "steps": min(load.steps, steps or load.steps),
                }
                for name, change in random.Random(number).sample(variants, len(variants))
            ]  # fmt: skip
    return keys


def report(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return a line per part and workload: examples per second on and off, their ratio, and the
    memory of both. `side` "on" is the engine as it comes."""
    lines = []
    for part in PARTS:
        for load in part.loads:
            on, off = (
                [r for r in rows if (r["key"]["workload"], r["key"]["side"]) == (load, side)]
                for side in ("on", part.name)
            )
            if not on or not off:
                continue
            rates = [
                figures.middle(1 / figures.seconds_per_example(r) for r in s) for s in (on, off)
            ]
            memory = [figures.middle(r["peak_memory_mb"] for r in side)[0] for side in (on, off)]
            lines.append(
                [
                    part.name,
                    load,
                    f"`{part.off}`",
                    *(f"{rate[0]:.1f} ({rate[1]:.1f} to {rate[2]:.1f})" for rate in rates),
                    f"{figures.ratio(off, on):.2f}",
                    f"{memory[0]:,.0f} / {memory[1]:,.0f}",
                ]
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--minutes", type=float, default=1e6, help="start no row after so long")
    parser.add_argument("--only", choices=[part.name for part in PARTS])
    parser.add_argument("--steps", type=int, help="fewer steps, to see that it runs")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "lightune-bench")
    options = parser.parse_args()
    keys = wanted(options.rounds, options.only, options.steps)
    for reason in filter(None, map(workloads.missing, workloads.WORKLOADS)):
        print(f"skipped: {reason}")
    keys = [k for k in keys if not workloads.missing(workloads.BY_NAME[k["workload"]])]

    def run(key: Key) -> dict[str, Any]:
        load = workloads.BY_NAME[key["workload"]]
        load = workloads.shrunk(load, load.rows, key["steps"])
        changes = [key["change"]] if key["change"] else []
        return sides.run(load, sides.OURS, "speed", key["number"], options.work, changes=changes)

    ends = time.monotonic() + 60 * options.minutes
    left = result_rows.fill(options.results, keys, run, lambda: time.monotonic() < ends)
    for line in report(result_rows.read(options.results)):
        print(*line, sep="  ")
    print(f"not run: {len(left)} rows" if left else "all rows are there")


if __name__ == "__main__":
    main()
