"""Entry point: the only place where an error becomes text and an exit status.

Exit status: 0 success; 2 a user's mistake; 75 stopped by a signal after saving; 130 interrupted
             with nothing saved; 1 a bug of ours.
Invariants:  importing this file loads neither torch nor transformers, so that `--help` is fast;
             with `--json` standard output gets exactly one JSON object, also when things fail.
Not here:    the wording of errors (`messages.py`), tables and JSON (`output.py`).
"""

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from lightune import __version__
from lightune.cli import (
    adapters,
    chat,
    compare,
    data,
    doctor,
    evaluate,
    init,
    methods,
    models,
    predict,
    tasks,
    train,
    verify,
)
from lightune.cli.messages import (
    UsageError,
    error_json,
    error_text,
    of_bug,
    of_environment,
    of_unknown_command,
    of_usage,
)
from lightune.cli.output import write_json
from lightune.errors import LightuneError, Stopped

OK, BUG, MISTAKE, STOPPED, INTERRUPTED = 0, 1, 2, 75, 130


class Commands(TyperGroup):
    """A group of commands that answers a misspelt one with the nearest name."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is None:
            raise of_unknown_command(cmd_name, ctx.command_path, list(self.commands))
        return command


app = typer.Typer(
    cls=Commands,
    name="lightune",
    add_completion=False,
    invoke_without_command=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lightune {__version__}")
        raise typer.Exit


@app.callback()
def lightune(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    """Lightweight fine-tuning of language models, from a data file to a deployed adapter.

    \b
    Example:
        lightune train --task classification --data reviews.csv --out runs/mine
        lightune evaluate runs/mine test.csv
        lightune predict runs/mine --text "a charming film"
    """
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


app.command()(init.init)
app.command()(train.train)
app.command()(compare.compare)
app.command()(evaluate.evaluate)
app.command()(predict.predict)
app.command()(verify.verify)
app.command()(chat.chat)
for listing in (methods, tasks, models, adapters):
    app.add_typer(listing.app, cls=Commands)
app.add_typer(data.app, cls=Commands)
app.command()(doctor.doctor)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    Args:
        argv: the words after `lightune`; those of the process when None.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a latin-1 terminal shows escapes, not a crash
            stream.reconfigure(errors="backslashreplace")
    try:
        with get_command(app).make_context("lightune", list(words)) as context:
            context.command.invoke(context)
        sys.stdout.flush()
        return OK
    except typer.Exit as stop:
        return stop.exit_code
    except BrokenPipeError:
        return _silence()
    except (KeyboardInterrupt, typer.Abort):
        return _report(Stopped("interrupted at once; what was saved is whole"), words, INTERRUPTED)
    except Stopped as error:
        return _report(error, words, STOPPED)
    except LightuneError as error:
        return _report(error, words, MISTAKE)
    except UsageError as error:
        return _report(of_usage(error, words), words, MISTAKE)
    except Exception as error:  # the boundary: whatever else escapes is a bug, or the machine's
        if os.environ.get("LIGHTUNE_DEBUG") == "1":
            raise
        known = of_environment(error)
        return _report(known, words, MISTAKE) if known else _report(of_bug(error), words, BUG)


def _report(error: LightuneError, words: list[str], status: int) -> int:
    try:
        print(error_text(error, stopped=status in (STOPPED, INTERRUPTED)), file=sys.stderr)
        if "--json" in words:
            write_json(error_json(error))
    except BrokenPipeError:
        _silence()
    return status


def _silence() -> int:
    """The reader of our output (`| head`) has gone: say nothing more, also not at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OK


if __name__ == "__main__":
    sys.exit(main())
