"""`lightune init`: write a commented recipe to start from."""

from pathlib import Path
from typing import Annotated

import typer

from lightune.cli.output import AsJson, output
from lightune.errors import RunError


def init(
    recipe: Annotated[
        Path, typer.Argument(metavar="[FILE]", help="The file to write.", show_default=True)
    ] = Path("recipe.yaml"),
    task: Annotated[str, typer.Option(help="See `lightune tasks`.")] = "classification",
    method: Annotated[str, typer.Option(help="See `lightune methods`.")] = "lora",
    model: Annotated[
        str | None,
        typer.Option(help="Catalogue name, hub id, or folder; the task's own when left out."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a commented recipe to start from.

    \b
    Example:
        lightune init reviews.yaml
        lightune init answers.yaml --task question_answering
        lightune train reviews.yaml --dry-run
    """
    from lightune.recipe import template

    with output(as_json) as out:
        text = template(task, method, model)
        try:
            with recipe.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            raise RunError(
                f"{recipe} exists already, and is never overwritten",
                found="a folder" if recipe.is_dir() else f"{recipe.stat().st_size} bytes",
                mend=f"lightune init {recipe.with_stem(recipe.stem + '-2')}",
            ) from None
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(
                f"the folder of {recipe} does not exist",
                found=str(recipe.parent),
                mend=f"mkdir -p {recipe.parent}",
            ) from None
        out.result({"recipe": str(recipe)})
        out.show(
            f"wrote {recipe}: set `data.train` to your file, then",
            f"next: lightune train {recipe} --dry-run",
        )
