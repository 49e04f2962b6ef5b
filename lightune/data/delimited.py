"""CSV and TSV -> table, with the physical line of every row.

Why:        TSV files in the wild disagree about `"`: in some it quotes a cell, in others it is a
            character like any other. Read the wrong way, whole rows vanish into one cell without
            a word (454 rows of ChnSentiCorp, two of SMS Spam). So quoting is decided per file, by
            reading strictly: a file counts as quoted only if every quote closes and every row has
            the same number of cells.
Invariants: a ragged row is an error, never padded or cut; lines are those an editor shows, also
            after quoted line breaks.
Not here:   what the columns mean (`columns.py`), characters (`decode.py`).
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lightune.data.header import looks_like_header, normal
from lightune.data.spec import DataSpec
from lightune.data.table import Table
from lightune.errors import DataError

_SNIFF = 50
"""Rows that decide the delimiter."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Cells as one way of quoting gives them; `error` where that way fails.

    Attributes:
        tabled: some quoted cell holds both a delimiter and a line break, as a swallowed row would.
    """

    rows: list[list[str]]
    lines: list[int]
    blank: int
    error: DataError | None
    tabled: bool = False


def read_delimited(
    text: str, file: str, format: str, spec: DataSpec, known: Collection[str] = ()
) -> Table:
    """Return the table in `text`.

    Args:
        file: for messages.
        format: `csv` or `tsv`.
        known: names that tell a header from data, as `header.normal` writes them.

    Raises:
        DataError: ragged rows, an open quote, two columns of one name, a header and nothing else.
    """
    notes: list[str] = []
    with _cells_of_any_size():
        delimiter = spec.delimiter or ("\t" if format == "tsv" else _guess_delimiter(text))
        if format == "csv" and not spec.delimiter and delimiter != ",":
            notes.append(f"{file}: cells are separated by {delimiter!r} (guessed)")
        reading = _read(text, file, delimiter, spec.quoting, notes)
    if reading.error:
        raise reading.error
    rows, lines = reading.rows, reading.lines
    if reading.blank:
        notes.append(f"{file}: blank lines passed over: {reading.blank}")
    names, named = _names(rows, lines, file, spec, known, notes)
    if named:
        rows, lines = rows[1:], lines[1:]
        if not rows:
            raise DataError(
                f"{file}: has a header and no rows",
                found=f"columns: {', '.join(names)}",
                mend="add rows; if the first line is data, say so: `data: {header: false}`",
            )
    cells: Sequence[Sequence[str]] = list(zip(*rows, strict=True))
    columns = {name: list(column) for name, column in zip(names, cells, strict=True)}
    return Table(file, columns, lines, named or bool(spec.columns), notes)


def _read(text: str, file: str, delimiter: str, quoting: bool | None, notes: list[str]) -> Reading:
    """Return the cells by the way of quoting that the file bears out."""
    between = re.escape(delimiter) + ("" if delimiter == "\t" else " *")
    opens = '"' in text and re.search(rf'(?:^|{between})"', text, re.MULTILINE)
    if quoting is False or (quoting is None and not opens):
        return _parse(text, file, delimiter)
    # In `1, "a, b"` the blank is no part of the cell, or its quotes would be.
    spaced = delimiter != "\t" and f'{delimiter} "' in text
    strict = _parse(text, file, delimiter, quoting=True, skipinitialspace=spaced)
    if spaced and strict.error:
        strict = _parse(text, file, delimiter, quoting=True)
    # Commas stand in texts, tabs do not: a quoted cell with tabs and line breaks is swallowed rows.
    swallowed = strict.tabled and delimiter == "\t"
    if not (strict.error or swallowed):
        return strict
    if '\\"' in text and not swallowed:
        escaped = _parse(text, file, delimiter, quoting=True, escapechar="\\", doublequote=False)
        if not escaped.error:
            notes.append(f'{file}: \\" is read as a quotation mark inside a cell')
            return escaped
    if quoting:
        return strict
    literal = _parse(text, file, delimiter)
    clean = not literal.error and len(literal.rows[0]) > 1
    if clean or (delimiter == "\t" and strict.error):
        notes.append(f'{file}: read with quoting off (the " in it do not pair up as quotes)')
        return literal
    return strict


def _parse(text: str, file: str, delimiter: str, quoting: bool = False, **style: Any) -> Reading:
    # newline="" leaves line breaks as they are, which the csv module wants, and counts each once.
    source = io.StringIO(text, newline="")
    reader = csv.reader(
        source,
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE,
        strict=True,
        **style,
    )
    rows: list[list[str]] = []
    lines: list[int] = []
    line, error, tabled = 1, None, False
    try:
        for row in reader:
            rows.append(row)
            lines.append(line)
            if reader.line_num > line and not tabled:
                tabled = any("\n" in cell and delimiter in cell for cell in row)
            line = reader.line_num + 1
    except csv.Error as problem:
        error = _quote_error(file, line, str(problem))
    rows, lines, blank = _without_blank(rows, lines)
    return Reading(rows, lines, blank, error or _ragged(file, rows, lines, delimiter), tabled)


def _quote_error(file: str, line: int, problem: str) -> DataError:
    if "end of data" in problem:
        problem = 'a cell opens with " and never closes'
    return DataError(
        f"{file}:{line}: the row cannot be split into cells",
        found=problem,
        mend='write " inside a quoted cell as "", or read " as any other character: '
        "`data: {quoting: false}`",
    )


def _without_blank(
    rows: list[list[str]], lines: list[int]
) -> tuple[list[list[str]], list[int], int]:
    """Pass over blank lines; in a file of one column they are rows with an empty cell."""
    while rows and not "".join(rows[-1]).strip() and len(rows[-1]) < 2:
        rows, lines = rows[:-1], lines[:-1]
    if all(len(row) < 2 for row in rows):
        return [row or [""] for row in rows], lines, 0
    keep = [i for i, row in enumerate(rows) if len(row) > 1 or (row and row[0].strip())]
    if len(keep) == len(rows):
        return rows, lines, 0
    return [rows[i] for i in keep], [lines[i] for i in keep], len(rows) - len(keep)


def _ragged(file: str, rows: list[list[str]], lines: list[int], delimiter: str) -> DataError | None:
    if not rows:
        return DataError(f"{file}: is empty", "only blank cells", "give a file with rows")
    widths = Counter(map(len, rows))
    if len(widths) < 2:
        return None
    expected = max(widths, key=lambda width: (widths[width], width == len(rows[0])))
    first = next(i for i, row in enumerate(rows) if len(row) != expected)
    others = len(rows) - widths[expected] - 1
    more = f", and {others} more such rows" if others else ""
    shown = delimiter.join(rows[first])
    mend = f"give line {lines[first]} {_cells(expected)}, quoted where they hold {delimiter!r}"
    if len(rows[first]) == 1 and first:
        mend = (
            f"if line {lines[first]} goes on from the row above it, join the two lines, or quote "
            "the cell that holds the line break"
        )
    elif expected == 1:
        mend = "for one text per line without quotes: `data: {format: tsv}`; otherwise " + mend
    return DataError(
        f"{file}:{lines[first]}: the row has another number of cells than the others",
        found=f"{_cells(len(rows[first]))} where {expected} were expected: {shown!r:.80}{more}",
        mend=mend,
    )


def _cells(number: int) -> str:
    return "1 cell" if number == 1 else f"{number} cells"


def _guess_delimiter(text: str) -> str:
    """Return the first of , ; tab | that splits the first rows evenly, else a comma."""
    end, lines = 0, 0
    while lines < _SNIFF and end != -1:
        end, lines = text.find("\n", end + 1), lines + 1
    head = text if end == -1 else text[:end]
    for delimiter in ",;\t|":
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
            reader = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter, quoting=quoting)
            rows = [row for row in reader if row]
            whole = rows if end == -1 else rows[:-1]  # the last may be cut
            widths = {len(row) for row in whole}
            if len(widths) == 1 and widths != {1}:
                return delimiter
    return ","


def _names(
    rows: list[list[str]],
    lines: list[int],
    file: str,
    spec: DataSpec,
    known: Collection[str],
    notes: list[str],
) -> tuple[list[str], bool]:
    """Return the column names, and whether the first row gave them."""
    width = len(rows[0])
    if spec.columns:
        if len(spec.columns) != width:
            raise DataError(
                f"{file}:{lines[0]}: `data.columns` names {len(spec.columns)} columns",
                found=f"{width} cells: {rows[0]!r:.100}",
                mend=f"name {width} columns, in the file's order",
            )
        named = spec.header or [normal(c) for c in rows[0]] == [normal(c) for c in spec.columns]
        return _distinct(spec.columns, file, lines[0]), named
    if spec.header is None:
        named, sure = looks_like_header(rows[: 10 * _SNIFF], known)
    else:
        named, sure = spec.header, True
    if not named:
        if spec.header is None:
            notes.append(f"{file}: has no header (guessed); its columns are called column_1 …")
        return [f"column_{i + 1}" for i in range(width)], False
    names = [cell.strip() or f"column_{i + 1}" for i, cell in enumerate(rows[0])]
    if not sure:
        notes.append(f"{file}: line {lines[0]} taken as header: {', '.join(names)}")
    return _distinct(names, file, lines[0]), True


def _distinct(names: list[str], file: str, line: int) -> list[str]:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(
            f"{file}:{line}: two columns are named {twice[0]!r}",
            found=f"columns: {', '.join(names)}",
            mend="rename one; if the first line is data, say so: `data: {header: false}`",
        )
    return names


@contextmanager
def _cells_of_any_size() -> Iterator[None]:
    """Lift the csv module's limit of 131,072 characters a cell, and put it back."""
    limit = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(limit)
