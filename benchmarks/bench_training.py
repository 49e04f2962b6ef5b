"""Training on this machine: Lightune against Trainer + PEFT, plain and at its best, and TRL.

Method:  every side trains in a process of its own, one after the other, on the same rows, base
         weights, LoRA settings, batch size, epochs, learning rate and dropout; the order of the
         sides is drawn anew in each round, so that a slow spell of the machine falls on all.
Rows:    `trial`  ten steps of each form of a peer at its best; the fastest goes on
         `speed`  a whole pass over some dozens of batches, timed after a warm-up, several rounds
         `score`  the whole training and its final score, several seeds; only with --full
         The plain peer, which takes the same time for every batch, gets fewer speed steps.
Resume:  rows are appended to benchmarks/results/training.jsonl as they come, and are not run again.
Report:  medians, spread, ratio, memory, share of the ceiling; docs/performance.md has them in full
         (`performance_page.py`).
Run:     .venv/bin/python benchmarks/bench_training.py [--full] [--minutes 60] [--only WORKLOAD]
Needs:   the data sets (see text_sets.py); a workload whose data is absent is skipped, and said.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import figures
import result_rows
import sides
import trl_environment
import workloads
from workloads import Workload

RESULTS = result_rows.RESULTS / "training.jsonl"
TRIAL_STEPS = 10
ROUNDS = SEEDS = 3
KINDS = ("trial", "speed", "score")
Key = dict[str, Any]


def key(load: Workload, side: str, kind: str, number: int) -> Key:
    """Return what makes a row that row: the settings that decide its outcome among it.

    Args:
        number: the round of a speed row, the seed of a score row; 0 for a trial.
    """
    size = {"steps": load.plain_steps if side == sides.PLAIN else load.steps}
    if kind == "trial":
        size = {"steps": min(TRIAL_STEPS, load.steps)}
    elif kind == "score":
        size = {"rows": load.rows}
    names = ("batch", "max_length", "epochs", "model")
    settings = {name: asdict(load)[name] for name in names} | size
    return {"workload": load.name, "kind": kind, "side": side, "number": number, **settings}


def trials(load: Workload) -> list[Key]:
    return [key(load, side, "trial", 0) for side in sides.peers(load)]


def chosen(rows: list[dict[str, Any]], load: Workload) -> list[str]:
    """Return the sides of a workload's speed and score rows: ours, plain, and of each kind of peer
    the form that the trials found fastest (none while there are no trials)."""
    tried = [row for row in rows if row["key"] in trials(load)]
    best = [
        figures.fastest(row for row in tried if row["key"]["side"] in forms)
        for forms in (sides.BEST, sides.TRL)
    ]
    plain = [] if load.targets[0] is None else [sides.PLAIN]
    return [sides.OURS, *(side for side in best if side), *plain]


def planned(rows: list[dict[str, Any]], load: Workload, kind: str, count: int) -> list[list[Key]]:
    """Return the keys of a workload's `speed` or `score` rows, a list per round."""
    names = chosen(rows, load)
    return [[key(load, side, kind, number) for side in names] for number in range(count)]


def wanted(rows: list[dict[str, Any]], loads: tuple[Workload, ...]) -> list[Key]:
    """Return every key of the full benchmark, for the list of what was not run."""
    every = [one for load in loads for one in trials(load)]
    for kind, count in (("speed", ROUNDS), ("score", SEEDS)):
        every += [k for load in loads for keys in planned(rows, load, kind, count) for k in keys]
    return every


