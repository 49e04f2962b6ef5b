"""Findings in words and numbers, in English or Chinese: the answer, each pair, each note.

Why:        who reads a report wants the answer in a sentence, and no more in it than was found.
Invariants: plain text; nothing here is HTML. Names that come from the user are freed of control
            signs, cut at 60 signs and set apart for right-to-left scripts, so that they cannot
            turn a sentence around. Shares are said in per cent, and their differences in points.
Errors:     `ConfigError` for a language that is not there.
Not here:   the texts (`english.py`, `chinese.py`), the page (`page.py`).
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from lightune.compare import chinese, english
from lightune.compare.findings import Findings, Note, Pair, Standing
from lightune.compare.scales import scale_of
from lightune.errors import ConfigError
from lightune.types import Score

LANGUAGES = {"en": english, "zh": chinese}
LONGEST_NAME, LONGEST = 60, 200


class Words:
    """The words of one language for one comparison."""

    def __init__(self, findings: Findings, lang: str = "en") -> None:
        """
        Raises:
            ConfigError: there is no such language.
        """
        if lang not in LANGUAGES:
            raise ConfigError(
                f"reports are not written in {lang!r}",
                found=f"languages: {', '.join(LANGUAGES)}",
                mend="lang: en",
            )
        self.found, self.lang = findings, lang
        self.texts = LANGUAGES[lang].TEXTS
        self.scale = scale_of(findings.metric)
        self.per_cent = self.scale.per_cent

    def __call__(self, key: str, **values: Any) -> str:
        """Return a text of the table with its values filled in."""
        return self.texts[key].format(**values)

    def name(self, contender: str) -> str:
        """Return a contender's name, as a sentence can hold it."""
        for known, said in LANGUAGES[self.lang].NAMES.items():
            if contender == known or contender.startswith(f"{known}, "):
                contender = said + contender[len(known) :]
                break
        return plain(contender)

    def names(self, contenders: Sequence[str]) -> str:
        """Return several names as a list in a sentence."""
        said = [f"\u2068{self.name(contender)}\u2069" for contender in contenders]
        if len(said) < 2:
            return "".join(said)
        return self("comma").join(said[:-1]) + self("and") + said[-1]

    def metric(self, name: str | None = None) -> str:
        """Return what a metric is called."""
        name = name or self.found.metric
        return LANGUAGES[self.lang].METRICS.get(name, name.replace("_", " "))

    def axis(self) -> str:
        """Return the metric as the name of an axis or column."""
        if self.found.lower_is_better:
            return self("lower_is_better", metric=self.metric())
        return self.metric()

    def value(self, value: float) -> str:
        """Return a value of the metric."""
        if self.per_cent:
            return f"{100 * value:.1f} %"
        return f"{value:.1f}" if self.found.scale == 100 else f"{value:.3f}"

    def points(self, difference: float, signed: bool = False) -> str:
        """Return a difference of the metric."""
        if not math.isfinite(difference):
            return "-"
        if not self.per_cent:
            return self._number(difference, signed)
        number = self._number(difference, signed)
        return self("point" if number.strip("+−") == "1.0" else "points", number=number)

    def detectable(self, difference: float) -> str:
        """Return a difference that could have been detected."""
        known = math.isfinite(difference)
        beyond = known and difference >= self.scale.widest
        return self("beyond") if beyond else self.points(difference)

    def number(self, difference: float) -> str:
        """Return a difference with its sign and without its unit."""
        return self._number(difference, True)

    def interval(self, score: Score, differ: bool = False) -> str:
        """Return an interval of the metric, or of a difference."""
        if score.low is None or score.high is None:
            return "-"
        if differ:
            ends = [self._number(end, True) for end in (score.low, score.high)]
        else:
            ends = [self.value(end).removesuffix(" %") for end in (score.low, score.high)]
        return self("to", low=ends[0], high=ends[1])

    def margin(self) -> str:
        number = self._number(self.found.margin, False)
        if not self.per_cent:
            return number
        return self("point", number="1") if number == "1.0" else self("points", number=number)

    def _number(self, value: float, signed: bool) -> str:
        digits = 1 if self.per_cent or self.found.scale == 100 else 3
        scaled = round(100 * value if self.per_cent else value, digits) + 0.0
        text = f"{abs(scaled):.{digits}f}"
        if scaled < 0:
            return f"−{text}"
        return f"+{text}" if signed and scaled > 0 else text

    def answer(self, missing: float | None = 0.0) -> list[str]:
        """Return the answer, the sentence that matters first.

        Args:
            missing: minutes that would decide; 0 where nothing is missing, None where nobody knows.
        """
        return list(self._answer(missing))

    def _answer(self, missing: float | None) -> Iterator[str]:
        found = self.found
        best = found.standings[0]
        about: dict[str, Any] = {
            "best": self.names([best.contender]),
            "metric": self.metric(),
            "value": self.value(best.score.value),
            "interval": self.interval(best.score),
        }
        if len(found.standings) == 1:
            yield self("one_only", **about)
            yield from self._left_out()
            return
        if found.crowned:
            second = found.standings[1].contender
            pair = found.pair(best.contender, second)
            lead = pair.difference if pair else Score(0.0)
            yield self(
                "crowned",
                **about,
                count=len(found.standings),
                second=self.names([second]),
                difference=self.points(lead.value),
                apart=self.interval(lead, True),
            )
            if best.baseline:
                yield self("crowned_baseline")
        else:
            yield from self._several(about)
        if missing is None:
            yield self("undecided_in_time")
        elif missing > 0:
            yield self("needs", minutes=math.ceil(missing))
        if not any(found.standing(name).baseline for name in found.leaders):
            yield from self._over_baseline(best, about["best"])
        yield from self._left_out()

    def _several(self, about: dict[str, Any]) -> Iterator[str]:
        """Say what is known where several lead."""
        found = self.found
        best, *others = found.leaders
        pairs = {name: found.pair(best, name) for name in others}
        unsure = {n: p for n, p in pairs.items() if p is not None and p.verdict == "undecided"}
        blind = [n for n, p in unsure.items() if p.undecidable]
        if unsure:
            key = "no_winner" if len(blind) < len(unsure) else "trained_once"
            yield self(key, **about, others=self.names(list(unsure)))
            limits = [p.detectable for p in unsure.values() if math.isfinite(p.detectable)]
            if blind and len(blind) < len(unsure):
                yield self("once", best=about["best"], others=self.names(blind))
            if limits and max(limits) < self.scale.widest:
                yield self("unseen", detectable=self.points(max(limits)))
            elif limits and min(limits) >= self.scale.widest:
                yield self("blind")
        for name, pair in pairs.items():
            both = {"one": about["best"], "other": self.names([name])}
            if pair and pair.verdict == "equivalent":
                yield self("equals", **both, margin=self.margin())
            elif pair and pair.verdict == "same":
                yield self("sames", **both)
        leading = [found.standing(name) for name in found.leaders]
        fastest = min(leading, key=lambda standing: standing.cost.seconds)
        yield self(
            "cheapest",
            best=self.names([fastest.contender]),
            seconds=seconds(fastest.cost.seconds),
        )
        if baselines := [s.contender for s in leading if s.baseline and s.contender not in blind]:
            yield self("baseline_leads", baselines=self.names(baselines))

    def _over_baseline(self, best: Standing, name: str) -> Iterator[str]:
        baseline = next((s for s in self.found.standings if s.baseline), None)
        pair = baseline and self.found.pair(best.contender, baseline.contender)
        if baseline is None or not pair or baseline.contender == self.found.standings[1].contender:
            return
        shown = pair.verdict == "better" and pair.one == best.contender
        yield self(
            "over_baseline" if shown else "not_over_baseline",
            baseline=self.names([baseline.contender]),
            best=name,
            difference=self.points(pair.difference.value),
            apart=self.interval(pair.difference, True),
        )

    def _left_out(self) -> Iterator[str]:
        if self.found.untried:
            yield self("untried", contenders=self.names(self.found.untried))
        for contender, why in self.found.untrainable.items():
            yield self("untrainable", contender=self.names([contender]), why=plain(why, LONGEST))

    def pair(self, pair: Pair) -> str:
        """Return the sentence of a pair."""
        both = {"one": self.names([pair.one]), "other": self.names([pair.other])}
        if pair.difference.low is None:
            return self("pair_unknown", **both)
        return self(
            "pair_once" if pair.undecidable else f"pair_{pair.verdict}",
            **both,
            difference=self.points(pair.difference.value),
            apart=self.interval(pair.difference, True),
            p=probability(pair.adjusted),
            detectable=self.detectable(pair.detectable),
            margin=self.margin(),
        )

    def note(self, note: Note) -> str:
        """Return the sentence of a note."""
        values = dict(note.values)
        for key in ("contender", "contenders"):
            if key in values:
                given = values[key]
                values[key] = self.names([given] if isinstance(given, str) else given)
        if "metric" in values:
            values["metric"] = self.metric(values["metric"])
        return self(f"note_{note.code}", **values)


def plain(text: Any, longest: int = LONGEST_NAME) -> str:
    """Return a user's text without what could turn a line around or break it."""
    signs = (c if unicodedata.category(c)[0] != "C" else " " for c in str(text))
    line = " ".join("".join(signs).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def probability(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def seconds(value: float) -> str:
    """Return a time: `0.84 ms`, `200 ms`, `4.2 s`, `3 min 20 s`."""
    if value < 0.9995:
        return f"{1000 * value:.3g} ms"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s"


def size(value: float) -> str:
    """Return bytes in the unit that fits: `48.2 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def count(value: float) -> str:
    """Return a number of things, with blanks between thousands that cannot break."""
    return f"{value:,.0f}".replace(",", "\u202f")
