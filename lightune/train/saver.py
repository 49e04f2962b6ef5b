"""When a training saves its state, and how many checkpoints are kept.

Invariants: saving, or how often, changes no result: the state is only read. The last `KEPT`
            checkpoints are there; an older one goes when a newer one is whole, by a rename first,
            so that no half of it is ever taken for one.
Full disk:  training goes on; that a checkpoint could not be written is said, the last good one
            stays, and the next is tried when it is due.
Not here:   the files (`checkpoint.py`), signals (`signals.py`).
"""

import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightune.train.checkpoint import folders, write
from lightune.train.state import LoopState

KEPT = 2
"""Checkpoints on the disk: should the newest be damaged, there is the one before."""


class Saver:
    """Saves a training's state when it is due.

    Args:
        parent: the run's folder of checkpoints.
        every: optimiser steps, `10 min`, or None for never.
        facts: gives what is kept beside the state.
        note: takes sentences for the user.
    """

    def __init__(
        self,
        parent: Path,
        every: int | str | None,
        facts: Callable[[], dict[str, Any]],
        note: Callable[[str], None],
    ) -> None:
        self.parent, self.facts, self.note = parent, facts, note
        self.steps = every if isinstance(every, int) else None
        self.seconds = 60 * minutes(every) if isinstance(every, str) else None
        self._last = time.monotonic()
        self._failed = False
        if parent.is_dir():
            for left in parent.glob(".step-*"):  # of a process that was killed while it wrote
                shutil.rmtree(left, ignore_errors=True)

    def step(self, step: int, state: Callable[..., LoopState]) -> None:
        """Save after `step` where it is due.

        Args:
            state: gives the complete state; `copy=False` leaves the tensors where they are, as
                nothing moves them before the files are written.
        """
        by_steps = self.steps is not None and step % self.steps == 0
        by_time = self.seconds is not None and time.monotonic() - self._last >= self.seconds
        if by_steps or by_time:
            self.save(state(copy=False))

    def save(self, state: LoopState) -> bool:
        """Save now; return whether it could be done."""
        try:
            write(self.parent, state, self.facts())
        except OSError as error:
            if not self._failed:
                kept = [folder.name for folder in folders(self.parent)][-1:]
                self.note(
                    f"no checkpoint at step {state.step}: {error.strerror or error}; the last one "
                    f"is {kept[0] if kept else 'none'}"
                )
            self._failed, done = True, False
        else:
            self._failed, done = False, True
            self._prune()
        self._last = time.monotonic()
        return done

    def _prune(self) -> None:
        with suppress(OSError):  # what cannot be deleted now is deleted after the next save
            for folder in folders(self.parent)[:-KEPT]:
                gone = folder.rename(folder.with_name(f".{folder.name}.gone"))
                shutil.rmtree(gone, ignore_errors=True)


def minutes(text: str) -> float:
    """Return the minutes of `10 min`."""
    found = re.match(r"[\d.]+", text)
    return float(found[0]) if found else 0.0
