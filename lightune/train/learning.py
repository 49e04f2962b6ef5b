"""Whether a training learns: told while it runs, and when it has ended.

    loss_still     the loss of the same few training records is where it began
    loss_rose      it is higher than it began
    no_gradient    trained tensors that the loss does not depend on
    gradient_norm  gradients have become a hundred times what they were, and the loss no lower
    guessing       that the answers to the test records are better than guesses is not shown

Why:        a training that does nothing, or harm, ends like any other.
How:        `Probe` measures the loss of `RECORDS` training records, each on its own and without
            dropout, before the first step, half-way and at the end. The same records each time,
            so that the noise is that of what training did to each, not that of which were drawn:
            with d the drops of their losses, mean(d) +- 2 std(d) / sqrt(n). Said is only what
            that interval shows: that the drop is surely below `STILL` of the loss, or the rise
            above `ROSE` of it.
Invariants: weights, modes and random numbers of the training are as without.
Errors:     none; what is not finite stops the loop itself (`guards.py`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from lightune.runs.warned import Warned
from lightune.types import Example

RECORDS, TOKENS, FEWEST = 16, 2048, 4
"""Records of a probe, the tokens that they have together at most, and records all the same."""

LEAST_STEPS = 40
"""A shorter training, or half of one, is a trial: nothing is said of whether it learns."""

GRADIENT_STEPS = 20
"""Steps after which every trained weight has had a gradient, or will have none."""

STILL, ROSE = 0.005, 0.1
"""Of the loss before training."""

SOLVED = 1e-3
"""A loss below which there is nothing left to move: going on from a finished adapter, say."""

EXPLODED, WINDOW = 100.0, 3
"""Times the norm at the beginning; medians of so many lines of the log."""

GUESSING_STEPS, GUESSING_RECORDS, UNKNOWN = 50, 40, 0.5
"""Training steps and test records from which on guesses are told, and the agreement that the 95 %
interval may not reach: where it does, the test is too small to say anything."""

AGREEMENT = ("matthews", "pearson")
"""Scores that are 0 for guesses, whatever the labels."""


class Probe:
    """The loss of some training records, before training and later.

    Args:
        measure: the loss of one example, without dropout.
        examples: of the training; `chosen` of them are measured now.
    """

    def __init__(self, measure: Callable[[Example], float], examples: Sequence[Example]) -> None:
        self.examples = chosen(examples)
        self._measure = measure
        self.start = [measure(example) for example in self.examples]

    def look(self, where: str) -> list[Warned]:
        """Measure again and return what is to be warned of.

        Args:
            where: `half-way`, `at the end`.
        """
        return verdict(self.start, [self._measure(example) for example in self.examples], where)


def chosen(examples: Sequence[Example]) -> list[Example]:
    """Return a few examples, evenly spread; fewer where they are long."""
    some = list(examples[:: max(1, len(examples) // RECORDS)])[:RECORDS]
    kept: list[Example] = []
    tokens = 0
    for example in some:
        tokens += len(example)
        if tokens > TOKENS and len(kept) >= FEWEST:
            break
        kept.append(example)
    return kept


def verdict(start: Sequence[float], now: Sequence[float], where: str) -> list[Warned]:
    """Compare the losses of the same records before training and now; see `How`."""
    pairs = [(a, b) for a, b in zip(start, now, strict=True) if math.isfinite(a - b)]
    drops = [a - b for a, b in pairs]
    if len(drops) < 2:
        return []
    first, drop = statistics.fmean(a for a, _ in pairs), statistics.fmean(drops)
    if first < SOLVED:
        return []
    noise = 2 * statistics.stdev(drops) / math.sqrt(len(drops))
    found = f"{len(drops)} training records: loss {first:.4g} before, {first - drop:.4g} {where}"
    if drop + noise < -ROSE * first:
        return [
            Warned(
                "loss_rose",
                "training made the loss higher than it was",
                found,
                "a lower train.learning_rate; leave it out to take the method's own",
            )
        ]
    if abs(drop) + noise < STILL * first:
        return [
            Warned(
                "loss_still",
                "the loss has not moved",
                f"{found}, within {noise:.1g}",
                "a higher train.learning_rate, more epochs, or a method that trains more weights; "
                "look at the rows: lightune data preview RECIPE",
            )
        ]
    return []


def unreached(trainable: Sequence[str], moments: Mapping[str, Mapping[str, Tensor]]) -> list[str]:
    """Return the trained weights that no gradient but zero has reached so far.

    Args:
        moments: AdamW's state by path (`Optimizer.moments`).
    """
    return [
        path
        for path in trainable
        if path not in moments or not bool(moments[path]["exp_avg_sq"].any())
    ]


def no_gradient(paths: Sequence[str], of: int, steps: int) -> Warned | None:
    """Return a warning of weights without gradient.

    Args:
        of: trained weights in all.
    """
    if not paths:
        return None
    more = f" and {len(paths) - 8} more" if paths[8:] else ""
    return Warned(
        "no_gradient",
        f"no gradient reached {len(paths)} of {of} trained tensors",
        f"in {steps} steps: {', '.join(paths[:8])}{more}",
        "nothing of the loss depends on them: leave them out of what is trained "
        "(`method.targets`), or use another method",
    )


@dataclass(slots=True)
class Norms:
    """The log's gradient norms and losses, and whether they explode.

    Attributes:
        lines: (norm, loss) of each line so far.
    """

    lines: list[tuple[float, float]] = field(default_factory=list)

    def look(self, entry: Mapping[str, float]) -> Warned | None:
        """Take a line of the log; return a warning where norms have exploded."""
        if "grad_norm" not in entry or "loss" not in entry:
            return None
        self.lines.append((entry["grad_norm"], entry["loss"]))
        if len(self.lines) < 2 * WINDOW:
            return None
        first, last = self.lines[:WINDOW], self.lines[-WINDOW:]
        before, now = (statistics.median(norm for norm, _ in part) for part in (first, last))
        lower = statistics.fmean(x for _, x in last) < statistics.fmean(x for _, x in first)
        if lower or not now > EXPLODED * before:
            return None
        return Warned(
            "gradient_norm",
            "gradients explode",
            f"norm {before:.3g} at the beginning, now {now:.3g}, and the loss is no lower",
            "a lower train.learning_rate, or train.optimizer.max_grad_norm: 1.0",
        )


def guessing(
    metrics: Mapping[str, Mapping[str, float | None]], records: int, steps: int
) -> Warned | None:
    """Return a warning where the test's answers may have nothing to do with its labels.

    Args:
        metrics: name -> `{"value", "low", "high"}`; where all answers are equal the value is 0 or
            None, and there is no interval.
        records: that were tested on.
    """
    name = next((name for name in AGREEMENT if name in metrics), None)
    if name is None or records < GUESSING_RECORDS or steps < GUESSING_STEPS:
        return None
    value, low, high = (metrics[name][key] for key in ("value", "low", "high"))
    if low is None or high is None:
        if value:
            return None
        found = "every answer is the same"
    elif low > 0 or high >= UNKNOWN:
        return None
    else:
        found = f"{name} {value:.2f}, between {low:.2f} and {high:.2f}; guesses have 0"
    return Warned(
        "guessing",
        "the model does not answer better than guesses",
        f"{records} test records: {found}",
        "see that each label stands beside its own text (lightune data preview RECIPE); else "
        "more epochs, another train.learning_rate, or another model",
    )
