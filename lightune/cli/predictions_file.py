"""Write predictions to a file: the user's own rows, each with its prediction beside it.

Invariants: an existing file is never overwritten; the file appears whole or not at all; a column
            of the user's that is named like one of ours keeps its name, ours gets another.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from lightune.cli.output import jsonable
from lightune.errors import DataError

if TYPE_CHECKING:
    from lightune.recipe import Recipe
    from lightune.run import Run
    from lightune.types import Record

DELIMITERS = {".csv": ",", ".tsv": "\t"}
ENDINGS = (*DELIMITERS, ".json", ".jsonl")


def check(path: Path) -> None:
    """Refuse, before any work is done, a file that cannot be written.

    Raises:
        DataError: it exists, its folder does not, or its ending names no known format.
    """
    if path.suffix.lower() not in ENDINGS:
        raise DataError(
            f"--out {path}: the ending names no format for predictions",
            found=path.suffix or "no ending",
            mend=f"--out {path.with_suffix('.csv')}   (or {', '.join(ENDINGS[1:])})",
        )
    if os.path.lexists(path):
        raise DataError(
            f"--out {path} exists already, and is never overwritten",
            found="a folder" if path.is_dir() else "a file",
            mend=f"--out {path.with_stem(path.stem + '-2')}",
        )
    if not path.parent.is_dir():
        raise DataError(
            f"--out {path}: its folder does not exist",
            found=str(path.parent),
            mend=f"mkdir -p {path.parent}",
        )


def rows_of(
    given: Path | Sequence[Any], run: Run, columns: Mapping[str, list[str]]
) -> list[dict[str, Any]]:
    """Return the user's rows by their own column names, in the order of the predictions.

    Args:
        given: what was predicted: a data file, or texts or pairs of texts.
        columns: those of a file that the user named.
    """
    if isinstance(given, Path):
        return run.rows(given, columns)
    return [dict(record.values) for record in run.records(given)]


def texts_of(records: Sequence[Record], recipe: Recipe) -> list[str]:
    """Return what was predicted as one line each, for the terminal."""
    from lightune.data.kinds import TEXTS, WHOLE
    from lightune.data.records import JOIN

    fields = [field.name for field in recipe.task.fields if field.kind in TEXTS]
    whole = [field.name for field in recipe.task.fields if field.kind in WHOLE]
    lines = []
    for record in records:
        texts = [text for name in fields if (text := record.values.get(name))]
        # a conversation has no text of its own: its turns are shown as they were read
        read = [record.values[name] for name in whole if name in record.values]
        lines.append(texts or [" ".join(v) if _are_words(v) else str(v) for v in read])
    return [" / ".join(texts).replace(JOIN, " / ") for texts in lines]


def _are_words(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


def write(
    path: Path, rows: Sequence[Mapping[str, Any]], predictions: Sequence[Mapping[str, Any]]
) -> None:
    """Write one line for each row.

    Args:
        path: checked before by `check`; its ending decides the format.
        rows: the user's values by column.
        predictions: `prediction` and `scores` of each row, in the same order.
    """
    flat = path.suffix.lower() in DELIMITERS
    taken = {name for row in rows for name in row}
    made = [
        {**row, **_columns(prediction, taken, flat)}
        for row, prediction in zip(rows, predictions, strict=True)
    ]
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("x", encoding="utf-8", newline="" if flat else None) as file:
            if flat:
                _write_table(file, made, DELIMITERS[path.suffix.lower()])
            elif path.suffix.lower() == ".json":
                json.dump(jsonable(made), file, ensure_ascii=False, indent=1, allow_nan=False)
                file.write("\n")
            else:
                for row in made:
                    file.write(json.dumps(jsonable(row), ensure_ascii=False, allow_nan=False))
                    file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)


def _columns(prediction: Mapping[str, Any], taken: set[str], flat: bool) -> dict[str, Any]:
    """Return our columns: the prediction and each class's probability."""
    columns: dict[str, Any] = {_free("prediction", taken): prediction["prediction"]}
    scores = prediction.get("scores") or {}
    if flat:
        columns |= {_free(f"score_{name}", taken): score for name, score in scores.items()}
    elif scores:
        columns[_free("scores", taken)] = scores
    return columns


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name = f"lightune_{name}"
    return name


def _write_table(file: TextIO, rows: Iterable[Mapping[str, Any]], delimiter: str) -> None:
    rows = list(rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in columns])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple) and not any(isinstance(part, Mapping) for part in value):
        return "|".join(map(str, value))
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(jsonable(value), ensure_ascii=False)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
