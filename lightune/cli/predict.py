"""`lightune predict`: label new texts from the command line, a file, or standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lightune.cli import predictions_file
from lightune.cli.output import AsJson, Output, output, table
from lightune.errors import ConfigError, DataError

SHOWN = 50
"""Predictions shown on the terminal; all are in `--out` and `--json`."""


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
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
    as_json: AsJson = False,
) -> None:
    """Label new texts with a trained run.

    \b
    Example:
        lightune predict runs/mine --text "a charming film" --text "two hours lost"
        lightune predict runs/mine new.csv --out labelled.csv
        cat lines.txt | lightune predict runs/mine -
    """
    given: Any = _input(file, text, text_pair)
    if out:
        predictions_file.check(out)
    from lightune.run import Run

    with output(as_json) as out_:
        opened = Run.open(run)
        predictions = opened.predict(given)
        if out:
            rows = predictions_file.user_rows(given, opened.recipe, predictions)
            predictions_file.write(out, rows, predictions)
        out_.result({"predictions": predictions, "records": len(predictions)})
        _show(out_, given, predictions, out)


def _input(file: str | None, text: list[str] | None, pair: list[str] | None) -> Any:
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
    if file != "-":
        return file if file is None else Path(file)
    return _stdin()


def _stdin() -> list[Any]:
    """Return the lines of standard input; a tab separates the two texts of a pair."""
    try:
        lines = sys.stdin.buffer.read().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(
            "standard input is not UTF-8",
            found=f"byte {error.object[error.start]:#04x} at position {error.start}",
            mend="convert it first: iconv -f gb18030 -t utf-8",
        ) from None
    texts: list[Any] = [line for line in lines if line.strip()]
    if not texts:
        raise DataError("standard input has no texts", mend="one text a line")
    return texts


def _show(out: Output, given: Any, predictions: list[dict[str, Any]], file: Path | None) -> None:
    if file:
        out.show(f"wrote {len(predictions)} predictions to {file}")
        return
    rows = []
    for number, row in enumerate(predictions[:SHOWN]):
        value = row["prediction"]
        label = " | ".join(value) if isinstance(value, list) else value
        scores = row.get("scores") or {}
        text = given[number] if isinstance(given, list) else f"line {row.get('line', number + 1)}"
        rows.append(
            (label, _score(value, scores), " / ".join(text) if isinstance(text, tuple) else text)
        )
    out.show(table(["prediction", "probability", "text"], rows))
    if len(predictions) > SHOWN:
        out.show(f"{len(predictions) - SHOWN} more; `--out FILE.csv` writes all of them")


def _score(value: Any, scores: dict[str, float]) -> str:
    names = value if isinstance(value, list) else [value]
    return " | ".join(f"{scores[name]:.4f}" for name in names if name in scores)
