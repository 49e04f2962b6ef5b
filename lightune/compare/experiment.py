"""`lightune.compare`: from a recipe to a folder with trials, findings and a report.

    comparison/
    ├── recipe.yaml      resolved, with the section `compare`: what repeats it
    ├── design.json      its fingerprint, the contenders, the folds' sizes
    ├── trials.jsonl     one line for each trial, as soon as it is done
    └── report.html …    what was found, for people and for programs (`report.py`)

Why:        which method, which model, how much data: answered by one call, on the user's records.
Invariants: nothing is written before recipe, data and contenders were found good. Trials that are
            there are not run again, and those of another design are never mixed in. Without a
            budget two comparisons of one design find the same, but for what a clock measures.
Errors:     those of a training; `RunError` where the folder holds something else.
Not here:   design, trials, evidence and words: the other files of this folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from lightune import strict_yaml
from lightune.adapters.identity import tokenizer_hash
from lightune.compare import race as racing
from lightune.compare.bench import Bench
from lightune.compare.cells import Scorer
from lightune.compare.contenders import Contender, baselines
from lightune.compare.design import Design, plan
from lightune.compare.findings import Findings
from lightune.compare.judge import judge
from lightune.compare.outcome import Outcome, from_row, to_row
from lightune.compare.race import Race
from lightune.compare.report import write_report
from lightune.compare.request import check_language, resolve
from lightune.compare.scales import check_tokenizers
from lightune.compare.trials import Trial, key_of, run_trial
from lightune.compare.wording import Words
from lightune.errors import ConfigError, LightuneError, RunError, Stopped
from lightune.models.heads import supports
from lightune.pipeline import to_stderr
from lightune.recipe import Recipe, dump
from lightune.runs.files import disk_errors, write_json, write_text
from lightune.runs.lock import writing
from lightune.runs.log import MetricsLog, read_log

DESIGN, TRIALS, RECIPE = "design.json", "trials.jsonl", "recipe.yaml"

Note = Callable[[str], None]


@dataclass(frozen=True)
class Comparison:
    """A finished comparison.

    Attributes:
        folder: holds everything.
        findings: see `findings.py`.
        race: how far it came.
        minutes: about how many more would decide between the leaders; 0 where they are decided or
            everything was run, None where nothing can be promised.
        lang: of the report, and of the answer.
    """

    folder: Path
    findings: Findings
    race: Race
    minutes: float | None
    lang: str = "en"

    @property
    def complete(self) -> bool:
        """Whether more time would change nothing: all that was planned has been run, or what is
        left has been decided."""
        return self.race.complete or self.minutes == 0

    @property
    def decided(self) -> bool:
        """Whether there is a verdict: one is the best, or those that lead are equal."""
        return self.findings.settled

    def answer(self, lang: str | None = None) -> list[str]:
        """Return the answer in sentences, the one that matters first.

        Args:
            lang: that of the report by default.
        """
        isolates = str.maketrans(
            "", "", "\u2068\u2069"
        )  # for pages, where names may run right to left
        said = Words(self.findings, lang or self.lang).answer(self.minutes)
        return [sentence.translate(isolates) for sentence in said]

    def to_json(self) -> dict[str, Any]:
        """Return what `compare --json` prints."""
        return {
            "comparison": str(self.folder),
            "answer": self.answer(),
            "complete": self.complete,
            "decided": self.decided,
            "needs_minutes": self.minutes,
            "dropped": dict(self.race.dropped),
            "failed": [
                {"contender": name, "size": size, "problem": error.problem}
                for (name, size), error in self.race.failed.items()
            ],
            "trials": len(self.race.outcomes),
            **self.findings.to_json(),
        }


def compare(
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    *,
    out: str | Path | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    lang: str = "en",
    note: Note | None = None,
    silent: bool = False,
    begun: float | None = None,
    **settings: Any,
) -> Comparison:
    """Compare methods, models and settings on one task, by the same folds for all.

    Args:
        recipe: as `lightune.train` takes it; its section `compare` may say what is compared.
        out: the folder; trials of the same design that it holds are not run again. By default
            `runs/compare-<task>`, or the next free name.
        overrides: changes by dotted key, as `lightune.train` takes them; `grid.method.rank` and
            `tune.method.rank` with a list of values set `compare.grid` and `compare.tune`.
        lang: of the report: `en` or `zh`.
        note: takes each sentence the user should read; by default they go to standard error.
        silent: say nothing.
        begun: when the budget began to count, of `time.monotonic`; now by default.
        settings: of the comparison (`methods`, `models`, `folds`, `seeds`, `sizes`, `grid`,
            `tune`, `group`, `time`, `by`, `metric`, `budget`), and sections of the recipe.

    Raises:
        LightuneError: what is wrong, what was found, and the mend.

    Example:
        found = lightune.compare("recipe.yaml", methods=["lora", "full"], seeds=3)
        print(found.findings.leaders)
    """
    begun = time.monotonic() if begun is None else begun
    say = note or ((lambda text: None) if silent else to_stderr)
    check_language(lang)
    resolved, spec = resolve(recipe, overrides, settings)
    for sentence in resolved.notes:
        say(sentence)
    design = plan(resolved, spec)
    for sentence in design.notes:
        say(sentence)
    deadline = None if spec.seconds is None else begun + spec.seconds
    with TemporaryDirectory(prefix="lightune-compare-") as scratch:
        bench = Bench(design.records, Path(scratch), design.validation, say, design.clusters)
        every = with_baselines(design, bench)
        rounds = design.rounds(every)
        folder, done = _folder(out, design, every)
        with writing(folder, say), MetricsLog(folder / TRIALS, say) as log:
            state = _state(design, bench)
            alpha = racing.alpha_of(len(rounds), deadline)

            def judged(outcomes: Sequence[Outcome], race: Race | None = None) -> Findings:
                ran = race or Race()
                return judge(
                    outcomes,
                    resolved.task,
                    state,
                    design.records,
                    metric=spec.metric,
                    seed=resolved.train.seed,
                    clusters=design.clusters,
                    alpha=alpha,
                    dropped=ran.dropped,
                    untrainable={
                        name if size == "all" else f"{name} ({size})": error.problem
                        for (name, size), error in ran.failed.items()
                    },
                    planned=[contender.name for contender in every],
                )

            def keep(outcome: Outcome) -> None:
                log.write(to_row(outcome))
                if spec.metric is not None:  # a metric that the task does not have, said at once
                    scorer = Scorer(resolved.task, state, design.records, spec.metric)
                    rows = np.array([p.index for p in outcome.predictions], dtype=np.int64)
                    scorer.weighted(outcome.predictions, rows)

            def looked(outcomes: Sequence[Outcome]) -> Findings:
                """Judge and report what is known: all that comes after the last trial, so that
                its time is known too, and a comparison that is killed leaves a report."""
                found = judged(outcomes)
                write_report(found, folder, lang, missing=None)
                return found

            wanted = {trial.key for trials in rounds for trial in trials}
            ours = [outcome for outcome in done if key_of(outcome) in wanted]
            if ours:
                say(f"{len(ours)} trials of this comparison are there, and not run again")
            race = racing.run(
                rounds,
                ours,
                trial=lambda one, last: _tried(one, bench, last, say),
                keep=keep,
                judge=looked,
                tell=_teller(say, spec.metric or resolved.task.deciding),
                deadline=deadline,
            )
            if not race.outcomes:
                raise ConfigError(
                    "budget: not one trial ended in time",
                    found=f"{spec.budget}, for {len(every)} contenders on {len(rounds)} folds",
                    mend="a longer budget, or none",
                )
            findings = judged(race.outcomes, race)
            minutes = _minutes(race, findings, len(rounds))
            write_report(findings, folder, lang, missing=minutes, dropped=race.dropped)
    return Comparison(folder, findings, race, minutes, lang)


def with_baselines(design: Design, bench: Bench) -> list[Contender]:
    """Return the contenders, the baselines of their task behind them.

    Raises:
        ModelError, MethodError: a model cannot be had, or has no place for a method.
        ConfigError: the metric is of tokens, and the models split texts differently.
    """
    recipe = design.recipe
    state = recipe.task.learn(design.records)
    head = recipe.task.head(state)
    named = head.kind == "sequence_classification" and not head.multi_label
    named &= all(any(c.isalpha() for c in label) for label in head.labels)
    own, writers, splits = {}, set(), {}
    for contender in design.contenders:
        base = bench.load(contender.recipe.model, head, recipe.train.seed)
        own[contender.recipe.model] = not base.new_modules
        if contender.recipe.model not in splits:
            splits[contender.recipe.model] = tokenizer_hash(base.tokenizer)
        if named and supports(base.model.config, "causal_lm"):
            writers.add(contender.recipe.model)
        with torch.random.fork_rng(devices=[]):  # tried now, not after hours
            contender.recipe.method.with_tokenizer(base.tokenizer).attach(base.model)
    check_tokenizers(design.spec.metric or recipe.task.deciding, splits)
    return [*design.contenders, *baselines(head.kind, design.contenders, own, writers)]


def _state(design: Design, bench: Bench) -> dict[str, Any]:
    """Return what the task learns from all records and the model, for judging."""
    task = design.recipe.task
    state = task.learn(design.records)
    recipe = design.contenders[0].recipe
    base = bench.load(recipe.model, task.head(state), recipe.train.seed)
    return task.fit_tokenizer(base.tokenizer, task.fit_model(base.model.config, state))


def _folder(
    out: str | Path | None, design: Design, every: Sequence[Contender]
) -> tuple[Path, list[Outcome]]:
    """Return the comparison's folder, made where it is not there, and the trials it holds.

    Raises:
        RunError: it holds something else.
    """
    mark = design.fingerprint(every)
    if out is None:
        name = f"compare-{design.recipe.task.name}"
        places = (Path("runs") / (name if n == 1 else f"{name}-{n}") for n in count(1))
        folder = next(p for p in places if not p.exists() or _mark_of(p) == mark)
    else:
        folder = Path(out)
    if folder.exists():
        if _mark_of(folder) != mark:
            raise RunError(
                f"{folder} holds something else than this comparison",
                found="a comparison of other contenders, records, settings or code"
                if _mark_of(folder)
                else "a file"
                if folder.is_file()
                else "no comparison",
                mend="choose another folder: --out DIR",
            )
        rows = read_log(folder / TRIALS) if (folder / TRIALS).exists() else []
        return folder, [from_row(row) for row in rows]
    with disk_errors(folder):
        folder.mkdir(parents=True)
    said = {"compare": design.spec.model_dump(mode="json", exclude_defaults=True)}
    write_text(folder / RECIPE, dump(design.recipe) + strict_yaml.write(said))
    facts = {
        "fingerprint": mark,
        "contenders": [{"name": c.name, **c.settings()} for c in every],
        "folds": [{"train": len(f.train), "test": len(f.test)} for f in design.folds],
        "seeds": design.seeds,
        "sizes": design.spec.sizes,
    }
    write_json(folder / DESIGN, facts)
    return folder, []


def _tried(trial: Trial, bench: Bench, last: float | None, say: Note) -> Outcome:
    """Run a trial, and say at once of a contender that it cannot be trained.

    Raises:
        OutOfTime, LightuneError: see `run_trial`.
    """
    try:
        return run_trial(trial, bench, last)
    except Stopped:
        raise
    except LightuneError as error:
        say(
            f"{trial.contender.name} could not be trained on fold {trial.fold + 1} with seed "
            f"{trial.seed}, and is left out: {error}"
        )
        raise


def _mark_of(folder: Path) -> str:
    """Return the fingerprint of the design that a folder holds; empty where it holds none."""
    try:
        values = strict_yaml.read_file(folder / DESIGN)  # JSON is YAML
    except (OSError, LightuneError):
        return ""
    return str(values.get("fingerprint", "")) if isinstance(values, dict) else ""


def _teller(say: Note, metric: str) -> racing.Tell:
    """Return what says a line for each trial."""

    def tell(outcome: Outcome, done: int, total: int, left: float | None) -> None:
        value = outcome.metrics.get(metric)
        score = "" if value is None else f"  {metric} {value:.4f}"
        size = outcome.settings.get("size", "all")
        part = "" if size == "all" else f" of {size}"
        rest = "" if left is None else f"  {_spoken(left)} left"
        say(
            f"{done}/{total}  {outcome.contender}{part}  fold {outcome.fold + 1} "
            f"seed {outcome.seed}{score}  {outcome.seconds:.1f} s{rest}"
        )

    return tell


def _spoken(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _minutes(race: Race, findings: Findings, rounds: int) -> float | None:
    """Return about how many more minutes would decide between the leaders."""
    if race.complete:
        return 0.0
    done = max(1, rounds - race.left_rounds)
    more = racing.more_rounds(findings, done)
    if more == 0:
        return 0.0
    if more is None or more > race.left_rounds or race.missing != race.missing:
        return None  # what is left would not do: more records or seeds would
    return more * race.missing / race.left_rounds / 60
