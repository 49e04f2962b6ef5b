"""`lightune train`: from a recipe, or from a data file alone, to a run folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lightune.cli.output import AsJson, Output, output, short, table
from lightune.errors import ConfigError

if TYPE_CHECKING:
    from lightune.run import Run

STOPPED = 75
"""Exit status when a signal ended the training and its weights were saved."""

Set = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Change one value: -s method.rank=16."),
]


def train(
    recipe: Annotated[
        Path | None,
        typer.Argument(metavar="[RECIPE]", help="YAML file; `lightune init` writes one."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Training data: file, folder, glob or hub data set."),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Test data; without it a fifth is held out."),
    ] = None,
    task: Annotated[str | None, typer.Option(help="See `lightune tasks`.")] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Column of the text; several are joined."),
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column of the label.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Catalogue name (`lightune models`), hub id, or folder.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="See `lightune methods`.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run folder; it must not exist yet.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Go on with a run that was stopped or killed, bit for bit."
        ),
    ] = None,
    overrides: Set = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check recipe and data, count weights, forecast memory and time; train nothing.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a base model and write a run folder.

    The folder holds all that is needed to use and to repeat the run: the adapter, the resolved
    recipe, versions and seeds, scores with intervals, and a prediction for each test record.

    \b
    Example:
        lightune train --task classification --data reviews.csv --out runs/mine
        lightune train recipe.yaml -s method.rank=16 --dry-run
        lightune train --resume runs/mine
    """
    given = {
        "data.train": _one(data),
        "data.test": test,
        "task.name": task,
        "task.text": _one(text),
        "task.label": label,
        "model": model,
        "method": method,
    }
    if resume is not None:
        _check_alone(recipe, out, dry_run, given)
        with output(as_json) as out_:
            run = _train(out_, None, list(overrides or []), None, resume)
        _exit_status(run)
        return
    if recipe is None and not data and not any("data" in item for item in overrides or []):
        raise ConfigError(
            "train needs a recipe or a data file",
            found="neither",
            mend="lightune train --task classification --data FILE, or: lightune init recipe.yaml",
        )
    flags = [
        f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in given.items() if value
    ]
    source: Any = {} if recipe is None else recipe
    with output(as_json) as out_:
        if dry_run:
            _dry_run(out_, source, [*flags, *(overrides or [])])
            return
        run = _train(out_, source, [*flags, *(overrides or [])], out)
    _exit_status(run)


def _exit_status(run: Run) -> None:
    """End with `STOPPED` where a signal ended the training."""
    if run.stopped not in (None, "early stopping"):
        raise typer.Exit(STOPPED)


def _check_alone(
    recipe: Path | None, out: Path | None, dry_run: bool, given: dict[str, Any]
) -> None:
    """Refuse what says otherwise beside `--resume` than the run's own recipe.

    Raises:
        ConfigError: something but `-s` and `--json` is given.
    """
    flags = {"RECIPE": recipe, "--out": out, "--dry-run": dry_run, **given}
    if named := [name for name, value in flags.items() if value]:
        raise ConfigError(
            "--resume: a run goes on in its own folder, with its own recipe",
            found=f"also given: {', '.join(named)}",
            mend="lightune train --resume RUN; what may change: -s train.epochs=6",
        )


def _one(values: list[str] | None) -> list[str] | str | None:
    return values[0] if values and len(values) == 1 else values


def _train(
    out: Output,
    source: Any,
    changes: list[str],
    folder: Path | None,
    resume: Path | None = None,
) -> Run:
    from lightune.cli.scores import scores_table
    from lightune.pipeline import train as train_run
    from lightune.train.checkpoint import folders

    run = train_run(source, out=folder, resume=resume, overrides=changes, note=out.note)
    summary = run.summary()
    texts = '--text "…" --text-pair "…"' if len(run.text_fields()) > 1 else '--text "…"'
    share = summary["trainable_parameters"] / summary["total_parameters"]
    out.result(summary)
    if summary["metrics"]:
        out.show(scores_table(summary, "Test"))
    if summary["stopped"] not in (None, "early stopping"):
        out.show(
            f"STOPPED by {summary['stopped']} after {summary['steps']} steps "
            f"({summary['epochs']:.2f} passes): weights and scores are those of that moment",
            f"go on: lightune train --resume {short(run.folder)}"
            if folders(run.folder / "checkpoints")
            else "it cannot go on: it has no checkpoint",
        )
    if warned := [row["check"] for row in summary["warnings"]]:
        out.show(
            f"{len(warned)} warning{'s' * (len(warned) > 1)} ({', '.join(dict.fromkeys(warned))}): "
            f"{short(run.folder / 'warnings.json')}"
        )
    out.show(
        f"trained {summary['trainable_parameters']:,} of {summary['total_parameters']:,} weights "
        f"({share:.2%}) in {summary['seconds']:.0f} s",
        f"run: {short(run.folder)}",
        f"next: lightune predict {short(run.folder)} {texts}",
    )
    return run


def _dry_run(out: Output, source: Any, changes: list[str]) -> None:
    from lightune.data.report import render
    from lightune.pipeline import dry_run as forecast_run
    from lightune.runs.warned import Warned

    plan = forecast_run(source, overrides=changes)
    out.result(plan)
    share = plan["trainable_parameters"] / plan["total_parameters"]
    forecast = [(key.replace("_", " "), f"{value:,.0f}") for key, value in plan["forecast"].items()]
    out.show(
        *(f"note: {note}" for note in plan["notes"]),
        *(str(Warned(**row)) for row in plan["warnings"]),
        "",
        *render(plan["data"]),
        "",
        table(["forecast", ""], forecast),
        "",
        f"would train {plan['trainable_parameters']:,} of {plan['total_parameters']:,} weights "
        f"({share:.2%}); nothing was trained",
    )
