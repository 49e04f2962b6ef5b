"""`lightune models`: the catalogue of base models, and fetching one of them."""

import dataclasses
from typing import Annotated

import typer

from lightune.cli.output import AsJson, output, table

app = typer.Typer(name="models", invoke_without_command=True, rich_markup_mode=None)


@app.callback()
def models(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the catalogue of base models, show one, or fetch one.

    Any other hub id, `ms:<ModelScope id>` or folder works as well: `--model ORG/NAME`.

    \b
    Example:
        lightune models
        lightune models show minilm
        lightune models pull minilm
    """
    if ctx.invoked_subcommand is None:
        list_(as_json)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Print one line for each model of the catalogue.

    \b
    Example:
        lightune models list --json
    """
    from lightune.models.catalogue import catalogue

    with output(as_json) as out:
        pages = [entry.to_json() for entry in catalogue().values()]
        out.result({"models": pages})
        rows = [
            (
                page["name"],
                page["architecture"],
                f"{page['parameters'] / 1e6:,.0f} M",
                page["licence"],
                "yes" if page["cached"] else "no",
                page["summary"],
            )
            for page in pages
        ]
        out.show(
            table(["name", "architecture", "weights", "licence", "here", "what it is"], rows),
            "in full: lightune models show NAME     fetch: lightune models pull NAME",
        )


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model's name.")],
    as_json: AsJson = False,
) -> None:
    """Print all that the catalogue says of one model.

    \b
    Example:
        lightune models show minilm
    """
    from lightune.models.catalogue import describe

    with output(as_json) as out:
        page = describe(name)
        out.result({"model": page})
        rows = [
            (key, ", ".join(value) if isinstance(value, list | tuple) else value)
            for key, value in page.items()
        ]
        out.show(table(["model", name], rows), f"next: lightune train --model {name} …")


@app.command("pull")
def pull(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Catalogue name, hub id, or ms:<ModelScope id>.")
    ],
    as_json: AsJson = False,
) -> None:
    """Fetch a model into the cache, so that training needs no network later.

    \b
    Example:
        lightune models pull minilm
    """
    from lightune.cli.download import download_bars
    from lightune.models.sources import resolve

    with output(as_json) as out:
        with download_bars() as progress:
            found = resolve(name, on_note=out.note, progress=progress)
        for note in found.notes:
            out.note(note)
        out.result({"model": dataclasses.asdict(found)})
        out.show(f"{found.name} is in {found.folder}", f"next: lightune train --model {name} …")
