"""Rows that are in memory or in Arrow: Parquet, pandas, polars, `datasets`, lists of dicts.

Invariants: none of these libraries is imported before one of its objects is met. Missing values
            of every library (NaN, NaT, null, class -1 of a `ClassLabel`) become None, and NumPy's
            numbers and arrays plain ones, however deep inside a cell they stand.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightune.data.table import Table, from_objects
from lightune.errors import DataError

MOST_CELLS, MOST_CELLS_PER_BYTE = 10_000_000, 100
"""A Parquet file may hold as many cells, or as many for each of its bytes: rows of text are far
below one for a byte."""


def library_of(value: Any) -> str | None:
    """Return `pandas`, `polars`, `datasets` or `pyarrow` for their tables, else None."""
    names = {"DataFrame", "LazyFrame", "Dataset", "DatasetDict", "Table"}
    for cls in type(value).__mro__:
        library = cls.__module__.partition(".")[0]
        if library in ("pandas", "polars", "datasets", "pyarrow") and cls.__name__ in names:
            return library
    return None


def is_frame(value: Any) -> bool:
    """Whether `value` is a table in memory: a frame, a data set, or a dict of columns."""
    return library_of(value) is not None or isinstance(value, Mapping)


def name_of(value: Any) -> str:
    """Return what messages call an in-memory source, such as `<DataFrame>`."""
    return f"<{type(value).__name__}>"


def read_frame(value: Any, file: str | None = None) -> Table:
    """Return the rows of an in-memory table; their places count rows from 1.

    Raises:
        DataError: it has no rows, or its columns differ in length.
    """
    file, library, notes = file or name_of(value), library_of(value), list[str]()
    if library == "polars":
        frame = value.collect() if type(value).__name__ == "LazyFrame" else value
        columns = {name: frame[name].to_list() for name in frame.columns}
    elif library == "pandas":
        # By position: a frame may hold two columns of one name.
        columns = {}
        for position, name in enumerate(value.columns):
            _refuse_second(file, str(name), columns)
            columns[str(name)] = value.iloc[:, position].tolist()
    elif library == "pyarrow":
        columns = {name: value[name].to_pylist() for name in value.column_names}
    elif library == "datasets":
        columns = {name: value.with_format(None)[name][:] for name in value.column_names}
        notes = _name_classes(value, columns, file)
    elif isinstance(value, Mapping):
        columns = {str(name): list(cells) for name, cells in value.items()}
    else:
        columns = from_objects(file, value, range(1, len(value) + 1)).columns
    lengths = {name: len(cells) for name, cells in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(
            f"{file}: the columns differ in length",
            found=", ".join(f"{name}: {length}" for name, length in lengths.items()),
            mend="give every column one value per row",
        )
    columns = {name: [_plain(cell) for cell in cells] for name, cells in columns.items()}
    rows = range(1, max(lengths.values(), default=0) + 1)
    return _not_empty(Table(file, columns, rows, notes=notes))


def read_parquet(path: Path, file: str) -> Table:
    """Return the rows of a Parquet file.

    Raises:
        DataError: the file is damaged or is not Parquet.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        opened = pyarrow.parquet.ParquetFile(path)
        _refuse_bomb(path, file, opened.metadata.num_rows * opened.metadata.num_columns)
        table = opened.read()
        table.validate(full=True)  # texts that are no UTF-8, offsets that lead out of the file
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"{file}: cannot be read as Parquet",
            found=str(error).splitlines()[0] if str(error) else type(error).__name__,
            mend="write the file again, or say what it is: `data: {format: csv}`",
        ) from None
    return read_frame(table, file)


def _refuse_bomb(path: Path, file: str, cells: int) -> None:
    """Refuse a small file that stands for cells without end, before it fills the memory."""
    if cells > MOST_CELLS and cells > MOST_CELLS_PER_BYTE * path.stat().st_size:
        raise DataError(
            f"{file}: holds more cells than a file of its size should",
            found=f"{cells:,} cells in {path.stat().st_size:,} bytes",
            mend="if it is right, write it again without the columns that nobody reads",
        )


def _not_empty(table: Table) -> Table:
    if not len(table):
        raise DataError(
            f"{table.file}: has no rows",
            found=f"columns: {', '.join(table.columns) or 'none'}",
            mend="give a source that has at least one row",
        )
    return table


def _plain(cell: Any) -> Any:
    """Return a plain Python value; None for every library's missing value."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, dict):
        return {name: _plain(value) for name, value in cell.items()}
    if isinstance(cell, list | tuple):
        return [_plain(value) for value in cell]
    if hasattr(cell, "tolist"):  # NumPy scalars and arrays, inside frames of objects
        return _plain(cell.tolist())
    if isinstance(cell, float) and math.isnan(cell):
        return None
    return None if type(cell).__name__ in ("NAType", "NaTType") else cell


def _refuse_second(file: str, name: str, columns: Mapping[str, Sequence[Any]]) -> None:
    if name in columns:
        raise DataError(
            f"{file}: two columns are named {name!r}",
            found=f"columns: {', '.join(columns)}, {name}",
            mend="rename one of them",
        )


def _name_classes(dataset: Any, columns: dict[str, list[Any]], file: str) -> list[str]:
    """Replace the ids of `ClassLabel` columns by their names; -1 stands for no label."""
    notes = []
    for name, feature in dataset.features.items():
        inner = getattr(feature, "feature", None)  # of a list of classes
        words = getattr(feature, "names", None) or getattr(inner, "names", None)
        if not words:
            continue
        columns[name] = [_class_name(cell, words) for cell in columns[name]]
        notes.append(f"{file}: ids of {name!r} are shown by their names ({', '.join(words[:5])})")
    return notes


def _class_name(cell: Any, words: Sequence[str]) -> Any:
    if isinstance(cell, list):
        return [words[i] for i in cell]
    return words[cell] if cell is not None and cell >= 0 else None
