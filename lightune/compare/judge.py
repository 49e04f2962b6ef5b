"""Who is better, by how much, and what could not be told: outcomes in, findings out.

Why:        a table of means crowns a winner every time. Here a contender is called better only by
            evidence that holds over all pairs together, and where there is none, what could have
            been detected is said.
How:        each trial is scored by record (`cells.py`); means and differences get a standard error
            that knows of folds and seeds (`evidence.py`, `pairs.py`); Holm over all pairs at 5 %;
            equivalence within a margin of one point by two one-sided tests, Holm over all pairs;
            costs and which contenders no other beats at as low a cost.
Invariants: no chance but the seed's. Standings and pairs are of one training size, the largest;
            the others make the learning curves. A contender that was dropped early is compared on
            the folds that it has (`ranking.py`). One training each decides nothing, so that there
            is no difference that it would have found.
Errors:     `ConfigError`: no such metric; `DataError`: nothing to judge.
Not here:   words (`wording.py`), the page (`report.py`), running (`trials.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

from lightune.compare import pairs as side_by_side
from lightune.compare import tests_of_difference as tests
from lightune.compare.cells import Cell, Scorer, by_fold, score_all, size_of
from lightune.compare.evidence import ROUNDING, Evidence
from lightune.compare.findings import Choice, Cost, Findings, Note, Pair, Point, Standing, Verdict
from lightune.compare.outcome import Outcome
from lightune.compare.ranking import levels, ranked
from lightune.compare.scales import Scale, scale_of
from lightune.errors import DataError
from lightune.evaluate.report import LOWER_IS_BETTER
from lightune.tasks.base import Task
from lightune.types import Record, Score

ALPHA = 0.05
COSTS = ("seconds", "trained_weights", "adapter_bytes", "latency")


def judge(
    outcomes: Sequence[Outcome],
    task: Task,
    state: dict[str, Any],
    records: Sequence[Record],
    *,
    metric: str | None = None,
    seed: int = 0,
    clusters: Sequence[int] | None = None,
    margin: float | None = None,
    alpha: float = ALPHA,
    dropped: Collection[str] = (),
    planned: Sequence[str] = (),
    untrainable: Mapping[str, str] | None = None,
) -> Findings:
    """Return what a comparison found.

    Args:
        outcomes: of all contenders, folds, seeds and sizes, in any order.
        state: what the task learnt from all records (label names …).
        records: all of them; predictions point into them.
        metric: decides; the task's own by default.
        seed: of resamples and exchanges.
        clusters: `[records]`, numbers from 0; records of one number were drawn together (one
            author's, one patient's), so that they count as one. By default each is its own.
        margin: contenders within it count as equivalent, in the metric's unit; by default one
            point (a hundredth of its highest value, or of the best contender's mean).
        alpha: chance of a false "better" that is allowed; less than 5 % where one judges several
            times as outcomes come in.
        dropped: contenders that an earlier look showed to be worse, so that they do not lead.
        planned: all that were to be tried, whether or not they were.
        untrainable: contender -> why it could not be trained.

    Raises:
        ConfigError: the task has no such metric.
        DataError: there is nothing to judge, or contenders saw different records in one fold.
    """
    name = metric or task.deciding
    outcomes = sorted(outcomes, key=lambda o: (o.contender, size_of(o), o.fold, o.seed))
    scorer = Scorer(task, state, records, name, clusters)
    scored, undefined = score_all(outcomes, scorer)
    if not scored:
        raise DataError(
            "there is nothing to judge",
            found=f"{len(outcomes)} trials, {name} defined in none",
            mend="choose another metric, or run trials first",
        )
    size = _largest(outcomes, {size for _, size in scored})
    of_size = {c: cells for (c, s), cells in scored.items() if s == size}
    trials = {c: [o for o in outcomes if o.contender == c and size_of(o) == size] for c in of_size}
    sign = -1 if name in LOWER_IS_BETTER else 1
    steady = {c: _baseline(trials[c][0]) for c in of_size}
    known = {c: side_by_side.single(cells, steady[c]) for c, cells in of_size.items()}
    level = levels(of_size, {c: one.value for c, one in known.items()})
    order = sorted(of_size, key=lambda c: -sign * level[c])
    scale = scale_of(name)
    wide = margin or (scale.points or abs(level[order[0]]) or 1.0) / 100
    found = _pairs(order, of_size, steady, scorer, sign, wide, seed, alpha)
    tried = {c: len(by_fold(cells)) for c, cells in of_size.items()}
    order, leaders = ranked(order, found, tried, [c for c in order if c in dropped])
    standings = [_standing(of_size[c], known[c], trials[c], scorer, scale) for c in order]
    standings = [_with_front(one, standings, level, sign) for one in standings]
    folds = {cell.fold for cells in of_size.values() for cell in cells}
    rows = {int(row) for cells in of_size.values() for cell in cells for row in cell.rows}
    names = dict.fromkeys(o.contender for o in outcomes)
    return Findings(
        task=task.name,
        metric=name,
        lower_is_better=sign < 0,
        scale=scale.points,
        margin=wide,
        alpha=alpha,
        seed=seed,
        records=len(rows),
        folds=len(folds),
        size=size,
        standings=standings,
        pairs=found,
        leaders=leaders,
        crowned=leaders[0] if len(leaders) == 1 < len(order) else None,
        curves=_curves(scored, outcomes, scale, scorer),
        choices=_choices(standings),
        unjudged=[c for c in names if c not in of_size],
        untried=[c for c in planned if c not in names and c not in (untrainable or {})],
        untrainable=dict(untrainable or {}),
        notes=_notes(standings, undefined, len(folds), name),
    )


def _standing(
    cells: Sequence[Cell],
    known: Evidence,
    trials: Sequence[Outcome],
    scorer: Scorer,
    scale: Scale,
) -> Standing:
    first = trials[0]
    folds = by_fold(cells)
    names = dict.fromkeys(name for trial in trials for name in trial.metrics)
    predictions = [p for trial in trials for p in trial.predictions]
    tables = scorer.task.score(predictions, scorer.records, scorer.state, intervals=False).tables
    return Standing(
        contender=first.contender,
        baseline=_baseline(first),
        model=first.settings.get("model"),
        method=first.settings.get("method"),
        grid=first.settings.get("grid") or {},
        tuned=[trial.settings["tuned"] for trial in trials if trial.settings.get("tuned")],
        score=_score(known, cells, scale),
        metrics={
            n: float(np.mean([t.metrics[n] for t in trials if n in t.metrics])) for n in names
        },
        folds=len(folds),
        seeds=max(map(len, folds.values())),
        trials=len(trials),
        training_records=float(np.mean([trial.size for trial in trials])),
        cost=Cost(
            seconds=float(np.mean([trial.seconds for trial in trials])),
            peak_memory=max(trial.peak_memory for trial in trials),
            trained_weights=max(trial.trained_weights for trial in trials),
            adapter_bytes=max(trial.adapter_bytes for trial in trials),
            latency=float(np.median([trial.latency for trial in trials])),
            throughput=float(np.median([trial.throughput for trial in trials])),
        ),
        per_class=list(tables.get("per_class", ())),
        fold_scores={
            str(fold): float(np.mean([cell.value for cell in seeds.values()]))
            for fold, seeds in sorted(folds.items())
        },
        cheapest=(),
    )


def _with_front(
    one: Standing, every: Sequence[Standing], level: Mapping[str, float], sign: int
) -> Standing:
    """Return a standing with the costs for which no other is as good and as cheap."""

    def beaten(cost: str) -> bool:
        mine = (sign * level[one.contender], -getattr(one.cost, cost))
        others = ((sign * level[s.contender], -getattr(s.cost, cost)) for s in every)
        return any(o[0] >= mine[0] and o[1] >= mine[1] and o != mine for o in others)

    return replace(one, cheapest=tuple(cost for cost in COSTS if not beaten(cost)))


def _pairs(
    order: Sequence[str],
    cells: Mapping[str, Sequence[Cell]],
    steady: Mapping[str, bool],
    scorer: Scorer,
    sign: int,
    margin: float,
    seed: int,
    alpha: float,
) -> list[Pair]:
    drawn = {c: side_by_side.bootstrap(cells[c], seed) for c in order}
    both = list(combinations(order, 2))
    leads = [side_by_side.lead(cells[a], cells[b], (steady[a], steady[b]), sign) for a, b in both]
    known = [one.evidence for one in leads]
    p_values = [one.p_value() if one else 1.0 for one in known]
    equal = [
        tests.equivalence_p(one.value, one.error, one.degrees, margin) if one else 1.0
        for one in known
    ]
    adjusted, equivalence = tests.holm(p_values), tests.holm(equal)

    found = []
    for i, (a, b) in enumerate(both):
        one = known[i]
        verdict: Verdict = "undecided"
        if leads[i].identical:
            verdict = "same"
        elif leads[i].decidable and adjusted[i] < alpha:
            verdict = "better"
        elif leads[i].decidable and equivalence[i] < alpha:
            verdict = "equivalent"
        others = side_by_side.other_tests(
            cells[a], cells[b], (drawn[a], drawn[b]), scorer.joint, seed
        )
        limit = np.inf
        if one and leads[i].decidable:
            limit = tests.detectable(one.error, one.degrees, alpha / len(both))
        difference, names = Score(0.0), (a, b)
        if one:
            low, high = one.interval()
            difference = Score(max(one.value, 0.0), low, high)
            if one.value < -ROUNDING:  # the order on the folds in common is the other one
                difference, names = Score(-one.value, -high, -low), (b, a)
        numbers = (p_values[i], adjusted[i], equivalence[i], limit)
        found.append(Pair(*names, difference, *numbers, verdict, others))
    return found


def _curves(
    scored: Mapping[tuple[str, str], Sequence[Cell]],
    outcomes: Sequence[Outcome],
    scale: Scale,
    scorer: Scorer,
) -> dict[str, list[Point]]:
    if len({size for _, size in scored}) < 2:
        return {}
    curves: dict[str, list[Point]] = {}
    for (contender, size), cells in scored.items():
        trials = [o for o in outcomes if o.contender == contender and size_of(o) == size]
        known = side_by_side.single(cells, _baseline(trials[0]))
        records = float(np.mean([trial.size for trial in trials]))
        point = Point(size, records, _score(known, cells, scale), len(trials))
        curves.setdefault(contender, []).append(point)
    return {c: sorted(points, key=lambda point: point.records) for c, points in curves.items()}


def _choices(standings: Sequence[Standing]) -> list[Choice]:
    """Return the settings by which contenders differ that are else alike."""
    methods = [s for s in standings if not s.baseline]
    settings = dict.fromkeys(key for s in methods for key in s.grid)
    found = []
    for setting in [*settings, "model"]:
        groups: dict[tuple[Any, ...], list[Standing]] = {}
        for one in methods:
            rest = tuple(sorted((k, repr(v)) for k, v in one.grid.items() if k != setting))
            name = (one.method or {}).get("name")
            model = None if setting == "model" else one.model
            if setting == "model" or setting in one.grid:
                groups.setdefault((name, model, rest), []).append(one)
        for (name, model, rest), members in groups.items():
            values = [(m.model if setting == "model" else m.grid[setting], m) for m in members]
            distinct = {repr(value) for value, _ in values}
            if len(members) < 2 or len(distinct) < len(members):
                continue
            among = ", ".join(
                [str(word) for word in (name, model) if word] + [f"{k}={v}" for k, v in rest]
            )
            ordered = sorted(values, key=lambda pair: _rank(pair[0]))
            found.append(Choice(setting, among, [(value, m.contender) for value, m in ordered]))
    return found


def _rank(value: Any) -> tuple[int, float, str]:
    """Return what puts numbers in order, before everything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (0, float(value), "") if is_number else (1, 0.0, str(value))


def _notes(
    standings: Sequence[Standing], undefined: Mapping[str, int], folds: int, metric: str
) -> list[Note]:
    found = [
        Note("undefined", {"metric": metric, "contender": contender, "trials": trials})
        for contender, trials in undefined.items()
    ]
    trained = [s for s in standings if not s.baseline]
    if trained and max(s.seeds for s in trained) == 1:
        found.append(Note("one_training" if folds == 1 else "one_seed"))
    fewer = [s.contender for s in standings if s.folds < folds]
    if fewer:
        found.append(Note("fewer_folds", {"contenders": fewer, "folds": folds}))
    most = max((s.trials for s in trained), default=0)
    seldom = [s.contender for s in trained if s.trials < most and s.contender not in fewer]
    if seldom:
        found.append(Note("fewer_seeds", {"contenders": seldom}))
    return found


def _score(known: Evidence, cells: Sequence[Cell], scale: Scale) -> Score:
    """Return a mean with its interval, cut at the metric's ends; none where nothing varied."""
    value = known.value
    if known.error <= 0:
        each = [cell.each for cell in cells]
        if any(e is None or not np.isin(e, (0.0, 1.0)).all() for e in each):
            return Score(value)
        records = len({int(row) for cell in cells for row in cell.rows})
        exact = stats.binomtest(round(value * records), records).proportion_ci(0.95, "exact")
        return Score(value, float(exact.low), float(exact.high))
    return Score(value, *scale.cut(*known.interval()))


def _baseline(outcome: Outcome) -> bool:
    """Whether it is a baseline, which nothing in its training leaves to chance."""
    return outcome.settings.get("kind") == "baseline"


def _largest(outcomes: Sequence[Outcome], sizes: set[str]) -> str:
    if "all" in sizes:
        return "all"
    mean = {s: np.mean([o.size for o in outcomes if size_of(o) == s]) for s in sizes}
    return max(sorted(sizes), key=lambda size: mean[size])
