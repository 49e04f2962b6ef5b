"""`warnings.json`: what a training warned of, and what was looked at. No torch.

    {"format", "checked": [check, …], "warnings": [{"check", "problem", "found", "mend", "step"}]}

Why:        a warning that scrolled by is no warning. So each is said once, counted in the summary
            and kept with the run; that a check is listed and has no warning says that it was done.
Invariants: a check warns of one thing once in a run, however often it is seen. `step` is null
            where the warning came before the first step; a resumed run looks at that anew.
Errors:     none of its own; what stops a run is an error and never comes here.
Not here:   the checks (`lightune/preflight.py`, `train/learning.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lightune.errors import RunError
from lightune.runs.files import write_json

WARNINGS = "warnings.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Warned:
    """One thing that is odd, though it may be meant.

    Attributes:
        check: which check saw it, a word for programs.
        problem, found, mend: as those of an error (`lightune/errors.py`).
        step: optimiser steps done then; None before the first.
    """

    check: str
    problem: str
    found: str
    mend: str
    step: int | None = None

    def __str__(self) -> str:
        return f"warning: {self.problem} ({self.found}); {self.mend}"


class Warnings:
    """The warnings of one training.

    Args:
        note: told each, once.
        before: of the same run before it was resumed; not told again.
    """

    def __init__(self, note: Callable[[str], None], before: Iterable[Warned] = ()) -> None:
        self.items = [item for item in before if item.step is not None]
        self.checked: list[str] = []
        self._note = note
        self._folder: Path | None = None

    def look(self, check: str, *found: Warned | None, step: int | None = None) -> None:
        """Say that `check` was done, and what it found; None stands for nothing.

        Args:
            step: optimiser steps done; None before the first.
        """
        if check not in self.checked:
            self.checked.append(check)
        for warned in filter(None, found):
            known = {(item.check, item.problem) for item in self.items}
            if (warned.check, warned.problem) not in known:
                self.items.append(replace(warned, step=step))
                self._note(str(warned))
                if self._folder:
                    with suppress(OSError):  # a warning may be of the full disk
                        self.write(self._folder)

    def keep_in(self, folder: Path) -> None:
        """Write `warnings.json` into a run folder, and again with each new warning.

        Raises:
            ResourceError: the disk is full.
        """
        self._folder = folder
        self.write(folder)

    def write(self, folder: Path) -> None:
        """Write `warnings.json`.

        Raises:
            ResourceError: the disk is full.
        """
        items = [asdict(item) for item in self.items]
        checked = {"format": FORMAT, "checked": self.checked, "warnings": items}
        write_json(folder / WARNINGS, checked)


def read_warnings(folder: Path) -> list[Warned]:
    """Return a run's warnings; none where it has no such file.

    Raises:
        RunError: the file is damaged.
    """
    path = folder / WARNINGS
    try:
        content: Any = json.loads(path.read_bytes())
        return [Warned(**item) for item in content["warnings"]]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise RunError(
            f"{path} is damaged",
            found=f"{type(error).__name__}: {error}"[:200],
            mend="copy it again from where it came, or delete it",
        ) from None


def as_rows(found: Iterable[Warned]) -> list[dict[str, Any]]:
    """Return warnings as `train --json` prints them."""
    return [asdict(item) for item in found]
