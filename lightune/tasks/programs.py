"""A row with a programming problem -> what the model is asked, and the program that is run.

    MBPP        text, code, test_list, test_setup_code     a problem in words, its tests as lines
    HumanEval   prompt, canonical_solution, test,          the beginning of a program, which is
                entry_point                                gone on with; `check(entry_point)` tests

Any other row is read as the first, under whatever names its columns have. A row with an entry
point is of the second form.

Invariants: what is run is what was written: fences around it are taken off, and of what goes on
            behind HumanEval's function nothing is kept.
Not here:   running (`sandbox.py`), learning and scoring (`code_generation.py`).
"""

import json
import re
from typing import Any

from lightune.errors import DataError
from lightune.types import Record

BEHIND = ("\nclass ", "\ndef ", "\n#", "\n@", "\nif ", "\nprint", "\n```")
"""Where a function has ended that is gone on with (Chen et al. 2021, section 3.1)."""

_FENCED = re.compile(r"```[\w+]*[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)


def entry_point(record: Record) -> str | None:
    """Return the function that a HumanEval row asks for; None for rows of other forms.

    Raises:
        DataError: it is no name.
    """
    name = record.values.get("entry_point")
    if name is None or name == "":
        return None
    if not isinstance(name, str) or not name.isidentifier():
        raise DataError(
            f"{record.place}: the entry point is not the name of a function",
            found=f"{name!r:.60}",
            mend="write the name that the tests call",
        )
    return name


def tests_of(record: Record) -> list[str]:
    """Return a row's tests, lines of a program that fails where they do; none if it has none.

    Raises:
        DataError: they are something else.
    """
    cell: Any = record.values.get("tests")
    if cell is None or cell != cell:
        return []
    if isinstance(cell, str) and cell.lstrip()[:1] == "[":
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):  # a test that begins with a bracket, or very many
            cell = [cell]
    lines = [cell] if isinstance(cell, str) else cell
    if not isinstance(lines, list | tuple) or not all(isinstance(line, str) for line in lines):
        raise DataError(
            f"{record.place}: the tests are neither a text nor a list of texts",
            found=f"{cell!r:.80}",
            mend='a list such as ["assert add(1, 2) == 3"]',
        )
    return [plain(line) for line in lines if line.strip()]


def answer_of(record: Record) -> str | None:
    """Return the expected program, None where the row has none."""
    text = str(record.values.get("answer") or "")
    return plain(text).rstrip() if text.strip() else None


def question_of(record: Record, shown: int) -> str:
    """Return what the model is asked in words: the problem, and some of its tests.

    Args:
        shown: how many tests.
    """
    problem = plain(str(record.values.get("prompt") or "")).strip()
    lines = tests_of(record)[:shown]
    return problem + ("\nYour code should pass these tests:\n" + "\n".join(lines) if lines else "")


def read_program(written: str) -> str:
    """Return the program in an answer: what is fenced, if anything is, else all of it."""
    fenced = _FENCED.search(written)
    return (fenced[1] if fenced else written).rstrip()


def whole_program(record: Record, written: str) -> str:
    """Return the program that shows whether `written` passes the tests of a row."""
    setup, tests = record.values.get("setup"), "\n".join(tests_of(record))
    before = "\n".join(setup) if isinstance(setup, list | tuple) else str(setup or "")
    name = entry_point(record)
    if name is None:
        return "\n".join([plain(before), plain(written), tests, ""])
    prompt = plain(str(record.values["prompt"]))
    written = plain(written)
    if re.search(rf"^(?:async )?def {name}\b", written, re.MULTILINE):
        prompt = prompt.rstrip("\n")
        body = f"\n    pass\n\n{written}"  # the whole function anew
    else:
        places = [at for word in BEHIND if (at := written.find(word)) >= 0]
        body = written[: min(places)] if places else written
    return "\n".join([plain(before), prompt + body, tests, f"check({name})", ""])


def plain(text: str) -> str:
    """Return a text with line breaks as Python writes them."""
    return text.replace("\r\n", "\n").replace("\r", "\n")
