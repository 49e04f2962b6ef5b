"""Ratios, spreads and shares from measured rows: pure arithmetic, shared by reports and pages.

Words:   a ratio of times is *their* seconds per example by *ours*: above 1, we are faster. A ratio
         of memory is *our* peak by *theirs*: below 1, we need less. A share of the ceiling is the
         effective rate by the machine's best product in bfloat16, measured in the same process.
"""

import statistics
from collections.abc import Iterable, Mapping
from typing import Any


def gflops(linear: int, adapted: int, tokens_per_s: float) -> float:
    """Return the effective rate of a training with a frozen base, in GFLOP/s.

    A token costs 2 operations per weight forward, and 2 per weight backward (gradients of inputs;
    frozen weights have none of their own), the latter only from the lowest adapted block up.
    Padding, attention products and the low-rank products do not count; what a cache makes
    superfluous does.

    Args:
        linear: weights of the linear layers in the blocks.
        adapted: those of them from the lowest adapted block up.
        tokens_per_s: real tokens, padding left out.
    """
    return 2 * (linear + adapted) * tokens_per_s / 1e9


def share(row: Mapping[str, Any]) -> float:
    """Return a row's effective rate by the ceiling measured in its own process."""
    epochs = row["examples"] / row["examples_per_epoch"]
    rate = gflops(row["linear"], row["adapted"], row["tokens"] * epochs / row["seconds"])
    return rate / max(row["ceiling_gflops"].values())


def middle(values: Iterable[float]) -> tuple[float, float, float]:
    """Return median, least and largest."""
    known = sorted(values)
    return statistics.median(known), known[0], known[-1]


def seconds_per_example(row: Mapping[str, Any]) -> float:
    return row["seconds"] / row["examples"]


def ratio(theirs: list[Mapping[str, Any]], ours: list[Mapping[str, Any]]) -> float:
    """Return how many times as fast we are: medians of the seconds per example."""
    return statistics.median(map(seconds_per_example, theirs)) / statistics.median(
        map(seconds_per_example, ours)
    )


def memory_ratio(theirs: list[Mapping[str, Any]], ours: list[Mapping[str, Any]]) -> float:
    """Return our peak memory by theirs, medians."""
    return statistics.median(r["peak_memory_mb"] for r in ours) / statistics.median(
        r["peak_memory_mb"] for r in theirs
    )


def fastest(rows: Iterable[Mapping[str, Any]]) -> str | None:
    """Return the side whose median time per example is least; None without rows."""
    by_side: dict[str, list[float]] = {}
    for row in rows:
        by_side.setdefault(row["key"]["side"], []).append(seconds_per_example(row))
    if not by_side:
        return None
    return min(by_side, key=lambda side: statistics.median(by_side[side]))


def verdict(measured: float | None, target: float | None, more_is_better: bool = True) -> str:
    """Return a cell for the table of targets: met, or by how much it was missed."""
    if target is None:
        return "no target" if measured is None else f"{measured:.2f} (no target)"
    sign = "≥" if more_is_better else "≤"
    if measured is None:
        return f"not run ({sign} {target:g})"
    met = measured >= target if more_is_better else measured <= target
    if met:
        return f"**{measured:.2f}** ({sign} {target:g} met)"
    off = abs(measured - target) / target
    return f"**{measured:.2f}** ({sign} {target:g} missed by {off:.0%})"
