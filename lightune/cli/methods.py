"""`lightune methods`: which methods there are, and one of them in full."""

from typing import Annotated

import typer

from lightune.cli.output import AsJson, output

app = typer.Typer(name="methods", invoke_without_command=True, rich_markup_mode=None)


@app.callback()
def methods(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the methods, or show one in full.

    \b
    Example:
        lightune methods
        lightune methods show lora
    """
    if ctx.invoked_subcommand is None:
        list_(as_json)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Print one line for each method.

    \b
    Example:
        lightune methods list --json
    """
    from lightune.cli.reference import list_all
    from lightune.methods.base import methods as registered

    with output(as_json) as out:
        list_all(out, "methods", registered())


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The method's name.")],
    as_json: AsJson = False,
) -> None:
    """Print all of one method: what it is, and every setting with its default.

    \b
    Example:
        lightune methods show lora
    """
    from lightune.cli.reference import show_one
    from lightune.methods.base import methods as registered

    with output(as_json) as out:
        show_one(out, "methods", registered(), name)
