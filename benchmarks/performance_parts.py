"""Sections of docs/performance.md beside the comparison: engine parts, growth, profile, machine.

Not here: targets and peers (`performance_page.py`), which also says what the page holds to.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bench_growth
import bench_parts
import figures
import profile_steps
import result_rows

Table = Callable[[str, tuple[str, ...], Any], Iterator[str]]
COLD_START_TARGET = 8.0
"""Seconds from the command to the first step, minilm."""


def sections(results: Path, table: Table) -> Iterator[str]:
    """Yield the lines of the sections that have rows."""
    parts = _rows(results, "parts")
    if parts:
        head = (
            "part", "workload", "switched off by", "examples/s on", "examples/s off",
            "time off / on", "memory on / off, MB",
        )  # fmt: skip
        yield from ("", "## Each part of the engine, on and off")
        yield from table("Medians and ranges", head, bench_parts.report(parts))
    growth = _rows(results, "growth")
    if growth:
        yield from ("", "## Growth")
        yield from growth_section(growth, table)
    profiles = _rows(results, "profile")
    if profiles:
        yield from ("", "## Where the time goes", "")
        yield "Under PyTorch's profiler, which slows small operators down."
        for row in profiles:
            yield from profile_table(row, table)


def _rows(results: Path, file: str) -> list[dict[str, Any]]:
    return result_rows.newest_machine(result_rows.read(results / f"{file}.jsonl"))


def growth_section(rows: list[dict[str, Any]], table: Table) -> Iterator[str]:
    starts = [row for row in rows if row["key"]["kind"] == "cold start"]
    if starts:
        median, low, high = figures.middle(row["seconds"] for row in starts)
        met = figures.verdict(median, COLD_START_TARGET, more_is_better=False)
        yield ""
        yield (
            "Cold start, seconds from `lightune train` to the end of the first step, minilm: "
            f"{met}, {low:.1f} to {high:.1f} over {len(starts)}."
        )
    data = [row for row in rows if row["key"]["kind"] == "rows"]
    lines = [
        [
            f"{row['key']['value']:,}",
            f"{row['data_mb']:.1f} MB",
            f"{row['seconds']:.1f}",
            f"{row['peak_memory_mb']:,.0f} MB",
        ]
        for row in data
    ]
    head = ("rows", "file", "seconds to the first step", "peak memory")
    yield from table("Rows: reading, checking, tokenising", head, lines)
    for kind in bench_growth.VALUES:
        if kind in ("rows", "cold start"):
            continue
        lines = [
            [
                f"{row['key']['value']:,}",
                f"{1e3 * row['seconds'] / row['steps']:.0f}",
                f"{row['tokens'] / row['seconds']:,.0f}",
                f"{figures.share(row):.0%}",
                f"{row['peak_memory_mb']:,.0f} MB",
            ]
            for row in rows
            if row["key"]["kind"] == kind
        ]
        head = (kind, "ms a step", "tokens/s", "of the ceiling", "peak memory")
        others = ", ".join(f"{k} {v}" for k, v in bench_growth.BASE.items() if k not in kind)
        yield from table(f"{kind.capitalize()} (otherwise {others})", head, lines)


def profile_table(row: dict[str, Any], table: Table) -> Iterator[str]:
    wall = row["profiled_seconds"]
    lines = [
        [group, f"{seconds:.2f}", f"{seconds / wall:.0%}"]
        for group, seconds in row["groups"].items()
    ]
    title = (
        f"{row['key']['workload']}, {row['key']['steps']} steps "
        f"({row['seconds']:.1f} s without the profiler, {wall:.1f} s with it)"
    )
    yield from table(title, ("what", "seconds", "share"), lines)


def not_run(results: Path) -> Iterator[str]:
    """Yield what of these sections has no row."""
    scripts = (
        ("parts", "engine parts", bench_parts.wanted()),
        ("growth", "growth", bench_growth.wanted()),
        ("profile", "profile", profile_steps.wanted()),
    )
    for file, name, wanted in scripts:
        have = [row["key"] for row in _rows(results, file)]
        missing = [key for key in wanted if key not in have]
        kinds = {str(key.get("side", key.get("kind", key.get("workload")))): 0 for key in missing}
        if missing:
            yield f"- {name} ({', '.join(kinds)}): {len(missing)}"


def machine_section(results: Path) -> Iterator[str]:
    """Yield processor, versions, and the load when rows began, for each set of them."""
    yield from ("## Machine", "")
    machines: dict[str, list[float]] = {}
    for file in ("training", "parts", "growth", "profile"):
        for row in _rows(results, file):
            here = row["machine"]
            versions = ", ".join(f"{name} {v}" for name, v in here["packages"].items())
            units = [flag for flag in here["flags"] if flag in ("avx512_bf16", "amx_bf16", "bf16")]
            name = (
                f"{here['cpu']}, {here['cores']} cores, {here['memory_mb'] / 1024:.0f} GiB, "
                f"bfloat16 units: {', '.join(units) or 'none'}; {versions}, code {here['code']}"
            )
            machines.setdefault(name, []).append(here["load"])
    for name, loads in machines.items():
        median, _, most = figures.middle(loads)
        yield (
            f"- {name}. {len(loads)} rows; load of the minute before them: median {median:.1f}, "
            f"at most {most:.1f} (what runs beside slows both sides down)."
        )
    if not machines:
        yield "No row was run."
