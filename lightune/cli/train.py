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
    """
    flags = _flags(data, test, task, text, label, model, method)
    if recipe is None and not data and not any("data." in item for item in overrides or []):
        raise ConfigError(
            "train needs a recipe or a data file",
            found="neither",
            mend="lightune train --task classification --data FILE, or: lightune init recipe.yaml",
        )
    changes = [f"{key}={json.dumps(value)}" for key, value in flags.items()] + (overrides or [])
    source: Any = {} if recipe is None else recipe
    with output(as_json) as out_:
        if dry_run:
            _dry_run(out_, source, changes)
        else:
            _train(out_, source, changes, out)


def _flags(
    data: list[str] | None,
    test: str | None,
    task: str | None,
    text: list[str] | None,
    label: str | None,
    model: str | None,
    method: str | None,
) -> dict[str, Any]:
    """Return the options as dotted keys of a recipe; those not given are left out."""
    given = {
        "data.train": data[0] if data and len(data) == 1 else data,
        "data.test": test,
        "task.name": task,
        "task.text": text[0] if text and len(text) == 1 else text,
        "task.label": label,
        "model": model,
        "method.name": method,
    }
    return {key: value for key, value in given.items() if value}


def _train(out: Output, source: Any, changes: list[str], folder: Path | None) -> None:
    from lightune import pipeline

    run = pipeline.train(source, out=folder, overrides=changes)
    summary = run.summary()
    out.result(summary)
    out.show(
        scores_table(summary["metrics"]),
        f"trained {summary['trainable_parameters']:,} of {summary['total_parameters']:,} weights "
        f"({summary['trainable_parameters'] / summary['total_parameters']:.2%}) "
        f"in {summary['seconds']:.0f} s",
        next_command(run),
    )


def _dry_run(out: Output, source: Any, changes: list[str]) -> None:
    from lightune import pipeline

    plan = pipeline.dry_run(source, overrides=changes)
    out.result(plan)
    for note in plan["notes"]:
        out.show(note)
    share = plan["trainable_parameters"] / plan["total_parameters"]
    out.show(
        table(["forecast", ""], list(plan["forecast"].items())),
        f"would train {plan['trainable_parameters']:,} of {plan['total_parameters']:,} weights "
        f"({share:.2%}); nothing was trained",
    )


def next_command(run: Run) -> str:
    """Return the last line that training prints: what to type now."""
    return f'next: lightune predict {short(run.folder)} --text "…"'


def scores_table(
    metrics: dict[str, dict[str, Any]], baselines: dict[str, dict[str, float]] | None = None
) -> Any:
    """Return a table of metrics with their 95 % intervals, and trivial predictors beside them."""
    names = list(baselines or {})
    rows = []
    for name, score in metrics.items():
        low, high = score.get("low"), score.get("high")
        interval = "" if low is None or high is None else f"{low:.4f} to {high:.4f}"
        beside = [(baselines or {})[other].get(name) for other in names]
        cells = ["" if value is None else f"{value:.4f}" for value in beside]
        rows.append([name, f"{score['value']:.4f}", interval, *cells])
    return table(["metric", "score", "95 % interval", *names], rows)
