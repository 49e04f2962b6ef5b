"""Which column is which field: as the user says, else by name, else by content; always said.

Why:        each file of one run is guessed on its own, since the files of one data set often
            differ (SST-2: `sentence` in train, `content` in dev).
Order:      a column that the user names must be there. Otherwise, for a model that is trained
            already, a field takes the column that training read, where the table has it; else the
            first of its own guesses that the table has. Only a table without such a name is
            looked into: a name that is one of them but for a letter goes first; then the label is
            the column of fewest values, the text that of the longest.
Invariants: no column serves two fields unless the user says so; where two columns would do, the
            note names both.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol

from lightune.data.header import COMMON, normal
from lightune.data.kinds import LEARNT, WHOLE
from lightune.data.table import Table
from lightune.errors import DataError, nearest

Mapped = Mapping[str, str | list[str] | None]
"""Field name -> the column or columns the user named; None where it is to be guessed."""

_LOOK = 2000
"""Rows that a guess by content looks at."""


class FieldLike(Protocol):
    """What this folder knows of a task's field (see `tasks/base.py`)."""

    @property
    def name(self) -> str: ...
    @property
    def guesses(self) -> tuple[str, ...]: ...
    @property
    def kind(self) -> str: ...
    @property
    def needed_to_train(self) -> bool: ...
    @property
    def needed_to_predict(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Trained:
    """What training says of files that come after it.

    Attributes:
        columns: what it read, by field; taken where a file has them, else guessed anew.
        needed: fields that the model cannot do without, whatever the field itself says.
    """

    columns: Mapped
    needed: Collection[str] = ()


UNTRAINED = Trained({})


class ColumnError(DataError):
    """A column that a field needs is absent.

    Args:
        field: the field's name, for who has another way to name its column.
        column: one that may be meant.
    """

    def __init__(
        self, problem: str, found: str = "", mend: str = "", field: str = "", column: str = "COLUMN"
    ) -> None:
        super().__init__(problem, found, mend)
        self.field = field
        self.column = column


def known_names(
    fields: Sequence[FieldLike], mapped: Mapped, trained: Trained = UNTRAINED
) -> set[str]:
    """Return every name that a header may hold for these fields, as `normal` writes them."""
    guessed = [guess for field in fields for guess in field.guesses]
    said = [name for of in (mapped, trained.columns) for f in fields for name in _named(f, of)]
    return {normal(name) for name in guessed + said}


def choose_columns(
    table: Table,
    fields: Sequence[FieldLike],
    mapped: Mapped,
    need: str,
    trained: Trained = UNTRAINED,
) -> tuple[dict[str, list[str]], list[str]]:
    """Return `{field: its columns}` and notes of what was guessed.

    Args:
        mapped: what the user said.
        need: `train` or `predict`: which fields must be found.
        trained: what an earlier training read.

    Raises:
        ColumnError: a column that the user named, or one for a needed field, is absent.
    """
    chosen: dict[str, list[str]] = {}
    notes: list[str] = []
    by_name: list[str] = []
    by_content: list[str] = []
    for field in fields:
        if columns := _named(field, mapped):
            absent = [column for column in columns if column not in table.columns]
            if not absent:
                chosen[field.name] = columns
            elif field.kind not in LEARNT or _needed(field, need, trained):  # new texts have none
                raise _absent(table, field, absent[0])
    taken = {column for columns in chosen.values() for column in columns}
    gone = _as_trained(table, fields, mapped, trained, chosen, taken)
    for field in fields:
        if field.name not in chosen and not _named(field, mapped):
            fits = _by_name(table, field, taken)
            if fits:
                chosen[field.name] = fits[:1]
                taken.add(fits[0])
                by_name.append(f"{field.name} = column {fits[0]!r}{_but(field, fits, gone)}")
    if by_name:
        notes.append(f"{table.file}: {', '.join(by_name)}")
    # The label first: a column of few values is surer to tell than the longest.
    for field in sorted(fields, key=lambda field: field.kind != "label"):
        if field.name in chosen or not _needed(field, need, trained):
            continue
        if field.kind == "text" and any(f.kind in WHOLE and f.name in chosen for f in fields):
            continue  # a conversation holds its texts, a list of words its text
        fits = _by_content(table, field, taken, need)
        if not fits and field.name in gone:
            raise _absent(table, field, gone[field.name][0])
        if not fits:
            raise _unknown(table, field)
        chosen[field.name] = fits[:1]
        taken.add(fits[0])
        by_content.append(f"{field.name} = {fits[0]!r}{_but(field, fits, gone)}")
    if by_content:
        notes.append(f"{table.file}: columns guessed from what they hold: {', '.join(by_content)}")
    for field in fields:
        if len(columns := chosen.get(field.name, [])) > 1:
            how = "those of them that hold" if field.kind == "label" else "joined by a line break"
            notes.append(f"{table.file}: {field.name} = {' + '.join(columns)}, {how}")
    return chosen, notes


def _named(field: FieldLike, mapped: Mapped) -> list[str]:
    said = mapped.get(field.name)
    return [said] if isinstance(said, str) else list(said or ())


def _as_trained(
    table: Table,
    fields: Sequence[FieldLike],
    mapped: Mapped,
    trained: Trained,
    chosen: dict[str, list[str]],
    taken: set[str],
) -> dict[str, list[str]]:
    """Add to `chosen` and `taken` what training read and the table has; return what it lacks.

    Columns of a table without header are numbers, which say nothing of another table.
    """
    gone = {}
    for field in fields:
        before = _named(field, trained.columns)
        if not before or _named(field, mapped) or not table.named:
            continue
        if all(name in table.columns and name not in taken for name in before):
            chosen[field.name] = before
            taken.update(before)
        else:
            gone[field.name] = before
    return gone


def _needed(field: FieldLike, need: str, trained: Trained) -> bool:
    if field.name in trained.needed:
        return True
    return field.needed_to_train if need == "train" else field.needed_to_predict


def _but(field: FieldLike, fits: Sequence[str], gone: Mapping[str, Sequence[str]]) -> str:
    """Return what else is to be said of a guess, in brackets."""
    said = [f"training read {' + '.join(gone[field.name])!r}"] if field.name in gone else []
    if fits[1:]:
        said += [
            f"also possible: {', '.join(fits[1:])}; `{field.name}: COLUMN` under `task` decides"
        ]
    return f" ({'; '.join(said)})" if said else ""


def _by_name(table: Table, field: FieldLike, taken: Collection[str]) -> list[str]:
    names = {normal(name): name for name in reversed(table.columns) if name not in taken}
    return list(dict.fromkeys(names[normal(g)] for g in field.guesses if normal(g) in names))


def _by_content(table: Table, field: FieldLike, taken: Collection[str], need: str) -> list[str]:
    """Return the columns that may hold `field`, best first; the others only where about as good."""
    if field.kind not in ("text", "label"):
        return []
    if table.named and need == "predict" and len(table.columns) > 1:
        return []  # the wrong column would be predicted on in silence by whoever skips notes
    free = {
        name: cells[:_LOOK]
        for name, cells in table.columns.items()
        if name not in taken and normal(name) not in COMMON
    }
    guesses = [normal(guess) for guess in field.guesses]
    misspelt = {
        name: cells
        for name, cells in free.items()
        if get_close_matches(normal(name), guesses, n=1, cutoff=0.85)
    }
    for those in (misspelt, free):
        fits = _label_like(those, table.named) if field.kind == "label" else _text_like(those)
        if fits:
            break
    return fits


def _label_like(free: Mapping[str, Sequence[Any]], named: bool) -> list[str]:
    ranks: dict[str, tuple[int, int]] = {}
    for name, cells in free.items():
        words = {str(cell).strip() for cell in cells if cell is not None}
        most = min(200, len(cells) // 2)
        if not named:  # a file of a few lines without header: the first column will be it
            most = max(2, most)
        if not words or len(words) > most or any(len(word) > 60 for word in words):
            continue
        if len(words) == 1 and len(free) > 2:
            continue  # a constant column, beside others: not what is to be learnt
        ranks[name] = (int("" in words), len(words))
    best = sorted(ranks, key=lambda name: ranks[name])
    return [name for name in best if ranks[name] == ranks[best[0]]]


def _text_like(free: Mapping[str, Sequence[Any]]) -> list[str]:
    lengths: dict[str, float] = {}
    for name, cells in free.items():
        texts = [cell for cell in cells if isinstance(cell, str)]
        if any(any(c.isalpha() for c in text) for text in texts):
            lengths[name] = sum(map(len, texts)) / len(texts)
    best = sorted(lengths, key=lambda name: -lengths[name])
    return [name for name in best if lengths[name] > lengths[best[0]] / 4]


def _absent(table: Table, field: FieldLike, column: str) -> ColumnError:
    names = list(table.columns)
    near = nearest(column, names)
    if near:
        mend = f"did you mean `{field.name}: {near}`?"
    elif not table.named:
        mend = f"`{field.name}: {names[-1]}`, or name them: `data: {{columns: [{field.name}, …]}}`"
    else:
        mend = f"`{field.name}: COLUMN` with one of these, or leave it out to have it guessed"
    header = "" if table.named else " (it has no header)"
    return ColumnError(
        f"{table.file}: there is no column {column!r} for `{field.name}`",
        found=f"columns{header}: {', '.join(names)}",
        mend=mend,
        field=field.name,
        column=near or "COLUMN",
    )


def _unknown(table: Table, field: FieldLike) -> ColumnError:
    names = list(table.columns)
    usual = {name: cells for name, cells in table.columns.items() if normal(name) not in COMMON}
    likely = _text_like(usual) if field.kind == "text" else list(usual)[::-1]
    header = "" if table.named else " (it has no header)"
    return ColumnError(
        f"{table.file}: no column is recognised as `{field.name}`",
        found=f"columns{header}: {', '.join(names)}",
        mend=f"name it under `task`: `{field.name}: {(likely or names)[0]}`   "
        f"(recognised: {', '.join(field.guesses[:6])})",
        field=field.name,
        column=likely[0] if likely and field.kind == "text" else "COLUMN",
    )
