"""`lightune predict`: label new texts from the command line, a file, or standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lightune.cli import predictions_file
from lightune.cli.opened import Columns, RunFolder, decoded, opened
from lightune.cli.output import AsJson, Output, output, table
from lightune.errors import ConfigError, DataError

SHOWN = 50
"""Predictions shown on the terminal; all are in `--out` and `--json`."""


def predict(
    run: RunFolder,
    file: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="Data file, or - for one text a line from stdin."),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="A text to label; repeatable.")
    ] = None,
    text_pair: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="The second text of a pair; one for each --text."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write .csv, .tsv, .json or .jsonl; never overwrites."),
    ] = None,
    column: Columns = None,
    as_json: AsJson = False,
) -> None:
    """Label new texts with a trained run.

    \b
    Example:
        lightune predict runs/mine --text "a charming film" --text "two hours lost"
        lightune predict runs/mine new.csv --out labelled.csv
        cat lines.txt | lightune predict runs/mine -
    """
    given = _input(file, text, text_pair)
    if out:
        predictions_file.check(out)
    with output(as_json) as out_:
        with opened(run, column, out_) as (finished, columns):
            records = finished.records(given, columns)
            predictions = finished.predict(records)
            texts = predictions_file.texts_of(records, finished.recipe)
        if empty := sum(not text.strip(" /") for text in texts):
            out_.note(f"{empty} of {len(texts)} texts are empty: their predictions mean nothing")
        out_.result({"predictions": predictions, "records": len(predictions)})
        if out:
            rows = predictions_file.rows_of(given, finished, columns)
            predictions_file.write(out, rows, predictions)
            out_.note(f"wrote {len(predictions)} predictions to {out}")
        else:
            _show(out_, texts, predictions)


def _input(file: str | None, text: list[str] | None, pair: list[str] | None) -> Path | list[Any]:
    """Return what `Run.predict` takes: a path, texts, or pairs of texts."""
    if (file is None) == (text is None):
        raise ConfigError(
            "predict needs a file or --text" + (", not both" if file else ""),
            found=f"file {file!r} and {len(text)} texts" if file and text else "neither",
            mend='lightune predict RUN FILE, or: lightune predict RUN --text "a charming film"',
        )
    if pair and (text is None or len(pair) != len(text)):
        raise ConfigError(
            "each --text-pair needs its --text",
            found=f"{len(text or [])} --text and {len(pair)} --text-pair",
            mend='--text "first" --text-pair "second"',
        )
    if text is not None:
        return list(zip(text, pair, strict=True)) if pair else text
    return _stdin() if file == "-" else Path(str(file))


def _stdin() -> list[Any]:
    """Return the lines of standard input; a tab makes a line a pair of texts."""
    lines = decoded(sys.stdin.buffer.read()).splitlines()
    if not any(line.strip() for line in lines):
        raise DataError("standard input has no texts", found="nothing", mend="one text a line")
    pairs = [tuple(line.split("\t")) for line in lines]
    return pairs if all(len(pair) == 2 for pair in pairs) else lines


def _said(prediction: Any) -> Any:
    """Return a list of entities or of texts in words, any other prediction as it is."""
    if not isinstance(prediction, list):
        return prediction
    parts = [
        f"{part['text']} {part['label']} {part['score']:.4f}" if isinstance(part, dict) else part
        for part in prediction
    ]
    return " | ".join(map(str, parts)) or "-"


def _show(out: Output, texts: list[str], predictions: list[dict[str, Any]]) -> None:
    if predictions and "scores" not in predictions[0]:
        said = [_said(row["prediction"]) for row in predictions[:SHOWN]]
        answers = list(zip(said, texts[:SHOWN], strict=True))
        out.show(table(["answer", "text"], answers))
    else:
        rows = []
        for text, row in zip(texts[:SHOWN], predictions, strict=False):
            said = row["prediction"]
            names = said if isinstance(said, list) else [said]
            scores = [f"{row['scores'][name]:.4f}" for name in names if name in row["scores"]]
            rows.append((" | ".join(names), " | ".join(scores), text))
        out.show(table(["prediction", "probability", "text"], rows))
    if len(predictions) > SHOWN:
        out.show(f"{len(predictions) - SHOWN} more; `--out FILE.csv` writes all of them")
