"""The files of a judged comparison: report.html for people, report.json and CSV for programs.

    report.html   one self-contained page (`page.py`)
    report.json   everything, unrounded, with the answer in words
    scores.csv    a line for each contender and training size
    pairs.csv     a line for each pair

Invariants: each file is written whole or not at all. A CSV cell that a spreadsheet would take for
            a formula stands behind an apostrophe.
Errors:     `ConfigError` for a language that is not there; those of writing.
"""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import lightune
from lightune.compare.findings import Findings, Standing
from lightune.compare.page import Page
from lightune.compare.wording import Words
from lightune.runs.files import write_json, write_text

HTML, JSON, SCORES, PAIRS = "report.html", "report.json", "scores.csv", "pairs.csv"
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_report(
    findings: Findings,
    folder: str | Path,
    lang: str = "en",
    *,
    missing: float | None = 0.0,
    dropped: Mapping[str, int] | None = None,
) -> Path:
    """Write the report into a folder that is there; return the page's path.

    Args:
        lang: `en` or `zh`.
        missing: minutes that would decide; 0 where nothing is missing, None where nobody knows.
        dropped: contender -> the round after which it was shown to be worse and tried no more.

    Raises:
        ConfigError: there is no such language.
        ResourceError, RunError: a file cannot be written.
    """
    folder, words = Path(folder), Words(findings, lang)
    said = {"answer": words.answer(missing), "needs_minutes": missing, "dropped": dropped or {}}
    page = Page(findings, words, lightune.__version__, missing, dropped)
    write_json(folder / JSON, {**said, **findings.to_json()})
    write_text(folder / SCORES, _csv(_scores(findings)))
    write_text(folder / PAIRS, _csv(_pairs(findings)))
    write_text(folder / HTML, page.html())
    return folder / HTML


def _scores(found: Findings) -> Iterator[Sequence[Any]]:
    costs = (
        *("seconds", "peak_memory", "trained_weights"),
        *("adapter_bytes", "latency", "throughput"),
    )
    yield ("contender", "baseline", "size", found.metric, "low", "high", "trainings", *costs)
    for s in found.standings:
        spent = [getattr(s.cost, cost) for cost in costs]
        yield (*_start(s, found.size), s.score.value, s.score.low, s.score.high, s.trials, *spent)
    for contender, points in found.curves.items():
        standing = next((s for s in found.standings if s.contender == contender), None)
        for p in points:
            if standing and p.size != found.size:
                score = (p.score.value, p.score.low, p.score.high)
                yield (*_start(standing, p.size), *score, p.trials, *[None] * len(costs))


def _start(standing: Standing, size: str) -> tuple[Any, ...]:
    return standing.contender, int(standing.baseline), size


def _pairs(found: Findings) -> Iterator[Sequence[Any]]:
    tests = list(dict.fromkeys(name for pair in found.pairs for name in pair.other_tests))
    yield (
        *("first", "second", "lead", "low", "high", "p", "p_holm", "p_equivalence_holm"),
        *("detectable", "verdict", *tests),
    )
    for p in found.pairs:
        yield (
            *(p.one, p.other, p.difference.value, p.difference.low, p.difference.high),
            *(p.p, p.adjusted, p.equivalence),
            *(p.detectable if math.isfinite(p.detectable) else None, p.verdict),
            *(p.other_tests.get(test) for test in tests),
        )


def _csv(rows: Iterator[Sequence[Any]]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
