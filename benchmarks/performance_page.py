"""Make docs/performance.md from the JSON lines in benchmarks/results/ and nothing else.

Invariants: every figure comes from a row; what has no row is listed as not run. What was tried
            where a target is missed is written by hand in `remedies.md`, where there is such a
            file, and taken as it stands.
Run:        .venv/bin/python benchmarks/performance_page.py
Not here:   running anything; the arithmetic of ratios (`figures.py`); engine parts, growth, profile
            and machine, which are in `performance_parts.py`.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bench_training
import figures
import performance_parts
import result_rows
import sides
from workloads import WORKLOADS, Workload, shrunk

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
REMEDIES = Path(__file__).with_name("remedies.md")
Rows = list[dict[str, Any]]

INTRO = """# Speed and memory

Made by `benchmarks/performance_page.py` from the rows in `benchmarks/results/`; do not edit.

Lightune and its peers train in turn, each in a process of its own, with the same base weights,
rows, LoRA settings (rank 8, alpha 16, all linear layers), batch size, epochs, learning rate and
dropout. `plain` is the usual script: Trainer + PEFT in float32, padded to a fixed length. At their
best, Trainer + PEFT and TRL + PEFT use bfloat16, batches grouped by length, and whichever of two
attention kernels and two formats of the frozen weights was fastest in a trial on this machine.

*Speed* rows train one pass (five for the last 2 blocks) over some dozens of batches after a
warm-up; *score* rows train to the end. A ratio of times is the peer's seconds per example by
Lightune's; a ratio of memory is Lightune's peak by the peer's, of the whole process. The share of
the ceiling is 2 × (weights of the linear layers + those that gradients pass) × real tokens per
second, by the best rate of a matrix product measured in the same process right after the training.

`make bench` runs what takes about an hour, `.venv/bin/python benchmarks/bench_training.py --full`
all of it; both go on where they stopped. The data sets are read from the folder that
`LIGHTUNE_DATA` names.
"""


def of(rows: Rows, load: Workload, kind: str, side: str | None = None) -> Rows:
    """Return a workload's rows of one kind and side, of the settings that hold now.

    Rows of other settings (an earlier batch size, a trial with fewer steps) are left out.
    """
    numbers = range(max(bench_training.ROUNDS, bench_training.SEEDS))
    names = [sides.OURS, sides.PLAIN, *sides.peers(load)]
    keys = [
        bench_training.key(load, name, kind, number)
        for name in names
        if side in (None, name)
        for number in numbers
    ]
    return [row for row in rows if row["key"] in keys]


def sides_of(rows: Rows) -> list[str]:
    return list({row["key"]["side"]: None for row in rows})


def target_line(rows: Rows, load: Workload) -> list[str]:
    """Return a workload's line of the table of targets."""
    ours, plain = (of(rows, load, "speed", side) for side in (sides.OURS, sides.PLAIN))
    peers = [r for r in of(rows, load, "speed") if r["key"]["side"] in sides.peers(load)]
    best = figures.fastest(peers)
    against = of(rows, load, "speed", best) if best else []
    measured = (
        figures.ratio(plain, ours) if plain and ours else None,
        figures.ratio(against, ours) if against and ours else None,
        figures.memory_ratio(against, ours) if against and ours else None,
    )
    cells = [
        figures.verdict(value, target, more)
        for value, target, more in zip(measured, load.targets, (True, True, False), strict=True)
    ]
    return [load.name, *cells, best or "not run", _scores_verdict(rows, load)]


def _scores_verdict(rows: Rows, load: Workload) -> str:
    """Return whether our mean score is within the spread of the peer's seeds, or better."""
    ours = [r["score"] for r in of(rows, load, "score", sides.OURS)]
    names = [s for s in sides_of(of(rows, load, "score")) if s in sides.peers(load)]
    peers = [r["score"] for name in names for r in of(rows, load, "score", name)]
    if not ours or not peers:
        return "not run"
    mean = sum(ours) / len(ours)
    sign = 1 if load.task == "classification" else -1  # of a loss, less is better
    within = sign * mean >= min(sign * score for score in peers)
    told = f"{mean:.4f} beside {min(peers):.4f} to {max(peers):.4f}"
    return f"{told}: {'not worse' if within else 'WORSE'} ({len(ours)} and {len(peers)} runs)"


def speed_lines(rows: Rows, load: Workload, kind: str) -> Iterator[list[str]]:
    """Yield a line per side: speed and spread, ratio, memory, share of the ceiling."""
    here = of(rows, load, kind)
    ours = [r for r in here if r["key"]["side"] == sides.OURS]
    for side in sides_of(here):
        mine = [r for r in here if r["key"]["side"] == side]
        rate = figures.middle(1 / figures.seconds_per_example(r) for r in mine)
        memory = figures.middle(r["peak_memory_mb"] for r in mine)[0]
        yield [
            side,
            f"{rate[0]:.1f} ({rate[1]:.1f} to {rate[2]:.1f})",
            f"{figures.ratio(mine, ours):.2f}" if ours else "",
            f"{memory:,.0f} MB",
            f"{figures.middle(figures.share(r) for r in mine)[0]:.0%}",
            f"{len(mine)}",
        ]


