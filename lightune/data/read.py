"""Any source -> tables, one per file or split; the one door through which rows come in."""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightune.data.conll import looks_like_conll, read_conll
from lightune.data.decode import decode, read_bytes
from lightune.data.delimited import read_delimited
from lightune.data.frames import is_frame, library_of, name_of, read_frame, read_parquet
from lightune.data.hub import open_hub, read_split, split_for
from lightune.data.objects import read_json, read_jsonl
from lightune.data.paragraphs import read_paragraphs
from lightune.data.sources import ENDINGS, ending_of, is_hub, locate
from lightune.data.spec import DataSpec
from lightune.data.squad import flatten, is_nested
from lightune.data.table import Table
from lightune.errors import DataError
from lightune.types import Place

BARE = ("text", "conll")
"""Formats of files without columns, whose ending may tell nothing (`.txt`)."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row by the user's own column names."""

    values: dict[str, Any]
    place: Place


def read_rows(source: Any, spec: DataSpec) -> list[Row]:
    """Return every row of `source` by its own column names.

    Raises:
        DataError: a file is missing, damaged, or not what it is said to be.
    """
    return [
        Row({name: cells[i] for name, cells in table.columns.items()}, table.place(i))
        for table in read_tables(source, spec)
        for i in range(len(table))
    ]


def read_tables(
    source: Any, spec: DataSpec, known: Collection[str] = (), role: str | None = None
) -> list[Table]:
    """Return one table per file, split or in-memory object of `source`.

    Args:
        source: what `data.train` may be.
        known: column names that tell a header from data (`header.normal` form).
        role: `train`, `test` or `validation` picks among the files of a folder and the splits of
            a hub data set; None takes all files, and the test split.

    Raises:
        DataError: a file is missing, damaged, or not what it is said to be.
    """
    return list(_tables(source, spec, known, role))


def own_splits(source: Any, spec: DataSpec) -> list[str]:
    """Return the names of the splits that a hub data set or `DatasetDict` brings; [] for others."""
    if type(source).__name__ == "DatasetDict" and library_of(source) == "datasets":
        return list(source)
    if isinstance(source, str) and is_hub(source):
        splits, named = open_hub(source, spec.revision)
        return [] if named else list(splits)  # `#split` asks for that one alone
    return []


def _tables(
    source: Any, spec: DataSpec, known: Collection[str], role: str | None
) -> Iterator[Table]:
    if type(source).__name__ == "DatasetDict" and library_of(source) == "datasets":
        yield _split(source, name_of(source), None, spec, role)
    elif is_frame(source) or (isinstance(source, list | tuple) and _holds_rows(source)):
        yield read_frame(source)
    elif isinstance(source, list | tuple):
        seen: set[Path] = set()
        for name in source:
            yield from _named(str(name), spec, known, role, seen)
    else:
        yield from _named(str(source), spec, known, role, set())


def _holds_rows(source: list[Any] | tuple[Any, ...]) -> bool:
    return not source or not all(isinstance(item, str | Path) for item in source)


def _named(
    source: str, spec: DataSpec, known: Collection[str], role: str | None, seen: set[Path]
) -> Iterator[Table]:
    if source.startswith("<") and source.endswith(">"):
        raise DataError(
            f"{source}: was data in memory, which a recipe only names",
            mend="give the data itself from Python, or a file",
        )
    if is_hub(source):
        splits, named = open_hub(source, spec.revision)
        yield _split(splits, source.partition("#")[0], named, spec, role)
        return
    for path in locate(source, role, any_ending=spec.format not in (None, *BARE)):
        if path.resolve() not in seen:  # a file may be named twice, by itself and by a glob
            seen.add(path.resolve())
            yield read_file(path, spec, known)


def _split(splits: Any, file: str, named: str | None, spec: DataSpec, role: str | None) -> Table:
    asked = named or (spec.split if role in ("train", None) else None)
    return read_split(splits, file, split_for(list(splits), role or "test", file, asked))


def read_file(path: Path, spec: DataSpec, known: Collection[str] = ()) -> Table:
    """Return the table in one file.

    Raises:
        DataError: it is damaged, or not what its ending or `data.format` says.
    """
    file = str(path)
    format = spec.format or ENDINGS.get(ending_of(path))
    if spec.format in BARE:
        format = ENDINGS.get(ending_of(path), spec.format)
    if format == "parquet":
        if path.suffix.lower() == ".gz":
            raise DataError(
                f"{file}: Parquet is not read through gzip",
                mend=f"unpack it: `gunzip {file}`; Parquet compresses its columns itself",
            )
        return read_parquet(path, file)
    if format is None and path.suffix.lower() in (".zip", ".tar", ".tgz", ".7z", ".rar"):
        raise DataError(
            f"{file}: archives are not read",
            found=f"ending {path.suffix}",
            mend="unpack it and name the files inside; of packed files, .csv.gz, .tsv.gz and "
            ".jsonl.gz are read",
        )
    text = decode(read_bytes(path, file), spec.encoding, file)
    if format == "json":
        table = read_json(text, file, sure=spec.format == "json")
        return flatten(table) if is_nested(table) else table
    if format == "jsonl":
        return read_jsonl(text, file)
    if format == "text":
        return read_paragraphs(text, file)
    if format == "conll" or (format == "tsv" and spec.format == "conll" and looks_like_conll(text)):
        return read_conll(text, file)
    if format is None:
        raise DataError(
            f"{file}: the ending does not tell the format",
            found=f"ending {path.suffix!r}; the first line is {text.strip().splitlines()[0]!r:.60}",
            mend=f"rename it to {path.with_suffix(f'.{_seems(text)}').name}, or say in the recipe "
            f"`data: {{format: {_seems(text)}}}`   (or another of "
            f"{', '.join(sorted(set(ENDINGS.values())))})",
        )
    return read_delimited(text, file, format, spec, known)


def _seems(text: str) -> str:
    """Return the format that a text's first line suggests."""
    first = text.strip().splitlines()[0]
    if first.startswith("["):
        return "json"
    if first.startswith("{"):
        try:
            json.loads(first)
        except (ValueError, RecursionError):
            return "json"
        return "jsonl"
    commas = {line.count(",") for line in text.strip().splitlines()[:20]}
    return "csv" if "\t" not in first and len(commas) == 1 and commas != {0} else "tsv"
