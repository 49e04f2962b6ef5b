"""SQuAD's nested JSON -> a flat table, one row for each question.

    {"data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question", "answers"}]}]}]}

The columns are `id`, `title`, `context`, `question` and `answers`. A question that is marked
`is_impossible` has an empty list of answers, whatever plausible ones stand beside it; one of which
nothing is said has None. Such files are mostly one long line, so a row's line is the number of its
question in the file, and the table says so.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from lightune.data.table import Table
from lightune.errors import DataError

COLUMNS = ("id", "title", "context", "question", "answers")


def is_nested(table: Table) -> bool:
    """Return whether these rows are articles with paragraphs that have questions."""
    paragraphs = table.columns.get("paragraphs")
    return bool(paragraphs) and all(isinstance(cell, list) for cell in paragraphs or ())


def flatten(table: Table) -> Table:
    """Return the questions of nested rows.

    Raises:
        DataError: a part has another form than SQuAD's, or there is no question.
    """
    rows = list(_questions(table))
    if not rows:
        raise DataError(f"{table.file}: has no questions", "only empty `qas`", "add questions")
    columns = {name: [row.get(name) for row in rows] for name in COLUMNS}
    said = f"{table.file}: {len(rows)} questions of SQuAD's form; their lines are counted from 1"
    return Table(table.file, columns, range(1, len(rows) + 1), notes=[*table.notes, said])


def _questions(table: Table) -> Iterator[dict[str, Any]]:
    titles = table.columns.get("title", [None] * len(table))
    for row, (title, paragraphs) in enumerate(
        zip(titles, table.columns["paragraphs"], strict=True)
    ):
        for at, paragraph in enumerate(paragraphs):
            where = f"{table.place(row)}: paragraphs[{at}]"
            context = _part(paragraph, "context", str, where)
            for number, question in enumerate(_part(paragraph, "qas", list, where)):
                here = f"{where}.qas[{number}]"
                yield {
                    "id": question.get("id") if isinstance(question, Mapping) else None,
                    "title": title,
                    "context": context,
                    "question": _part(question, "question", str, here),
                    "answers": [] if question.get("is_impossible") else question.get("answers"),
                }


def _part(holder: Any, name: str, kind: type, where: str) -> Any:
    value = holder.get(name) if isinstance(holder, Mapping) else None
    if not isinstance(value, kind):
        found = sorted(holder) if isinstance(holder, Mapping) else holder
        raise DataError(
            f"{where}: `{name}` is missing, or is no {'text' if kind is str else 'list'}",
            found=f"{found!r:.80}",
            mend='write it as SQuAD does: {"context": "…", "qas": [{"question": "…", "answers": '
            '[{"text": "…", "answer_start": 0}]}]}',
        )
    return value
