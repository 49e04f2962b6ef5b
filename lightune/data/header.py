"""Does the first row of a delimited file name the columns, or is it data already?

Why:     half of the data sets people share have no header; taking one for the other loses a row
         or invents columns. The guess is said in the notes and overruled by `data.header`.
"""

import re
from collections.abc import Collection, Sequence

COMMON = {"id", "idx", "index", "guid", "qid", "split", "source", "language", "lang", "date"}
"""Names of columns that are neither text nor label."""
_NAME = re.compile(r"[\w#][\w #.:/()\[\]-]{0,39}")
_NUMBER = re.compile(r"[+-]?[\d.,]+(?:e[+-]?\d+)?%?", re.IGNORECASE)


def normal(name: object) -> str:
    """Return a column's name as names are compared: `Sentence-1 ` and `sentence_1` are one."""
    return re.sub(r"[\s_-]+", "_", str(name).strip().casefold())


def looks_like_header(rows: Sequence[Sequence[str]], known: Collection[str]) -> tuple[bool, bool]:
    """Return `(first row is a header, this is sure)`.

    Args:
        rows: the first rows of the file, the first of them in question.
        known: names that a column may have, as `normal` writes them.
    """
    first, rest = rows[0], rows[1:]
    names = [normal(cell) for cell in first]
    recurs = False
    for i, cell in enumerate(first):
        below = [row[i].strip() for row in rest]
        if cell.strip() and cell.strip() in below:
            recurs = True
            if len(set(below)) <= len(below) // 2:
                return False, True  # the first of a column's few values: data
    if any(name in known or name in COMMON for name in names):
        return True, True
    if recurs:
        return False, True
    filled = [i for i, name in enumerate(names) if name]
    if any(_NUMBER.fullmatch(first[i].strip()) for i in filled):
        return False, True
    if len(filled) == 1 or not rest or len({names[i] for i in filled}) < len(filled):
        return False, True
    # A nameless column is the index of a frame, or cells that nobody filled.
    if any(not names[i] and not _is_number_column(rest, i) for i in range(len(first))):
        return False, True
    if any(_is_number_column(rest, i) and any(row[i] for row in rest) for i in filled):
        return True, True  # words above numbers
    if all(_NAME.fullmatch(first[i].strip()) and len(first[i].split()) <= 3 for i in filled):
        return True, False
    return False, True


def _is_number_column(rows: Sequence[Sequence[str]], column: int) -> bool:
    return all(_NUMBER.fullmatch(row[column].strip() or "0") for row in rows)
