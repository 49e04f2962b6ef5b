"""A plain text file -> its documents: paragraphs, parted by lines without words.

Why: a text has no columns and no quoting; what parts its documents is what parts them for a reader.
A file with no empty line is one document.
"""

from lightune.data.table import Table
from lightune.errors import DataError

COLUMN = "text"


def read_paragraphs(text: str, file: str) -> Table:
    """Return one row per paragraph, its line breaks kept.

    Raises:
        DataError: the file holds no text.
    """
    documents: list[str] = []
    starts: list[int] = []
    inside = False
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            inside = False
        elif inside:
            documents[-1] += f"\n{line}"
        else:
            documents.append(line)
            starts.append(number)
            inside = True
    if not documents:
        raise DataError(f"{file}: the file holds no text", mend="name a file with text")
    note = f"{file}: {len(documents)} documents, parted by empty lines"
    return Table(file, {COLUMN: documents}, starts, notes=[note])
