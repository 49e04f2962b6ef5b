"""Put the comparison of methods into docs/methods.md, between two marks, from its rows alone.

Invariants: every figure comes from a row of `methods.py` or `classification.py`; rows that were not
            run are listed.
Interval:   a prompt against the head alone, record by record: the share of right answers of one
            minus that of the other, each the mean over the seeds that both have, and the 95 %
            bootstrap interval of that mean over the test records.
Run:        .venv/bin/python benchmarks/methods_page.py
"""

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import methods
import numpy as np
import result_rows
import set_rows
from performance_page import table
from results_page import TITLES, spread

from lightune.metrics import intervals
from lightune.types import Score

PAGE = Path(__file__).parents[1] / "docs" / "methods.md"
BEGIN = "<!-- results: written by benchmarks/methods_page.py -->"
END = "<!-- end of results -->"
PROMPTS = ("prompt_tuning", "prefix_tuning")
NAMES = TITLES | {"sst2_8k": "SST-2, sentiment (8,000 of 67,349 train, 872 development)"}
HEAD = (
    "method", "accuracy", "of `full`'s", "trained weights", "seconds", "peak memory",
    "adapter on disk",
)  # fmt: skip

Rows = list[dict[str, Any]]


def of(rows: Rows, data: str, method: str) -> Rows:
    """Return the rows of one method on one data set, by seed."""
    found = [row for row in rows if (row["data"], row["method"]) == (data, method)]
    return sorted(found, key=lambda row: row["seed"])


def accuracies(rows: Rows) -> list[float]:
    return [row["metrics"]["accuracy"] for row in rows]


def size(rows: Rows, like: dict[str, Any]) -> str:
    """Return the size of a row's adapter on disk.

    A row that did not keep it has that of a row with the same method, model and trained weights.
    """
    same = ("method", "model", "trainable_parameters")
    for row in (like, *rows):
        if "adapter_bytes" in row and all(row[name] == like[name] for name in same):
            size = row["adapter_bytes"]
            return f"{size / 1e6:,.2f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"
    return "not measured"


def lines_of(rows: Rows, data: str) -> Iterator[list[str]]:
    """Yield a line of the table per method that was run."""
    full = accuracies(of(rows, data, "full"))
    for method in methods.METHODS:
        chosen = of(rows, data, method)
        if not chosen:
            continue
        first = chosen[0]
        share = first["trainable_parameters"] / first["total_parameters"]
        part = statistics.mean(accuracies(chosen)) / statistics.mean(full) if full else None
        yield [
            f"`{method}`",
            spread(accuracies(chosen)),
            "" if part is None else f"{part:.1%}",
            f"{first['trainable_parameters']:,} ({share:.2%})",
            f"{statistics.median(row['seconds'] for row in chosen):,.0f}",
            f"{max(row['peak_memory_mb'] for row in chosen):,.0f} MB",
            size(rows, first),
        ]


def difference(ours: Rows, theirs: Rows) -> tuple[Score, int] | None:
    """Return the paired difference of two methods' accuracies with its interval, and the number of
    seeds; None where they have no seed in common that kept its answers."""
    pairs = [
        (one, other)
        for one in ours
        for other in theirs
        if one["seed"] == other["seed"] and "correct" in one and "correct" in other
    ]
    if not pairs:
        return None
    each = [
        set_rows.unpacked(one["correct"], one["records"])
        - set_rows.unpacked(other["correct"], other["records"])
        for one, other in pairs
    ]
    gain = np.mean(each, axis=0)  # [records]
    found = intervals.bootstrap(lambda w: {"gain": gain @ w / w.sum(0)}, len(gain))
    return found.scores["gain"], len(pairs)


def interval_lines(rows: Rows, data: str) -> Iterator[str]:
    """Yield a sentence per kind of prompt on whether it beats the head alone."""
    for method in PROMPTS:
        found = difference(of(rows, data, method), of(rows, data, "head"))
        if found is None:
            yield f"- `{method}` minus `head`: not run"
            continue
        score, seeds = found
        within = "none: every answer agrees" if score.low is None else (
            f"{score.low:+.4f} to {score.high:+.4f}"
        )  # fmt: skip
        word = "seed" if seeds == 1 else "seeds"
        yield f"- `{method}` minus `head`: {score.value:+.4f}, interval {within} ({seeds} {word})"


def not_run(rows: Rows) -> Iterator[str]:
    """Yield a line per data set of which rows are missing."""
    have = [methods.key_of(row) for row in rows]
    for data in methods.SETS:
        missing: dict[str, list[str]] = {}
        for key in methods.wanted([data]):
            if key not in have:
                missing.setdefault(key["method"], []).append(str(key["seed"]))
        if missing:
            told = (f"`{name}` (seed {', '.join(seeds)})" for name, seeds in missing.items())
            yield f"- {NAMES[data].partition(',')[0]}: {'; '.join(told)}"


def section(rows: Rows) -> str:
    """Return what stands between the marks."""
    lines: list[str] = []
    for data in methods.SETS:
        body = list(lines_of(rows, data))
        if body:
            lines += ["", f"### {NAMES[data]}", *list(table("", HEAD, body))[2:]]
            lines += ["", "Paired, record by record, with the 95 % interval:", ""]
            lines += interval_lines(rows, data)
    lines += ["", "### Rows not run", "", *(list(not_run(rows)) or ["None: every row was run."])]
    if rows:
        packages = rows[-1]["versions"]
        versions = ", ".join(f"{name} {packages[name]}" for name in ("torch", "transformers"))
        lines += ["", f"Machine: {rows[-1]['cpu']}, {versions}."]
    return "\n".join(lines).strip()


def page(text: str, rows: Rows) -> str:
    """Return the document with the section renewed."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{section(rows)}\n\n{END}{rest.split(END)[1]}"


def known(results: Path) -> Rows:
    """Return the rows there are: this comparison's on the newest machine, and those run before."""
    keys = methods.wanted()
    own = result_rows.newest_machine(result_rows.read(results))
    own = [row for row in own if row["key"] in keys]
    have = [row["key"] for row in own]
    return [*(row for row in methods.run_before() if methods.key_of(row) not in have), *own]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=methods.RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    text = page(options.page.read_text(encoding="utf-8"), known(options.results))
    options.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