class Bench:
    """One call of the benchmark."""

    def __init__(
        self,
        results: Path,
        work: Path,
        loads: list[Workload],
        go_on: Callable[[], bool],
        without: Sequence[str] = (),
    ):
        self.results, self.work, self.go_on, self.without = results, work, go_on, without
        self.loads = {load.name: load for load in loads}
        self.left: list[Key] = []
        self.failed: list[str] = []

    def run(self, one: Key) -> dict[str, Any]:
        load, kind = self.loads[one["workload"]], one["kind"]
        if kind == "trial":
            load = workloads.shrunk(load, load.rows, one["steps"])
        kind = "score" if kind == "score" else "speed"
        begun = time.perf_counter()
        result = sides.run(load, one["side"], kind, one["number"], self.work)
        return {**result, "process_seconds": time.perf_counter() - begun}

    def fill(self, keys: list[Key]) -> None:
        """Run what is missing; a side that fails leaves its row out, and is told at the end."""
        for one in keys:
            if one["side"] in self.without:
                self.left.append(one)
                continue
            try:
                self.left += result_rows.fill(self.results, [one], self.run, self.go_on)
            except (sides.Failed, trl_environment.Unavailable) as error:
                self.left.append(one)
                self.failed.append(f"{one['workload']}, {one['side']}: {error}")
                print(self.failed[-1], flush=True)

    def rows(self) -> list[dict[str, Any]]:
        """Return this machine's rows."""
        here = result_rows.machine()
        every = result_rows.read(self.results)
        return [row for row in every if result_rows.same_machine(row["machine"], here)]

    def all(self, kinds: tuple[str, ...], rounds: int, seeds: int) -> None:
        for load in self.loads.values():
            if "trial" in kinds:
                self.fill(trials(load))
        for kind, count in (("speed", rounds), ("score", seeds)):
            for number in range(count if kind in kinds else 0):
                for load in self.loads.values():
                    rows = self.rows()
                    keys = planned(rows, load, kind, count)[number]
                    self.fill(random.sample(keys, len(keys)))


def report(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield lines with medians, spread, ratio, memory and scores, by workload and kind."""
    groups = {(row["key"]["workload"], row["key"]["kind"]): None for row in rows}
    for workload, kind in groups:
        yield f"\n{workload}, {kind}"
        here = [r for r in rows if (r["key"]["workload"], r["key"]["kind"]) == (workload, kind)]
        ours = [r for r in here if r["key"]["side"] == sides.OURS]
        for side in {row["key"]["side"]: None for row in here}:
            mine = [r for r in here if r["key"]["side"] == side]
            rate = figures.middle(1 / figures.seconds_per_example(r) for r in mine)
            memory = figures.middle(r["peak_memory_mb"] for r in mine)[0]
            times = f"{figures.ratio(mine, ours):6.2f} x" if ours else ""
            part = figures.middle(figures.share(r) for r in mine)[0]
            scores = " ".join(f"{r['score']:.4f}" for r in mine if "score" in r)
            yield (
                f"  {side:36} {rate[0]:7.1f} examples/s ({rate[1]:.1f} to {rate[2]:.1f}) {times}"
                f"  {memory:6.0f} MB  {part:4.0%} of the ceiling  {scores}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="score rows too; no limit of time")
    parser.add_argument("--minutes", type=float, default=60, help="start no row after so long")
    parser.add_argument("--only", action="append", choices=[*workloads.BY_NAME])
    parser.add_argument("--kind", action="append", choices=KINDS)
    parser.add_argument("--without", action="append", default=[], metavar="SIDE", help="leave out")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--rows", type=int, help="cut every workload down to so many rows …")
    parser.add_argument("--steps", type=int, default=3, help="… and steps, to see that it runs")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "lightune-bench")
    options = parser.parse_args()
    loads = [load for load in workloads.WORKLOADS if load.name in (options.only or [load.name])]
    for reason in filter(None, map(workloads.missing, loads)):
        print(f"skipped: {reason}")
    loads = [load for load in loads if not workloads.missing(load)]
    if options.rows:
        loads = [workloads.shrunk(load, options.rows, options.steps) for load in loads]
    kinds = tuple(options.kind or (KINDS if options.full else KINDS[:2]))
    ends = time.monotonic() + 60 * (1e6 if options.full else options.minutes)
    bench = Bench(
        options.results, options.work, loads, lambda: time.monotonic() < ends, options.without
    )
    bench.all(kinds, options.rounds, options.seeds)
    print(*report(bench.rows()), sep="\n")
    if bench.left:
        print(f"\nnot run: {len(bench.left)} rows; run again to go on")
    for failure in bench.failed:
        print(f"\nfailed: {failure}")
    if bench.failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
