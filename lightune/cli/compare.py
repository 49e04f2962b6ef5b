"""`lightune compare`: which method, which model, how much data, for the user's own task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lightune.cli.output import AsJson, Output, console, output, short, table
from lightune.errors import ConfigError

if TYPE_CHECKING:
    from lightune.compare.experiment import Comparison

WIDE, NARROW = 110, (0, 1, 2, 5)
"""Columns of a terminal that hold the whole table, and what is shown of it where it is narrower."""

Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="KEY=VALUE",
        help="Change one value: -s train.epochs=2; compare several: -s grid.method.rank=[2,8]; or "
        "choose inside each training part: -s tune.train.learning_rate=[1e-4,5e-4].",
    ),
]


def compare(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="YAML file.")],
    methods: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="See `lightune methods`; without it the recipe's."),
    ] = None,
    models: Annotated[
        str | None, typer.Option(metavar="A,B", help="Base models; without it the recipe's.")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(metavar="N", help="Parts of the data, each tested once (5)."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(metavar="N", help="Trainings of each on each fold (1).")
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(metavar="N,N", help="Training records, for learning curves: 32,8/class,all."),
    ] = None,
    group: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Keep its equal values in one fold.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Train on the past, test on what is next.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Take the folds that it names.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="What decides; else the task's own.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="90s, 30m, 2h: drop early who is shown to be worse, and stop."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="The folder; a comparison that it holds in part is gone on with."
        ),
    ] = None,
    lang: Annotated[str, typer.Option(metavar="en|zh", help="Language of the report.")] = "en",
    overrides: Set = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check everything and forecast the time; train nothing."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare methods, models and settings on your data, and say what can be told apart.

    All are trained and tested on the same folds, with simple baselines beside them. A winner is
    named only where the evidence holds; else the report says what difference could have been
    seen. A comparison that was stopped goes on where it was: give the same command again.

    \b
    Example:
        lightune compare recipe.yaml --methods lora,bottleneck,full --folds 5 --out comparison
        lightune compare recipe.yaml -s grid.method.rank=[2,8,32] --seeds 3 --budget 30m
        lightune compare recipe.yaml --methods lora,head --sizes 32,128,all --lang zh
    """
    begun = monotonic()  # before torch loads, which takes seconds of a budget too
    settings: dict[str, Any] = {
        "methods": _list(methods),
        "models": _list(models),
        "sizes": _list(sizes),
        "folds": folds,
        "seeds": seeds,
        "group": group,
        "time": time,
        "by": by,
        "metric": metric,
        "budget": budget,
    }
    with output(as_json) as out_:
        if dry_run:
            if out is not None:
                raise ConfigError(
                    "--dry-run writes nothing", found=f"--out {out}", mend="leave --out out"
                )
            _rehearse(out_, recipe, overrides or [], settings)
            return
        from lightune.compare.experiment import compare as run

        said: dict[str, Any] = {"lang": lang, "note": out_.note, "begun": begun}
        found = run(recipe, out=out, overrides=overrides or [], **said, **settings)
        out_.result(found.to_json())
        _show(out_, found, lang)


def _list(text: str | None) -> list[str] | None:
    """Return the parts of `a,b`; None where the option is not given."""
    if text is None:
        return None
    return [part.strip() for part in text.split(",") if part.strip()]


def _show(out: Output, found: Comparison, lang: str) -> None:
    findings = found.findings
    rows: list[Sequence[Any]] = [
        (
            standing.contender,
            f"{standing.score.value:.4f}",
            _interval(standing.score.low, standing.score.high),
            f"{standing.cost.trained_weights:,}",
            f"{standing.cost.adapter_bytes / 1e6:.2f}",
            f"{standing.cost.seconds:.1f}",
            f"{1e3 * standing.cost.latency:.1f}",
            standing.folds,
        )
        for standing in findings.standings
    ]
    columns = ["", findings.metric, "95 % interval", "trained weights", "MB", "training s"]
    columns += ["latency ms", "folds"]
    if console().width < WIDE:  # the report has all of them
        columns = [columns[i] for i in NARROW]
        rows = [[row[i] for i in NARROW] for row in rows]
    out.show(
        table(columns, rows),
        "",
        *found.answer(lang),
        "",
        f"report: {short(found.folder / 'report.html')}",
    )


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.4f} to {high:.4f}"


def _rehearse(out: Output, recipe: Path, overrides: list[str], settings: dict[str, Any]) -> None:
    from lightune.compare.rehearsal import rehearse

    plan = rehearse(recipe, overrides=overrides, **settings)
    out.result(plan)
    rows = [
        (c["name"], c["trials"], "" if c["seconds"] is None else f"{c['seconds']:,.0f}")
        for c in plan["contenders"]
    ]
    out.show(
        *(f"note: {note}" for note in plan["notes"]),
        "",
        table(["contender", "trials", "seconds"], rows),
        "",
        f"{plan['trials']} trials on {plan['records']:,} records in {len(plan['folds'])} folds, "
        f"about {plan['seconds'] / 60:,.0f} minutes; nothing was trained",
    )