def score_lines(rows: Rows, load: Workload) -> Iterator[list[str]]:
    """Yield a line per side: each seed's score, and the seconds of the whole training."""
    here = of(rows, load, "score")
    for side in sides_of(here):
        mine = sorted(
            (r for r in here if r["key"]["side"] == side), key=lambda r: r["key"]["number"]
        )
        seconds = figures.middle(r["seconds"] for r in mine)
        yield [
            side,
            " ".join(f"{row['score']:.4f}" for row in mine),
            f"{seconds[0]:,.0f} ({seconds[1]:,.0f} to {seconds[2]:,.0f})",
            f"{mine[0]['trainable_parameters']:,}",
        ]


def workload_section(rows: Rows, load: Workload) -> Iterator[str]:
    score = "accuracy" if load.task == "classification" else "mean loss of an answer's token"
    blocks = "" if load.first_block is None else f", LoRA on the blocks from {load.first_block} on"
    yield f"## {load.name}"
    yield ""
    yield (
        f"{load.model} on {load.data}, batch {load.batch}, at most {load.max_length} tokens, "
        f"{load.epochs} {'epoch' if load.epochs == 1 else 'epochs'}{blocks}."
    )
    speed = ("side", "examples/s", "their time / ours", "peak memory", "of the ceiling", "runs")
    yield from table("Speed", speed, speed_lines(rows, load, "speed"))
    scores = ("side", f"{score}, by seed", "seconds", "trained weights")
    yield from table("Whole training", scores, score_lines(rows, load))
    yield from table("Trial of the peers' forms", speed, speed_lines(rows, load, "trial"))


def table(title: str, head: tuple[str, ...], lines: Any) -> Iterator[str]:
    """Yield a Markdown table under a title; nothing where it has no lines."""
    lines = list(lines)
    if lines:
        yield from ("", f"{title}:", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|")
        yield from (f"| {' | '.join(cells)} |" for cells in lines)


def page(results: Path, remedies: str, loads: tuple[Workload, ...] = WORKLOADS) -> str:
    """Return the whole page.

    Args:
        loads: the workloads, in full or as a try-out cut them down.
        results: folder with `training.jsonl`, `parts.jsonl`, `growth.jsonl`, `profile.jsonl`.
        remedies: Markdown written by hand; may be empty.
    """
    rows = result_rows.newest_machine(result_rows.read(results / "training.jsonl"))
    head = (
        "workload", "against plain", "against the best", "memory against the best", "the best",
        "score",
    )  # fmt: skip
    lines = [INTRO, "## Targets"]
    lines += table(
        "Ratios measured, and the targets", head, (target_line(rows, load) for load in loads)
    )
    for load in loads:
        if of(rows, load, "trial") or of(rows, load, "speed") or of(rows, load, "score"):
            lines += ["", *workload_section(rows, load)]
    lines += performance_parts.sections(results, table)
    lines += ["", remedies.strip()] * bool(remedies)
    lines += ["", "## Not run", ""]
    lines += list(not_run(rows, results, loads)) or ["Every row was run."]
    lines += ["", *performance_parts.machine_section(results)]
    return "\n".join(lines) + "\n"


def not_run(rows: Rows, results: Path, loads: tuple[Workload, ...]) -> Iterator[str]:
    """Yield a line for each workload and kind of which rows are missing."""
    have = [row["key"] for row in rows]
    groups: dict[str, dict[str, int]] = {}
    for key in bench_training.wanted(rows, loads):
        if key not in have:
            sides_missing = groups.setdefault(f"{key['workload']}, {key['kind']}", {})
            sides_missing[key["side"]] = sides_missing.get(key["side"], 0) + 1
    for load in loads:
        if not any(of(rows, load, "trial")):
            groups[f"{load.name}, speed and score of the peers at their best"] = {"no trial yet": 1}
    for name, missing in groups.items():
        yield f"- {name}: " + ", ".join(f"{side} ({count})" for side, count in missing.items())
    yield from performance_parts.not_run(results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=result_rows.RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--rows", type=int, help="rows of a try-out (as bench_training.py) …")
    parser.add_argument("--steps", type=int, default=3, help="… and its steps")
    options = parser.parse_args()
    loads = WORKLOADS
    if options.rows:
        loads = tuple(shrunk(load, options.rows, options.steps) for load in loads)
    remedies = REMEDIES.read_text(encoding="utf-8") if REMEDIES.exists() else ""
    text = page(options.results, remedies, loads)
    options.page.parent.mkdir(exist_ok=True)
    options.page.write_text(text, encoding="utf-8")
    print(json.dumps({"page": str(options.page)}))


if __name__ == "__main__":
    main()
