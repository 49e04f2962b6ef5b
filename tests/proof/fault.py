"""What a fault is, and the list of those that are planted.

To add one, write a function that plants it and returns the outcome, marked with where it must be
caught and the words that must be said, in `planted_trainings.py` or `planted_runs.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ground import Ground, Outcome

from lightune.errors import LightuneError


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        name: what is wrong.
        where: the outcome's word; `load`, `verify`, `resume` and `merge` are refusals of these.
        words: all are said.
        plant: makes it, and returns the outcome.
    """

    name: str
    where: str
    words: tuple[str, ...]
    plant: Callable[[Ground], Outcome]


FAULTS: list[Fault] = []


def fault(name: str, where: str, *words: str) -> Callable[[Any], Any]:
    def add(plant: Callable[[Ground], Outcome]) -> Callable[[Ground], Outcome]:
        FAULTS.append(Fault(name, where, words, plant))
        return plant

    return add


def refused(where: str, work: Callable[[], Any]) -> Outcome:
    """Return the error of `work` as an outcome."""
    try:
        work()
    except LightuneError as error:
        return [(where, str(error))]
    return []
