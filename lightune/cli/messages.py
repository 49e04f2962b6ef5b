"""How an error reads: `problem / found / mend` as text and as JSON, whatever raised it.

Why:        a user meets one grammar, whether the mistake is in a recipe, a data file, the command
            line itself, or the disk is full.
Invariants: no control characters of a data file reach the terminal; a `found` of a megabyte is cut.
Not here:   exit statuses (`main.py`).
"""

import errno
import os
import sys
from collections.abc import Sequence
from typing import Any

import typer

from lightune.errors import ConfigError, ConfigErrors, LightuneError, ResourceError, nearest

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""What typer raises for a wrong command line. Old typer takes it from the package click, new
typer from a copy it carries: its place above `BadParameter` is the same in both."""

LONGEST = 1500
"""Characters of one part of a message; more is cut, and marked so."""


def error_text(error: LightuneError, stopped: bool = False) -> str:
    """Return the whole message for the terminal; several mistakes are set apart by a blank line."""
    mistakes = error.mistakes if isinstance(error, ConfigErrors) else (error,)
    return "\n\n".join(_one(mistake, "stopped" if stopped else "error") for mistake in mistakes)


def error_json(error: LightuneError) -> dict[str, Any]:
    """Return `{"error": {"problem", "found", "mend"}}`, with `mistakes` where there are several."""
    parts: dict[str, Any] = _parts(error)
    if isinstance(error, ConfigErrors):
        parts["mistakes"] = [_parts(mistake) for mistake in error.mistakes]
    return {"error": parts}


def of_unknown_command(name: str, parent: str, known: Sequence[str]) -> LightuneError:
    """Return the error for `lightune trian`."""
    near = nearest(name, known)
    return ConfigError(
        f"there is no command `{parent} {name}`",
        found=f"commands: {', '.join(known)}",
        mend=f"did you mean `{parent} {near}`?" if near else f"{parent} --help",
    )


def of_usage(error: Any, words: Sequence[str]) -> LightuneError:
    """Return what typer says of a wrong command line in our own grammar.

    Args:
        error: typer's or click's `UsageError`.
        words: the command line after `lightune`.
    """
    context = error.ctx
    path = context.command_path if context else " ".join(["lightune", *words[:1]])
    mend = f"see `{path} --help`"
    wrong = getattr(error, "option_name", None)  # only click's errors about options have it
    if context and wrong:
        options = [name for param in context.command.params for name in param.opts]
        near = nearest(wrong, options)
        if near and near != wrong:
            mend = f"did you mean `{near}`? Or {mend}"
    problem = (error.message if wrong else error.format_message()).rstrip(".")
    return ConfigError(f"{path}: {problem}", found=" ".join(["lightune", *words]), mend=mend)


def of_environment(error: BaseException) -> LightuneError | None:
    """Return the mend where the machine, not our code, is at fault; None for anything else."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return ResourceError(
            "the machine ran out of memory",
            found=str(error).partition("\n")[0],
            mend="a smaller batch or shorter texts: -s train.batch_size=4 -s train.max_length=64",
        )
    number = getattr(error, "errno", None)
    if number is None and f"os error {errno.ENOSPC}" in str(error):  # safetensors, in Rust
        number = errno.ENOSPC
    mend = {
        errno.ENOSPC: "free some space, or write elsewhere: --out DIR on another disk",
        errno.EDQUOT: "your disk quota is used up: delete something, or use another --out DIR",
        errno.EROFS: "this disk is read-only: use another --out DIR",
        errno.EACCES: "change the permissions of this path, or use another",
        errno.EPERM: "change the permissions of this path, or use another",
        errno.EMFILE: "raise the limit of open files: ulimit -n 4096",
        errno.ENAMETOOLONG: "use a shorter name",
        errno.EIO: "the disk reports damage: write elsewhere, and check it",
    }.get(number or 0)
    if mend is None:
        return None
    where = getattr(error, "filename", None)
    return ResourceError(
        f"{where or 'a file'}: {os.strerror(number or 0)}", found=str(error), mend=mend
    )


def of_bug(error: BaseException) -> LightuneError:
    """Return a request for a report, for an exception that should not have happened."""
    return LightuneError(
        "this is a bug of Lightune, not your mistake",
        found=f"{type(error).__name__}: {error}",
        mend="run it again with LIGHTUNE_DEBUG=1, and report the traceback with your command",
    )


def _parts(error: LightuneError) -> dict[str, str]:
    return {"problem": error.problem, "found": error.found, "mend": error.mend}


def _one(error: LightuneError, word: str) -> str:
    lines = [f"{word}: {_printable(error.problem)}"]
    if error.found:
        lines.append(f"  found: {_printable(error.found)}")
    if error.mend:
        lines.append(f"  mend:  {_printable(error.mend)}")
    return "\n".join(lines)


def _printable(text: str) -> str:
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]} … ({len(text) - LONGEST} more characters)"
    shown = "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
    return "\n         ".join(line.strip() for line in shown.splitlines())
