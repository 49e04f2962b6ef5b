"""A comparison as one HTML page: findings in, text out.

Why:        a report is sent on, opened on a phone, printed. So it is one file: style and pictures
            within, no script, nothing from a network, light or dark as the reader's screen is.
Invariants: whatever a user named is escaped, and cannot turn a line around; the page forbids
            itself to load anything (Content-Security-Policy). Sections without content are absent.
Not here:   sentences (`wording.py`), pictures (`drawings.py`), the look (`style.css`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

from lightune.compare import drawings
from lightune.compare.drawings import Mark
from lightune.compare.findings import Choice, Findings, Pair, Standing
from lightune.compare.wording import Words, count, plain, probability, seconds, size

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"
SIGNS = {"better": "▲", "worse": "▼", "equivalent": "≈", "same": "=", "undecided": "·"}
MOST_CLASSES = 40
LONGEST_IN_PICTURE = 34
FAR = 4
"""Baselines so many times as far from the best as the middle one are not drawn in every picture."""
HOW = ("design", "interval", "holm", "equivalence", "detectable", "others", "limits")
TESTS = ("corrected_t", "bootstrap", "mcnemar", "randomisation")


class Page:
    """The page of one comparison in one language."""

    def __init__(
        self,
        findings: Findings,
        words: Words,
        version: str,
        missing: float | None = 0.0,
        dropped: Mapping[str, int] | None = None,
    ) -> None:
        """
        Args:
            version: of the package.
            missing: minutes that would decide; 0 where nothing is missing, None where nobody knows.
            dropped: contender -> the round after which it was shown to be worse.
        """
        self.found, self.words, self.version = findings, words, version
        self.missing, self.dropped = missing, dict(dropped or {})
        names = [standing.contender for standing in findings.standings]
        self.number = {name: i for i, name in enumerate(names, start=1)}

    def html(self) -> str:
        """Return the page."""
        lang = {"zh": "zh-CN"}.get(self.words.lang, self.words.lang)
        title = escape(self.words("title", task=self.found.task.replace("_", " ")))
        style = resources.files("lightune.compare").joinpath("style.css").read_text("utf-8")
        sections = (
            self._answer(),
            self._scores(),
            self._matrix(),
            self._front(),
            self._curves(),
            self._choices(),
            self._classes(),
            self._cost(),
            self._how(),
        )
        body = "\n".join("\n".join(section) for section in sections)
        return (
            f'<!doctype html>\n<html lang="{lang}">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<link rel="icon" href="data:,">\n<title>{title}</title>\n<style>\n{style}</style>\n'
            f"</head>\n<body>\n<h1>{title}</h1>\n{body}\n"
            f"<footer>{_p(self.words('files', version=self.version))}</footer>\n</body>\n</html>\n"
        )

    def _answer(self) -> Iterator[str]:
        yield f'<div class="answer" role="region" aria-label="{escape(self.words("answer"))}">'
        for sentence in self.words.answer(self.missing):
            yield _p(sentence)
        yield "</div>"
        said = [self.words.note(note) for note in self.found.notes]
        for contender, number in self.dropped.items():
            name = self.words.names([contender])
            said.append(self.words("note_dropped", contender=name, round=number))
        if self.found.unjudged:
            names = self.words.names(self.found.unjudged)
            said.append(self.words("note_unjudged", contenders=names))
        if said:
            yield f"<h3>{escape(self.words('notes'))}</h3>"
            yield _list(said)

    def _scores(self) -> Iterator[str]:
        found, words = self.found, self.words
        yield self._heading("scores")
        marks = [self._mark(s, 0.0) for s in found.standings]
        drawn = drawings.intervals(marks, words.value, words("scores"))
        records, folds = count(found.records), found.folds
        caption = words("scores_caption", folds=folds, records=records)
        yield f"<figure>{drawn}{_caption(caption)}</figure>"
        others = [name for name in found.standings[0].metrics if name != found.metric][:4]
        head = [words("contender"), words.axis(), words("interval")]
        head += [words.metric(name) for name in others] + [words("trials")]
        rows = []
        for s in found.standings:
            row = [self._named(s), words.value(s.score.value), words.interval(s.score)]
            row += [f"{s.metrics[n]:.3f}" if n in s.metrics else "-" for n in others]
            rows.append([*row, count(s.trials)])
        yield _table(head, rows)

    def _matrix(self) -> Iterator[str]:
        found, words = self.found, self.words
        if not found.pairs:
            return
        yield self._heading("matrix")
        yield _p(words("matrix_caption", margin=words.margin()), "caption")
        order = [s.contender for s in found.standings]
        head = "".join(
            f'<th scope="col" title="{escape(words.name(name))}">{self.number[name]}</th>'
            for name in order
        )
        rows = []
        for one in order:
            cells = [self._cell(one, other) for other in order]
            named = f'<th scope="row" class="name">{self._numbered(one)}</th>'
            rows.append(f"<tr>{named}{''.join(cells)}</tr>")
        yield (
            f'<div class="wide"><table class="matrix"><thead><tr><th></th>{head}</tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table></div>"
        )
        yield f"<details><summary>{escape(words('pairs_in_words'))}</summary>"
        yield _list([words.pair(pair) for pair in found.pairs])
        tests = [t for t in TESTS if any(t in pair.other_tests for pair in found.pairs)]
        head_of_pairs = [words(k) for k in ("one", "other", "difference", "interval", "adjusted")]
        head_of_pairs += [words("detectable"), *(words(test) for test in tests)]
        yield _table(head_of_pairs, [self._row(pair, tests) for pair in found.pairs])
        yield "</details>"

    def _row(self, pair: Pair, tests: Sequence[str]) -> list[str]:
        words = self.words
        return [
            self._name(pair.one),
            self._name(pair.other),
            words.points(pair.difference.value),
            words.interval(pair.difference, True),
            probability(pair.adjusted),
            words.detectable(pair.detectable),
            *(probability(pair.other_tests[t]) if t in pair.other_tests else "-" for t in tests),
        ]

    def _cell(self, one: str, other: str) -> str:
        pair = None if one == other else self.found.pair(one, other)
        if pair is None or pair.difference.low is None:
            return '<td class="none"></td>'
        ahead = pair.one == one
        verdict = "worse" if pair.verdict == "better" and not ahead else pair.verdict
        lead = pair.difference.value if ahead else -pair.difference.value
        said = escape(self.words.pair(pair), quote=True)
        text = f"{SIGNS[verdict]} {self.words.number(lead)}"
        return f'<td class="{verdict}" title="{said}">{escape(text)}</td>'

    def _front(self) -> Iterator[str]:
        found, words = self.found, self.words
        if len(found.standings) < 2:
            return
        far = self._far_off()
        near = [s for s in found.standings if s.contender not in far]
        yield self._heading("front")
        yield _p(" ".join([words("front_caption"), *self._not_drawn(far)]), "caption")
        yield '<div class="pictures">'
        for cost in ("seconds", "latency"):
            marks = [self._mark(s, getattr(s.cost, cost), cost in s.cheapest) for s in near]
            name = words("log_scale", name=words(cost))
            drawn = drawings.scatter(marks, seconds, words.value, name, f"{words.axis()}, {name}")
            yield f"<figure>{drawn}</figure>"
        yield "</div>"
        yield self._legend([s.contender for s in near])

    def _curves(self) -> Iterator[str]:
        found, words = self.found, self.words
        if not found.curves:
            return
        yield self._heading("curves")
        far = self._far_off()
        yield _p(" ".join([words("curves_caption"), *self._not_drawn(far)]), "caption")
        order = [name for name in self.number if name in found.curves]
        series = [
            [
                Mark(self.number[name], words.name(name), p.records, p.score.value, p.score.low,
                     p.score.high)
                for p in found.curves[name]
            ]
            for name in order
            if name not in far
        ]  # fmt: skip
        drawn = drawings.curves(series, count, words.value, words("size"), words("curves"))
        yield f"<figure>{drawn}</figure>"
        yield self._legend([name for name in order if name not in far])
        sizes = {p.size: p.records for name in order for p in found.curves[name]}
        columns = sorted(sizes, key=lambda s: sizes[s])
        rows = []
        for name in order:
            known = {p.size: p.score for p in found.curves[name]}
            values = [
                f"{words.value(known[s].value)} ({words.interval(known[s])})" if s in known else "-"
                for s in columns
            ]
            rows.append([self._name(name), *values])
        head = [words("all") if s == "all" else s for s in columns]
        yield _table([words("contender"), *head], rows)

    def _far_off(self) -> list[str]:
        """Return the baselines that would squeeze all others into a corner of a picture."""
        standings = self.found.standings
        away = [abs(s.score.value - standings[0].score.value) for s in standings]
        limit = FAR * sorted(away)[len(away) // 2]
        far = [
            s.contender for s, d in zip(standings, away, strict=True) if s.baseline and d > limit
        ]
        return far if limit > 0 and len(standings) - len(far) >= 2 else []

    def _not_drawn(self, far: Sequence[str]) -> list[str]:
        return [self.words("not_drawn", contenders=self.words.names(far))] if far else []

    def _choices(self) -> Iterator[str]:
        if not self.found.choices:
            return
        yield self._heading("choices")
        for choice in self.found.choices:
            yield from self._choice(choice)

    def _choice(self, choice: Choice) -> Iterator[str]:
        words = self.words
        about = words("choice_caption", setting=choice.setting, among=plain(choice.among))
        yield f"<h3>{escape(about)}</h3>"
        keys = ("interval", "seconds", "trained_weights", "peak_memory")
        rows = []
        for value, contender in choice.values:
            s = self.found.standing(contender)
            row = [escape(plain(value)), words.value(s.score.value), words.interval(s.score)]
            cost = s.cost
            row += [seconds(cost.seconds), count(cost.trained_weights), size(cost.peak_memory)]
            rows.append(row)
        yield _table([words("value"), words.axis(), *(words(key) for key in keys)], rows)
        names = [contender for _, contender in choice.values]
        pairs = [p for p in self.found.pairs if p.one in names and p.other in names]
        yield _list([words.pair(pair) for pair in pairs])

    def _classes(self) -> Iterator[str]:
        standings = [s for s in self.found.standings if s.per_class]
        if not standings:
            return
        yield self._heading("classes")
        yield _p(self.words("classes_caption"), "caption")
        rows = sorted(standings[0].per_class, key=lambda row: -row["support"])
        known = [{row["label"]: row["f1"] for row in s.per_class} for s in standings]
        head = [self.words("class"), *(self.words.name(s.contender) for s in standings)]
        table = []
        for row in rows[:MOST_CLASSES]:
            values = [scores.get(row["label"]) for scores in known]
            shown = ["-" if value is None else f"{value:.3f}" for value in values]
            table.append([f"<bdi>{escape(plain(row['label']))}</bdi>", *shown])
        yield _table(head, table)
        if len(rows) > MOST_CLASSES:
            yield _p(self.words("classes_cut", shown=MOST_CLASSES, count=len(rows)), "caption")

    def _cost(self) -> Iterator[str]:
        words = self.words
        yield self._heading("cost")
        yield _p(words("cost_caption"), "caption")
        keys = ("seconds", "trained_weights", "adapter_bytes", "latency")
        shows: dict[str, Any] = {
            "seconds": seconds,
            "trained_weights": count,
            "adapter_bytes": size,
            "latency": seconds,
        }
        rows = []
        for s in self.found.standings:
            cells = [
                shows[key](getattr(s.cost, key)) + (" ★" if key in s.cheapest else "")
                for key in keys
            ]
            more = [count(s.cost.throughput), size(s.cost.peak_memory)]
            rows.append([self._named(s), *cells, *more])
        head = [words(key) for key in ("contender", *keys, "throughput", "peak_memory")]
        yield _table(head, rows)

    def _how(self) -> Iterator[str]:
        found, words = self.found, self.words
        yield self._heading("method")
        values = {
            "records": count(found.records),
            "folds": found.folds,
            "seeds": max(s.seeds for s in found.standings),
            "size": words("all") if found.size == "all" else found.size,
            "pairs": len(found.pairs),
            "margin": words.margin(),
            "alpha": f"{found.alpha:.3g}",
        }
        for key in HOW:
            yield _p(words(f"how_{key}", **values))
        for s in found.standings:
            chosen = Counter(f"{k}={plain(v)}" for one in s.tuned for k, v in one.items())
            if chosen:
                said = words("comma").join(f"{text} ({n}×)" for text, n in chosen.most_common())
                yield _p(words("tuned", contender=words.names([s.contender]), values=said))

    def _mark(self, s: Standing, x: float, joined: bool = False) -> Mark:
        name = self.words.name(s.contender)
        if len(name) > LONGEST_IN_PICTURE:
            name = name[: LONGEST_IN_PICTURE - 1] + "…"
        number, score = self.number[s.contender], s.score
        return Mark(number, name, x, score.value, score.low, score.high, s.baseline, joined)

    def _heading(self, key: str) -> str:
        return f"<h2>{escape(self.words(key))}</h2>"

    def _name(self, contender: str) -> str:
        return f"<bdi>{escape(self.words.name(contender))}</bdi>"

    def _numbered(self, contender: str) -> str:
        return f"{self.number[contender]}  {self._name(contender)}"

    def _named(self, s: Standing) -> str:
        badge = f' <span class="badge">{escape(self.words("baseline"))}</span>'
        return self._numbered(s.contender) + (badge if s.baseline else "")

    def _legend(self, contenders: Sequence[str]) -> str:
        items = "".join(
            f'<li value="{self.number[name]}">{self._name(name)}</li>' for name in contenders
        )
        return f'<ol class="legend">{items}</ol>'


def _p(text: str, style: str = "") -> str:
    attribute = f' class="{style}"' if style else ""
    return f"<p{attribute}>{escape(text)}</p>"


def _caption(text: str) -> str:
    return f"<figcaption>{escape(text)}</figcaption>"


def _list(sentences: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; heads are plain text, cells are HTML that is escaped already."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )
