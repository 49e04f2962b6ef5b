"""Write docs/reliability.md from what the proofs printed.

    python tests/proof/run.py      # runs them, keeps what they print, and writes the page
    python tests/proof/page.py     # writes the page from `tests/proof/results` alone; --check
                                   # only tells whether it is as these have it

The figures are those of the files, nothing is filled in, and a proof that has no file is said not
to have been run; the sentences are here and in `page_text.py`.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import page_text as text

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
RESULTS = Path(__file__).parent / "results"

FAULTS_SEEN = {
    "before": "an error before the first step",
    "while": "an error that stops the training",
    "warning": "a warning, kept with the run",
    "seal": "the run is left unsealed",
    "load": "the adapter is refused",
    "merge": "merging is refused",
    "verify": "`lightune verify RUN` ends with 2",
    "resume": "going on is refused",
    "no effect": "it has no effect here",
}

Found = Mapping[str, Any]


def results(folder: Path) -> dict[str, Found]:
    """Return what each proof printed, by its name."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}


def bound(trials: int) -> str:
    """Return the highest rate that no failure in so many trials leaves, with 95 % confidence:
    (1 - p)^n = 5 %."""
    return f"{1 - 0.05 ** (1 / trials):.1%}"


def killed(found: Found) -> str:
    moments = ("before_the_run", "before_a_checkpoint", "while_saving", "after_its_end")
    between = found["kills"] - sum(found[moment] for moment in moments)
    inside = found["kills"] - found["before_the_run"]
    return text.KILLED.format(**found, between=between, inside=inside, bound=bound(inside))


def peer(found: Found) -> str:
    kinds: Counter[str] = Counter()
    for reason, count in found["reasons"].items():
        kinds[re.sub(r"checkpoint-\d+", "checkpoint-…", reason).replace("…/…/", "")] += count
    rows = [f"- {count} × `{reason}`\n" for reason, count in kinds.items()]
    return text.PEER.format(**found, rows="".join(["\n", *rows]) if rows else "")


def crash_points(found: Found) -> str:
    rows = []
    for name, words in (("train", "a training"), ("resume", "a training that goes on")):
        kinds = ", ".join(f"{count} {kind}" for kind, count in found[name]["kinds"].items())
        for fault, what in text.CRASH_FAULTS.items():
            one = found[name][fault]
            recovered = f"{one['recovered']} / {one['calls']}"
            rows.append(f"| {words} | {what} | {recovered} | {one['begun_anew']} |")
        rows.append(f"| | calls: {kinds} | | |")
    return text.CRASH_POINTS.format(rows="\n".join(rows))


def damage(found: Found) -> str:
    rows = [
        f"| {thing} | " + " | ".join(f"{seen} / {made}" for made, seen in pairs) + " |"
        for thing, one in found.items()
        for pairs in [[one["flips"], one["truncations"], one["deletions"]]]
    ]
    return text.DAMAGE.format(rows="\n".join(rows))


def faults(found: Found) -> str:
    rows = [
        f"| {FAULTS_SEEN[where]} | {len(names)} | {'; '.join(names)} |"
        for where, names in sorted(found["where"].items(), key=lambda row: -len(row[1]))
    ]
    return text.FAULTS.format(**{**found, "alarms": len(found["alarms"])}, rows="\n".join(rows))


def fuzz(found: Found) -> str:
    rows = [f"| {kind} | {tried} | {no} |" for kind, (tried, no) in found["kinds"].items()]
    total = sum(tried for tried, _ in found["kinds"].values())
    return text.FUZZ.format(
        rows="\n".join(rows), total=total, escaped=len(found["escaped"]), peak_mb=found["peak_mb"]
    )


def seal_cost(found: Found) -> str:
    return text.SEAL_COST.format(**found, share=found["cpu_seconds"] / 120)


MAKERS = {
    "kills": killed,
    "peer_kills": peer,
    "crash_points": crash_points,
    "full_disk": lambda found: text.FULL_DISK.format(**found),
    "damage": damage,
    "faults": faults,
    "fuzz": fuzz,
    "long_run": lambda found: text.LONG_RUN.format(**found),
    "seal_cost": seal_cost,
}


def page(found: Mapping[str, Found]) -> str:
    """Return the page."""
    parts = {}
    for name, make in MAKERS.items():
        if name not in found:
            parts[name] = f"Not run yet: `tests/proof/{name}.py`.\n"
        elif "skipped" in found[name]:
            parts[name] = f"Not run: {found[name]['skipped']}.\n"
        else:
            parts[name] = make(found[name])
    return text.PAGE.format(**parts)


def write() -> None:
    PAGE.write_text(page(results(RESULTS)))


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text() != page(results(RESULTS)))
    write()
