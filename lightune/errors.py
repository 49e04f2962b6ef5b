"""Errors a user can act on: each says what is wrong, what was found, and the mend.

One tree under `LightuneError`. They become text and an exit code in one place, `cli/main.py`.
Anything else that escapes is a bug of ours and exits 1.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class LightuneError(Exception):
    """Base of every error this library raises on purpose.

    Args:
        problem: one sentence that names the wrong thing and where it is (file:line, key, path).
        found: the values actually seen.
        mend: the change to make, written so that it can be pasted.

    The three parts are kept as `args`, so the error survives pickling between workers.
    """

    def __init__(self, problem: str, found: str = "", mend: str = "") -> None:
        super().__init__(problem, found, mend)
        self.args = (problem, found, mend)  # OSError would take the third for a file name

    @property
    def problem(self) -> str:
        return str(self.args[0])

    @property
    def found(self) -> str:
        return str(self.args[1])

    @property
    def mend(self) -> str:
        return str(self.args[2])

    def __str__(self) -> str:
        lines = [self.problem]
        if self.found:
            lines.append(f"  found: {self.found}")
        if self.mend:
            lines.append(f"  mend:  {self.mend}")
        return "\n".join(lines)


class ConfigError(LightuneError, ValueError):
    """One key of a recipe, or one setting, is wrong."""


class ConfigErrors(LightuneError, ValueError):
    """The mistakes of one recipe, reported together; a single one reads as itself.

    Args:
        mistakes: at least one error, in the order of the recipe's keys.
    """

    def __init__(self, mistakes: Sequence[LightuneError]) -> None:
        Exception.__init__(self, tuple(mistakes))

    @property
    def mistakes(self) -> tuple[LightuneError, ...]:
        return tuple(self.args[0])

    @property
    def problem(self) -> str:
        several = f"{len(self.mistakes)} mistakes in the recipe"
        return several if len(self.mistakes) > 1 else self.mistakes[0].problem

    @property
    def found(self) -> str:
        if len(self.mistakes) == 1:
            return self.mistakes[0].found
        return "; ".join(mistake.problem for mistake in self.mistakes)

    @property
    def mend(self) -> str:
        return "; ".join(mistake.mend for mistake in self.mistakes)

    def __str__(self) -> str:
        return "\n".join(str(mistake) for mistake in self.mistakes)


class DataError(LightuneError, ValueError):
    """A data file, a column, a row or a split cannot be used as it is."""


class ModelError(LightuneError, ValueError):
    """A base model cannot be found, read, or used for this task."""


class MethodError(LightuneError, ValueError):
    """A method cannot be attached to this model."""


class TargetError(MethodError):
    """A method names layers that the base model does not have."""


class AdapterError(LightuneError, ValueError):
    """An adapter's files are damaged, incomplete, or belong to another base model."""


class RunError(LightuneError, ValueError):
    """A run folder exists already, is incomplete, or is of another kind than asked for."""


class ResourceError(LightuneError, OSError):
    """The machine lacks disk space, memory or a device for what was asked."""


class MissingExtra(LightuneError, ImportError):
    """An optional dependency is not installed. The mend names the extra that brings it."""

    @classmethod
    def of(cls, package: str, extra: str, purpose: str) -> "MissingExtra":
        return cls(
            f"{purpose} needs the package {package!r}, which is not installed",
            found=f"no module named {package!r}",
            mend=f"pip install 'lightune[{extra}]'",
        )


class Stopped(LightuneError):
    """A signal ended a run after its state was saved. Exit code 75."""


def nearest(word: str, names: Iterable[str]) -> str | None:
    """Return the one of `names` that a misspelt `word` most likely stands for, for a mend.

    Capitals, hyphens and underscores make no difference. None where nothing is close: a far guess
    sends its reader further astray than none.
    """
    plain = {_plain(name): name for name in reversed(list(names))}
    near = get_close_matches(_plain(word), plain, n=1, cutoff=0.6)
    return plain[near[0]] if near else None


def nearest_file(name: str, names: Iterable[str]) -> str | None:
    """Return the file that `name` most likely stands for; an ending in common is no likeness."""
    return nearest(name, [other for other in names if nearest(_stem(name), [_stem(other)])])


def _stem(name: str) -> str:
    return name.partition(".")[0] or name


def _plain(name: str) -> str:
    return name.casefold().replace("-", "_")
