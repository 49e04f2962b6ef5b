"""Run the trials of a design: all of them, or as many as a budget allows to decide.

Without a budget every trial is run, in the order of the design.

With one:   rounds go on while time is left. After 1, 2, 4, 8 … rounds the contenders are compared;
            who is shown to be worse than another is tried no more, so that the time goes to those
            that may still win (successive halving, Jamieson and Talwalkar 2016, but a contender
            goes by evidence, not by rank). The looks share the 5 %, so that looking often raises
            no false alarm. A trial is begun where its like ended in time, and cut off where it does
            not; what it would have told is not guessed. It ends early where all is decided.
Resuming:   each outcome is on the disk when the next trial begins; those that are there are not
            run again.
Built here: the race is these lines and the test of `judge.py`. A library for searches, such as
            Optuna, prunes by rank, without evidence, and would be one more dependency.
Not here:   one trial (`trials.py`), the evidence (`judge.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import mean

from lightune.compare.findings import Findings
from lightune.compare.outcome import Outcome
from lightune.compare.trials import OutOfTime, Trial, key_of

ALPHA = 0.05
RESERVE = 1.0
"""Seconds kept for what comes after the last trial, beside twice the time of one judgement."""

Judge = Callable[[Sequence[Outcome]], Findings]
Run = Callable[[Trial, float | None], Outcome]
Tell = Callable[[Outcome, int, int, float | None], None]
"""Takes an outcome, trials done, trials in all, and the seconds that the rest will take."""


@dataclass
class Race:
    """How far a comparison came.

    Attributes:
        outcomes: in the order of the design.
        dropped: contender -> rounds after which it was shown to be worse.
        complete: every trial that was still wanted was run.
        missing: seconds that the trials not run would take.
        left_rounds: rounds that the budget cut off.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    complete: bool = True
    missing: float = 0.0
    left_rounds: int = 0


@dataclass
class Clock:
    """What trials took, and what the next ones will.

    Args:
        deadline: of `time.monotonic`, the reserve not yet taken off; None where there is none.
    """

    deadline: float | None
    judging: float = 0.0
    took: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def note(self, trial: Trial, seconds: float) -> None:
        self.took.setdefault((trial.contender.name, trial.size), []).append(seconds)

    def expected(self, trial: Trial) -> float | None:
        """Return the seconds a trial will take; None where none like it was run."""
        known = self.took.get((trial.contender.name, trial.size))
        return mean(known) if known else None

    def of_all(self, trials: Sequence[Trial]) -> float | None:
        """Return the seconds that trials will take; None before anything is known."""
        known = [self.expected(trial) for trial in trials]
        usual = [seconds for seconds in known if seconds is not None]
        if not usual:
            return None if trials else 0.0
        return sum(mean(usual) if seconds is None else seconds for seconds in known)

    def last(self) -> float | None:
        """Return when the last trial must have ended."""
        if self.deadline is None:
            return None
        return self.deadline - RESERVE - 2 * self.judging


def run(
    rounds: Sequence[Sequence[Trial]],
    done: Sequence[Outcome],
    *,
    trial: Run,
    keep: Callable[[Outcome], None],
    judge: Judge,
    tell: Tell,
    deadline: float | None = None,
) -> Race:
    """Run what is not done yet.

    Args:
        rounds: see `Design.rounds`.
        done: outcomes of an earlier call, whose trials are not run again.
        trial: runs one, within a deadline.
        keep: puts an outcome on the disk.
        deadline: of `time.monotonic`; None runs every trial.

    Raises:
        Stopped: a signal came; what was done is kept.
    """
    known = {key_of(outcome): outcome for outcome in done}
    clock, race = Clock(deadline), Race()
    for one in (one for trials in rounds for one in trials if one.key in known):
        earlier = known[one.key]
        clock.note(one, earlier.seconds + len(one.test) / earlier.throughput)
    total = sum(map(len, rounds))
    looks = _looks(len(rounds))
    for number, trials in enumerate(rounds, start=1):
        left = [one for one in trials if one.contender.name not in race.dropped]
        for place, one in enumerate(left):
            if one.key in known:
                race.outcomes.append(known[one.key])
                continue
            outcome = _within(one, trial, clock)
            if outcome is None:
                rest = [t for t in left[place:] if t.key not in known]
                after = [
                    t
                    for later in rounds[number:]
                    for t in later
                    if t.contender.name not in race.dropped and t.key not in known
                ]
                race.complete, race.left_rounds = False, len(rounds) - number + 1
                race.missing = clock.of_all([*rest, *after]) or math.nan
                return race
            keep(outcome)
            race.outcomes.append(outcome)
            ahead = [
                t
                for later in [left[place + 1 :], *rounds[number:]]
                for t in later
                if t.key not in known and t.contender.name not in race.dropped
            ]
            tell(outcome, len(race.outcomes), total, clock.of_all(ahead))
        if deadline is not None and number in looks and number < len(rounds):
            begun = time.monotonic()
            found = judge(race.outcomes)
            clock.judging = max(clock.judging, time.monotonic() - begun)
            _drop(race, found, number, ALPHA / len(looks))
            if _decided(race, found, trials):
                return race
    return race


def more_rounds(found: Findings, done: int) -> int | None:
    """Return about how many more rounds would decide between the leaders; None where they are
    decided, or nothing is to be seen of a difference.

    The standard error falls with the root of the rounds, so that the difference seen now, if it is
    the true one, is found with a probability of 80 % once `detectable` has come down to it.
    """
    open_pairs = [
        pair
        for pair in found.pairs
        if pair.verdict == "undecided" and {pair.one, pair.other} <= set(found.leaders)
    ]
    if not open_pairs:
        return 0
    needed = [
        math.ceil(done * (pair.detectable / pair.difference.value) ** 2)
        for pair in open_pairs
        if pair.difference.value > 0 and math.isfinite(pair.detectable)
    ]
    return max(0, max(needed) - done) if len(needed) == len(open_pairs) else None


def _within(one: Trial, trial: Run, clock: Clock) -> Outcome | None:
    """Run a trial; None where it would not end in time, or did not."""
    last, expected = clock.last(), clock.expected(one)
    begun = time.monotonic()
    if last is not None and begun + (expected or 0.0) > last:
        return None
    try:
        outcome = trial(one, last)
    except OutOfTime:
        return None
    clock.note(one, time.monotonic() - begun)
    return outcome


def _looks(rounds: int) -> set[int]:
    """Return after which rounds contenders are compared: 1, 2, 4, 8 … and the last."""
    return {min(2**k, rounds) for k in range(rounds.bit_length() + 1)}


def _drop(race: Race, found: Findings, number: int, alpha: float) -> None:
    """Try no more those methods that another contender beats at this look's share of the 5 %."""
    baselines = {standing.contender for standing in found.standings if standing.baseline}
    for pair in found.pairs:
        beaten = pair.verdict == "better" and pair.adjusted < alpha
        if beaten and pair.other not in baselines:
            race.dropped.setdefault(pair.other, number)


def _decided(race: Race, found: Findings, trials: Sequence[Trial]) -> bool:
    """Whether a single method is left, and it is better than everything else."""
    left = [
        one.contender.name
        for one in trials
        if not one.contender.baseline and one.contender.name not in race.dropped
    ]
    return len(set(left)) == 1 and found.crowned == left[0]
