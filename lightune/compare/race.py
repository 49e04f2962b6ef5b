"""Run the trials of a design: all of them, or as many as a budget allows to decide.

Without a budget every trial is run, in the order of the design.

With one:   rounds go on while time is left. After 1, 2, 4, 8 … rounds the contenders are compared;
            who is shown to be worse than another is tried no more, so that the time goes to those
            that may still win (successive halving, Jamieson and Talwalkar 2016, but a contender
            goes by evidence, not by rank). The looks, the last judgement among them, share the
            5 % (`alpha_of`), so that looking often crowns nobody falsely. A trial is begun where
            its like ended in time, and cut off where it does not; what it would have told is not
            guessed. It ends early where all is decided.
Failures:   who cannot be trained in one trial (it diverges) is left out at that training size, all
            of its outcomes with it, and the others go on. Where no method is left, its error is
            raised.
Resuming:   each outcome is on the disk when the next trial begins; those that are there are not
            run again; those that failed are.
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

from lightune.compare.bench import OutOfTime
from lightune.compare.findings import Findings
from lightune.compare.judge import ALPHA
from lightune.compare.outcome import Outcome
from lightune.compare.trials import Trial, key_of
from lightune.errors import LightuneError, Stopped

RESERVE = 1.0
"""Seconds kept for what comes after the last trial, beside twice the time of one judgement and
its report."""

Judge = Callable[[Sequence[Outcome]], Findings]
Run = Callable[[Trial, float | None], Outcome]
Tell = Callable[[Outcome, int, int, float | None], None]
"""Takes an outcome, trials done, trials in all, and the seconds that the rest will take."""


@dataclass
class Race:
    """How far a comparison came.

    Attributes:
        outcomes: in the order of the design, those of who failed left out.
        dropped: contender -> rounds after which it was shown to be worse.
        failed: (contender, size) -> why it could not be trained.
        complete: every trial that was still wanted was run.
        missing: seconds that the trials not run would take.
        left_rounds: rounds that the budget cut off.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    failed: dict[tuple[str, str], LightuneError] = field(default_factory=dict)
    complete: bool = True
    missing: float = 0.0
    left_rounds: int = 0

    def wants(self, trial: Trial) -> bool:
        """Whether a trial is still to be run: its contender was neither dropped, nor failed."""
        name = trial.contender.name
        return name not in self.dropped and (name, trial.size) not in self.failed

    def fail(self, trial: Trial, error: LightuneError) -> None:
        """Leave out who cannot be trained: half of its folds would be compared with all."""
        failed = (trial.contender.name, trial.size)
        self.failed[failed] = error
        self.outcomes = [o for o in self.outcomes if (o.contender, key_of(o)[3]) != failed]


@dataclass
class Clock:
    """What trials took, and what the next ones will.

    Args:
        deadline: of `time.monotonic`, the reserve not yet taken off; None where there is none.
    """

    deadline: float | None
    judging: float = 0.0
    took: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    around: float = 0.0

    def note(self, trial: Trial, seconds: float, training: float) -> None:
        """Remember what a trial took, and how much of a method's is not training, which nothing
        cuts; what baselines do once for all of the records says nothing of it."""
        self.took.setdefault((trial.contender.name, trial.size), []).append(seconds)
        if not trial.contender.baseline:
            self.around = max(self.around, seconds - training)

    def longest(self, trial: Trial) -> float:
        """Return the most that a trial like it took; 0 where none was run."""
        return max(self.took.get((trial.contender.name, trial.size), [0.0]))

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
        judge: does all that will be done after the last trial.
        judge: allows false verdicts as often as `alpha_of` says.
        deadline: of `time.monotonic`; None runs every trial.

    Raises:
        Stopped: a signal came; what was done is kept.
        LightuneError: no method could be trained.
    """
    known = {key_of(outcome): outcome for outcome in done}
    clock, race = Clock(deadline), Race()
    for one in (one for trials in rounds for one in trials if one.key in known):
        earlier = known[one.key]
        training = earlier.seconds
        clock.note(one, training + len(one.test) / earlier.throughput, training)
    total = sum(map(len, rounds))
    looks = _looks(len(rounds))
    for number, trials in enumerate(rounds, start=1):
        left = [one for one in trials if race.wants(one)]
        for place, one in enumerate(left):
            if not race.wants(one):  # it failed in this very round
                continue
            if one.key in known:
                race.outcomes.append(known[one.key])
                continue
            ahead = [
                t
                for later in [left[place + 1 :], *rounds[number:]]
                for t in later
                if t.key not in known and race.wants(t)
            ]
            try:
                outcome = _within(one, trial, clock)
            except Stopped:
                raise
            except LightuneError as error:
                race.fail(one, error)
                if all((t.contender.name, t.size) in race.failed for t in _methods(rounds)):
                    raise
                continue
            if outcome is None:
                race.complete, race.left_rounds = False, len(rounds) - number + 1
                race.missing = clock.of_all([one, *ahead]) or math.nan
                return race
            keep(outcome)
            race.outcomes.append(outcome)
            tell(outcome, len(race.outcomes), total, clock.of_all(ahead))
        look = deadline is not None and number in looks and number < len(rounds)
        if look and race.outcomes:
            begun = time.monotonic()
            found = judge(race.outcomes)
            clock.judging = max(clock.judging, time.monotonic() - begun)
            _drop(race, found, number)
            if _decided(race, found, trials):
                return race
    return race


def alpha_of(rounds: int, deadline: float | None) -> float:
    """Return how often one judgement may be false: 5 %, shared by all looks where a budget asks for
    several, so that all of them together err no more often (Bonferroni)."""
    return ALPHA if deadline is None else ALPHA / len(_looks(rounds))


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
    last, begun = clock.last(), time.monotonic()
    if last is not None and begun + clock.longest(one) > last:
        return None
    try:
        outcome = trial(one, None if last is None else last - clock.around)
    except OutOfTime:
        return None
    clock.note(one, time.monotonic() - begun, outcome.seconds)
    return outcome


def _looks(rounds: int) -> set[int]:
    """Return after which rounds contenders are compared: 1, 2, 4, 8 … and the last."""
    return {min(2**k, rounds) for k in range(rounds.bit_length() + 1)}


def _methods(rounds: Sequence[Sequence[Trial]]) -> list[Trial]:
    return [one for trials in rounds for one in trials if not one.contender.baseline]


def _drop(race: Race, found: Findings, number: int) -> None:
    """Try no more those methods that another contender beats."""
    baselines = {standing.contender for standing in found.standings if standing.baseline}
    for pair in found.pairs:
        if pair.verdict == "better" and pair.other not in baselines:
            race.dropped.setdefault(pair.other, number)


def _decided(race: Race, found: Findings, trials: Sequence[Trial]) -> bool:
    """Whether a single method is left, and it is better than everything else."""
    left = [one.contender.name for one in trials if not one.contender.baseline and race.wants(one)]
    return len(set(left)) == 1 and found.crowned == left[0]
