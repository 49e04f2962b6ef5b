"""`lightune adapters`: look into adapter folders, convert them, merge them, add them up."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lightune.cli.output import AsJson, output, short, table

app = typer.Typer(name="adapters", invoke_without_command=True, rich_markup_mode=None)

Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="A run, or an adapter: ours, PEFT's, AdapterHub's.")
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write; a new one.")]
Model = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME", help="The base, where FOLDER's name of it is no good."),
]
Force = Annotated[
    bool, typer.Option("--force", help="Accept a base of other tensors than those of training.")
]


@app.callback()
def adapters(ctx: typer.Context) -> None:
    """Show, convert, merge or combine trained adapters.

    \b
    Example:
        lightune adapters show runs/mine
        lightune adapters merge runs/mine --out merged
        lightune adapters convert runs/mine --to peft --out for-peft
        lightune adapters combine runs/a runs/b --weights 0.5,0.5 --rank 8 --out both
    """
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


@app.command("show")
def show(folder: Folder, as_json: AsJson = False) -> None:
    """Print what an adapter is: its method, its base, its tensors. Nothing is loaded.

    \b
    Example:
        lightune adapters show runs/mine --json
    """
    from lightune.adapters.describe import describe

    with output(as_json) as out:
        page = describe(folder)
        out.result({"adapter": page})
        rows = [(key, _words(value)) for key, value in page.items()]
        out.show(
            table(["adapter", short(folder)], rows),
            f"next: lightune adapters merge {short(folder)} --out DIR",
        )


@app.command("merge")
def merge(
    folder: Folder,
    out_folder: Out,
    model: Model = None,
    untie: Annotated[
        bool,
        typer.Option("--untie", help="Give a changed weight that is tied to another its own copy."),
    ] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write the base model with the adapter inside, as a folder that Transformers loads alone.

    \b
    Example:
        lightune adapters merge runs/mine --out merged
    """
    from lightune.adapters.onto_base import onto_base
    from lightune.adapters.save import save_merged

    with output(as_json) as out:
        loaded = onto_base(folder, out.note, model, force)
        base = loaded.base
        save_merged(
            out_folder, base.model, loaded.attachments, loaded.manifest.head, base.tokenizer, untie
        )
        page = {"folder": str(out_folder), "base": base.name, **_size(out_folder)}
        out.result({"merged": page})
        out.show(
            f"{short(out_folder)}: {base.name} with the adapter inside, {page['bytes']:,} bytes",
            f"next: lightune train --model {short(out_folder)} …",
        )


@app.command("convert")
def convert(
    folder: Folder,
    out_folder: Out,
    to: Annotated[
        str, typer.Option("--to", metavar="FORMAT", help="lightune, peft or adapterhub.")
    ],
    model: Model = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write an adapter in another library's format.

    \b
    Example:
        lightune adapters convert runs/mine --to peft --out for-peft
        lightune adapters convert from-peft --to lightune --model minilm --out ours
    """
    from lightune.adapters.convert import convert as write

    with output(as_json) as out:
        written = write(folder, out_folder, to, out.note, model, force)
        page = {"folder": str(out_folder), "format": to, "was": written, **_size(out_folder)}
        out.result({"converted": page})
        out.show(f"{short(out_folder)}: {to}, {page['bytes']:,} bytes (was {written})")


@app.command("combine")
def combine(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Runs or LoRA adapters of one base.")
    ],
    out_folder: Out,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights", metavar="W,W,…", help="One number for each; the mean if left out."
        ),
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option("--rank", metavar="N", help="Rank of the sum; all of it if left out."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add LoRA adapters up with weights, and factor the sum again; ranks may differ.

    \b
    Example:
        lightune adapters combine runs/a runs/b --weights 0.7,0.3 --rank 8 --out both
    """
    from lightune.adapters.combine import combine as add_up

    with output(as_json) as out:
        numbers = _numbers(weights, len(folders))
        made = add_up(folders, numbers, out_folder, rank)
        page = {
            "folder": str(out_folder),
            "weights": numbers,
            "rank": made.rank,
            "layers": made.layers,
            "lost": made.lost,
            **_size(out_folder),
        }
        out.result({"combined": page})
        out.show(
            f"{short(out_folder)}: rank {made.rank} on {made.layers} layers; "
            f"{100 * made.lost:.2g} % of the sum left out"
        )


def _numbers(text: str | None, count: int) -> list[float]:
    """Read the weights."""
    from lightune.errors import ConfigError

    if text is None:
        return [1 / count] * count
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            "--weights: numbers with commas between them are expected",
            found=repr(text),
            mend="--weights " + ",".join([f"{1 / count:.2g}"] * count),
        ) from None


def _size(folder: Path) -> dict[str, Any]:
    files = [entry for entry in folder.iterdir() if entry.is_file()]
    return {
        "files": sorted(entry.name for entry in files),
        "bytes": sum(entry.stat().st_size for entry in files),
    }


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_words(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        listed = ", ".join(map(_words, value[:8]))
        return listed + (f" and {len(value) - 8} more" if value[8:] else "")
    return str(value)
