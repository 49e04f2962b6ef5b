"""JSON and JSON lines -> table, with the physical line on which every row starts.

Why:        `json.load` forgets positions, and a message without a line is no help in a file of
            100,000 rows. So the outer array is walked here and each row decoded by the C scanner.
Accepts:    an array of objects; an object with one array of objects in it (`{"data": [...]}`);
            one object per line, also in a file that ends in `.json`.
"""

import json
import re
from typing import Any

from lightune.data.table import Table, from_objects
from lightune.errors import DataError

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


class _Cursor:
    """A position in a JSON text that only moves on, and the line it is on."""

    def __init__(self, text: str, file: str) -> None:
        self.text, self.file, self.at = text, file, 0
        self._counted, self._line = 0, 1

    def line(self, at: int) -> int:
        if at < self._counted:  # an error may point back
            return self.text.count("\n", 0, at) + 1
        self._line += self.text.count("\n", self._counted, at)
        self._counted = at
        return self._line

    def peek(self) -> str:
        """Skip blanks and return the next character, empty at the end."""
        blanks = _SPACE.match(self.text, self.at)
        self.at = blanks.end() if blanks else self.at
        return self.text[self.at : self.at + 1]

    def value(self) -> Any:
        """Decode the value here and move behind it.

        Raises:
            DataError: a syntax error, too deep a nesting, or too long a number.
        """
        try:
            value, self.at = _DECODER.raw_decode(self.text, self.at)
        except json.JSONDecodeError as error:
            raise self.error(error.msg, error.pos) from None
        except RecursionError:
            raise self.error("brackets nested too deep", self.at) from None
        except ValueError as error:  # an integer of thousands of digits
            raise self.error(str(error), self.at) from None
        return value

    def expect(self, character: str) -> None:
        if self.peek() != character:
            raise self.error(f"expected {character!r}", self.at)
        self.at += 1

    def error(self, problem: str, at: int) -> DataError:
        near = self.text[at : at + 40].splitlines()[:1]
        return DataError(
            f"{self.file}:{self.line(at)}: is not valid JSON",
            found=f"{problem}, at {near[0]!r}" if near else f"{problem}, at the end of the file",
            mend="mend that line; for one object per line: `data: {format: jsonl}`",
        )


def read_json(text: str, file: str, sure: bool) -> Table:
    """Return the rows of a JSON file.

    Args:
        sure: the recipe said `format: json`, so one object per line is a mistake.

    Raises:
        DataError: a syntax error, or no array of objects.
    """
    cursor = _Cursor(text, file)
    if cursor.peek() == "{":
        found = _inside_object(cursor)
        more = cursor.peek()
        if found is None and more == "{" and not sure:
            table = read_jsonl(text, file)
            table.notes.append(f"{file}: read as JSON lines, one object per line")
            return table
        if more:
            raise cursor.error("more text behind the closing bracket", cursor.at)
        if found is None:
            raise DataError(
                f"{file}: holds one object and no list of rows",
                found=f"{text.strip()[:60]!r}",
                mend='write [{"text": "…", "label": "…"}, …] or {"data": [ … ]}',
            )
    else:
        if cursor.peek() != "[":
            raise cursor.error("neither a list of rows nor an object", cursor.at)
        found = _rows(cursor)
        if cursor.peek():
            raise cursor.error("more text behind the closing bracket", cursor.at)
    objects, lines = found
    return _table(file, objects, lines, text)


def read_jsonl(text: str, file: str) -> Table:
    """Return the rows of a file with one JSON object per line. Blank lines are passed over.

    Raises:
        DataError: a line is not a JSON object.
    """
    objects, lines = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            objects.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            whole = text.lstrip()[:1] == "["
            problem = "brackets nested too deep" if isinstance(error, RecursionError) else error
            raise DataError(
                f"{file}:{number}: is not valid JSON",
                found=f"{problem}, in {line.strip()!r:.60}",
                mend="`data: {format: json}`" if whole else "write one whole object per line",
            ) from None
        lines.append(number)
    return _table(file, objects, lines, text)


def _inside_object(cursor: _Cursor) -> tuple[list[Any], list[int]] | None:
    """Walk an object and return the rows of its one array of objects; None where it has none."""
    found: dict[str, tuple[list[Any], list[int]]] = {}
    cursor.expect("{")
    while cursor.peek() != "}":
        if cursor.peek() != '"':
            raise cursor.error("expected a name in double quotes", cursor.at)
        name = cursor.value()
        cursor.expect(":")
        if cursor.peek() == "[":
            rows, lines = _rows(cursor)
            if rows and all(isinstance(row, dict) for row in rows):
                found[name] = (rows, lines)
        else:
            cursor.value()
        if cursor.peek() != "}":
            cursor.expect(",")
            if cursor.peek() == "}":
                raise cursor.error("a comma before the closing bracket", cursor.at)
    cursor.expect("}")
    if len(found) > 1 and "data" not in found:
        raise DataError(
            f"{cursor.file}: holds several lists of rows",
            found=", ".join(found),
            mend="keep one of them, or call the one to read `data`",
        )
    return found.get("data") or next(iter(found.values()), None)


def _rows(cursor: _Cursor) -> tuple[list[Any], list[int]]:
    rows: list[Any] = []
    lines: list[int] = []
    cursor.expect("[")
    if cursor.peek() == "]":
        cursor.at += 1
        return rows, lines
    while True:
        cursor.peek()
        lines.append(cursor.line(cursor.at))
        rows.append(cursor.value())
        if cursor.peek() == "]":
            cursor.at += 1
            return rows, lines
        cursor.expect(",")


def _table(file: str, objects: list[Any], lines: list[int], text: str) -> Table:
    if not objects:
        raise DataError(f"{file}: has no rows", "an empty list", "give a file with rows")
    if "\\u" in text:
        for value, line in zip(objects, lines, strict=True):
            _refuse_halves(file, line, value)
    return from_objects(file, objects, lines)


def _refuse_halves(file: str, line: int, value: Any) -> None:
    """Refuse half of a surrogate pair (`\\ud83d` alone), which no tokenizer and no UTF-8 takes."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{file}:{line}: half of a character",
            found=f"{error.object[error.start : error.start + 1]!a} without its other half",
            mend="write the character whole, as UTF-8 or as its two escapes, or take it out",
        ) from None
    except RecursionError:
        raise DataError(f"{file}:{line}: brackets nested too deep") from None
