"""A file of one word a line -> sentences with their tags, as the CoNLL shared tasks wrote them.

    EU      B-ORG        the first cell is the word, the last its tag, what stands between is not
    rejects O            read; an empty line ends a sentence

Cells are parted by tabs, in a file without tabs by blanks; the wide blank of Chinese text and
other kinds are letters like any other, of which a word may be made. A file whose lines have one
cell has words alone, to be tagged.

Invariants: every line that is no comment is a word of some sentence. Left out, and counted, are
            `-DOCSTART-` lines and comments, which begin a sentence with `# ` and hold another
            number of cells than its words, or `name = value`.
Errors:     `DataError` for a line with another number of cells, naming it.
"""

import re
from collections import Counter

from lightune.data.table import Table
from lightune.errors import DataError

WORDS, TAGS = "tokens", "tags"
_BEGINS_DOCUMENT = "-DOCSTART-"
_BREAK = re.compile(r"\r\n|\r|\n")
_BLANKS = re.compile(" +")


def read_conll(text: str, file: str) -> Table:
    """Return one row per sentence, with its words and, where the file has any, its tags.

    Raises:
        DataError: a line has another number of cells than the others, or there is no word.
    """
    lines = _BREAK.split(text)
    tabs = any("\t" in line for line in lines)
    cells = [
        [] if not line.strip() else line.split("\t") if tabs else _BLANKS.split(line.strip(" "))
        for line in lines
    ]
    widths = Counter(len(row) for row in cells if row and not row[0].startswith("#"))
    width = max(widths, key=lambda size: (widths[size], size)) if widths else 0
    sentences: list[list[list[str]]] = []
    starts: list[int] = []
    inside, left_out = False, Counter[str]()
    for number, row in enumerate(cells, start=1):
        if not row:
            inside = False
        elif row[0].strip() == _BEGINS_DOCUMENT:
            inside = False
            left_out[f"{_BEGINS_DOCUMENT} lines"] += 1
        elif not inside and _is_comment(lines[number - 1], row, width):
            left_out["comments"] += 1
        elif len(row) != width or not all((row[0], row[-1].strip())):
            raise _ragged(file, number, lines[number - 1], len(row), width)
        else:
            if not inside:
                sentences.append([])
                starts.append(number)
            sentences[-1].append(row)
            inside = True
    if not sentences:
        raise DataError(f"{file}: the file holds no words", mend="one word and its tag a line")
    notes = [f"{file}: {len(sentences)} sentences, parted by empty lines"]
    if width > 2:
        notes[0] += f"; of {width} cells a line the first and the last are read"
    notes += [f"{file}: {what} left out: {count}" for what, count in left_out.items()]
    columns: dict[str, list[list[str]]] = {WORDS: [[row[0] for row in rows] for rows in sentences]}
    if width > 1:
        columns[TAGS] = [[row[-1].strip() for row in rows] for rows in sentences]
    return Table(file, dict(columns), starts, notes=notes)


def looks_like_conll(text: str) -> bool:
    """Return whether empty lines part what else might be a table of tab-separated cells."""
    return bool(re.search(r"\S[^\S\n]*\n[^\S\n]*\n\s*\S", text))


def _is_comment(line: str, row: list[str], width: int) -> bool:
    return line.startswith("#") and (len(row) != width or "=" in line)


def _ragged(file: str, number: int, line: str, cells: int, width: int) -> DataError:
    return DataError(
        f"{file}:{number}: the line has another number of cells than the others",
        found=f"{cells} where {width} were expected: {line!r:.80}"
        if cells != width
        else f"an empty cell: {line!r:.80}",
        mend="write a word and its tag on each line, parted by a tab or a blank as in the others, "
        "and an empty line between sentences",
    )
