"""`lightune evaluate`: score a run on a labelled file."""

from typing import Annotated

import typer

from lightune.cli.opened import Columns, RunFolder, opened
from lightune.cli.output import AsJson, output


def evaluate(
    run: RunFolder,
    file: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="Labelled data: file, folder, glob or hub set."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Score the first N records only.")
    ] = None,
    column: Columns = None,
    as_json: AsJson = False,
) -> None:
    """Score a run on labelled data, with 95 % intervals.

    A trivial predictor stands beside the scores. Without FILE the run's own test records are
    scored again.

    \b
    Example:
        lightune evaluate runs/mine test.csv
        lightune evaluate runs/mine test.csv --json
    """
    from lightune.cli.scores import scores_table

    with output(as_json) as out:
        with opened(run, column, out) as (finished, columns):
            report = finished.evaluate(file, limit=limit, columns=columns)
        out.result(report)
        out.show(scores_table(report, file or "Test"))
