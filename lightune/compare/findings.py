"""What a comparison found: plain values that become report.json, a page, and words.

Invariants: JSON-ready by `to_json`, without a number that is not finite. Standings are the best
            first (`ranking.py`), and a pair names the one that is better on the folds in common
            first, so differences are the lead of `one` over `other`, never below 0, whichever way
            the metric points.
Not here:   how they are found (`judge.py`), how they are said (`wording.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from lightune.types import Score

Verdict = Literal["better", "equivalent", "same", "undecided"]
"""better      the first is better, by a test that holds over all pairs together
equivalent  they differ by less than the margin, by such a test
same        they predicted the same, all of it
undecided   no detectable difference: there may be one, up to about `detectable`"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a contender costs, over its trials.

    Attributes:
        seconds: of one training, the mean.
        peak_memory: bytes, the most.
        trained_weights, adapter_bytes: of one training, the most.
        latency: seconds for one record alone, the median.
        throughput: records per second, the median.
    """

    seconds: float
    peak_memory: int
    trained_weights: int
    adapter_bytes: int
    latency: float
    throughput: float


@dataclass(frozen=True, slots=True)
class Standing:
    """One contender on all the training records.

    Attributes:
        score: mean of the metric over folds, with its 95 % interval.
        metrics: every metric's mean over its trials.
        folds, seeds, trials: how many it was tried on; fewer than others' where it was dropped.
        per_class: `[{label, precision, recall, f1, support}]`, folds and seeds together.
        fold_scores: fold -> metric, seeds averaged.
        cheapest: costs by name (`seconds` …) for which nothing else is as good and as cheap.
    """

    contender: str
    baseline: bool
    model: str | None
    method: Mapping[str, Any] | None
    grid: Mapping[str, Any]
    tuned: list[Any]
    score: Score
    metrics: Mapping[str, float]
    folds: int
    seeds: int
    trials: int
    training_records: float
    cost: Cost
    per_class: list[Mapping[str, Any]]
    fold_scores: Mapping[str, float]
    cheapest: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two contenders on the folds that both were tried on.

    Attributes:
        difference: by how much `one` is better; with its 95 % interval.
        p: of "they are equal".
        adjusted: Holm's, over all pairs.
        equivalence: p of "they differ by the margin or more", Holm's over all pairs.
        detectable: the true difference that such a comparison finds with a probability of 80 %;
            infinite where it decides nothing.
        other_tests: p-values of tests that do not decide: `corrected_t`, `bootstrap`,
            `mcnemar`, `randomisation`, where they apply.
    """

    one: str
    other: str
    difference: Score
    p: float
    adjusted: float
    equivalence: float
    detectable: float
    verdict: Verdict
    other_tests: Mapping[str, float]

    @property
    def undecidable(self) -> bool:
        """Whether both were tried on the same records, and too seldom for any verdict."""
        known = self.difference.low is not None
        return known and self.verdict == "undecided" and math.isinf(self.detectable)


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a learning curve: the size asked for, the records it came to, the score."""

    size: str
    records: float
    score: Score
    trials: int


@dataclass(frozen=True, slots=True)
class Choice:
    """One setting that contenders differ by, all else equal: what its values cost and bring.

    Attributes:
        setting: dotted key (`method.rank`), or `model`.
        among: what the contenders have in common.
        values: in order, each with the contender that has it.
    """

    setting: str
    among: str
    values: list[tuple[Any, str]]


@dataclass(frozen=True, slots=True)
class Note:
    """Something that a reader must know; `wording.py` has the sentence of each code."""

    code: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Findings:
    """All that is known after a comparison.

    Attributes:
        lower_is_better: of the metric (a loss, an error).
        scale: what a "point" is a hundredth of: 1 for shares, 100 for BLEU; None for a metric
            without a highest value.
        margin: of equivalence, in the metric's unit.
        records: test records, each counted once.
        size: training size that standings and pairs are of.
        leaders: the best and all others that nothing is shown to be better than, best first.
        crowned: the only leader, better than every other; None where there are several.
        curves: contender -> points, smallest first; empty where there is one size.
        unjudged: contenders whose metric is defined nowhere.
        untried: contenders that were planned, and of which not one training ended in time.
        untrainable: contender -> why it could not be trained.
    """

    task: str
    metric: str
    lower_is_better: bool
    scale: float | None
    margin: float
    alpha: float
    seed: int
    records: int
    folds: int
    size: str
    standings: list[Standing]
    pairs: list[Pair]
    leaders: list[str]
    crowned: str | None
    curves: Mapping[str, list[Point]]
    choices: list[Choice]
    unjudged: list[str] = field(default_factory=list)
    untried: list[str] = field(default_factory=list)
    untrainable: Mapping[str, str] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    @property
    def settled(self) -> bool:
        """Whether one is the best, or those that lead are shown to be equal."""
        leading = set(self.leaders)
        return not any(
            {pair.one, pair.other} <= leading and pair.verdict == "undecided" for pair in self.pairs
        )

    def standing(self, contender: str) -> Standing:
        return next(s for s in self.standings if s.contender == contender)

    def pair(self, one: str, other: str) -> Pair | None:
        """Return the pair of two contenders, in whichever order it stands."""
        return next((p for p in self.pairs if {p.one, p.other} == {one, other}), None)

    def to_json(self) -> dict[str, Any]:
        """Return everything, JSON-ready."""
        values: dict[str, Any] = _plain(self)
        return values


def _plain(value: Any) -> Any:
    if isinstance(value, Score):
        return _plain(value.to_json())
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
