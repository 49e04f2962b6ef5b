"""`lightune tasks`: which tasks there are, and one of them in full."""

from typing import Annotated

import typer

from lightune.cli.output import AsJson, output

app = typer.Typer(name="tasks", invoke_without_command=True, rich_markup_mode=None)


@app.callback()
def tasks(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the tasks, or show one in full.

    \b
    Example:
        lightune tasks
        lightune tasks show classification
    """
    if ctx.invoked_subcommand is None:
        list_(as_json)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Print one line for each task.

    \b
    Example:
        lightune tasks list --json
    """
    from lightune.cli.reference import list_all
    from lightune.tasks.base import tasks as registered

    with output(as_json) as out:
        list_all(out, "tasks", registered())


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The task's name.")],
    as_json: AsJson = False,
) -> None:
    """Print all of one task: what it is, and every setting with its default.

    \b
    Example:
        lightune tasks show classification
    """
    from lightune.cli.reference import show_one
    from lightune.tasks.base import tasks as registered

    with output(as_json) as out:
        show_one(out, "tasks", registered(), name)
