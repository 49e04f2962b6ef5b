"""`lightune evaluate`: score a run on a labelled file."""

from pathlib import Path
from typing import Annotated

import typer

from lightune.cli.output import AsJson, output, table


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Labelled data: file, folder, glob or hub set.")
    ],
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Score the first N records only.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score a run on labelled data, with 95 % intervals.

    A trivial predictor stands beside the scores. The columns are those the run was trained with.

    \b
    Example:
        lightune evaluate runs/mine test.csv
        lightune evaluate runs/mine test.csv --json
    """
    from lightune.cli.train import scores_table
    from lightune.run import Run

    with output(as_json) as out:
        report = Run.open(run).evaluate(file, limit=limit)
        out.result(report)
        out.show(scores_table(report["metrics"], report.get("baselines")))
        per_class = report.get("tables", {}).get("per_class")
        if per_class:
            columns = list(per_class[0])
            rows = [
                [f"{cell:.4f}" if isinstance(cell, float) else cell for cell in row.values()]
                for row in per_class
            ]
            out.show(table(columns, rows))
        out.show(f"{report['records']} records")
