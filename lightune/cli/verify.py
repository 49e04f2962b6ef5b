"""`lightune verify`: prove a finished run again, and name every file that changed."""

from typing import Annotated

import typer

from lightune.cli.opened import RunFolder
from lightune.cli.output import AsJson, output, short, table


def verify(
    run: RunFolder,
    seal: Annotated[
        bool, typer.Option("--seal", help="Write seal.json where the run has none.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check that a run's adapter gives the predictions and scores that it reports.

    Every file is compared with the seal, the adapter is loaded from disk, and test records are
    predicted again. Ends with 0, or with 2 and what is wrong.

    \b
    Example:
        lightune verify runs/mine
        lightune verify runs/mine --seal
    """
    from lightune.seal import verify as prove

    with output(as_json) as out:
        found = prove(run, out.note, seal)
        out.result({"run": str(run), "checks": found["checks"], "files": len(found["files"])})
        rows = [(name, _words(value)) for name, value in found["checks"].items()]
        out.show(table(["check", short(run)], rows), f"{len(found['files'])} files: proved")


def _words(value: object) -> str:
    if not isinstance(value, dict):
        return str(value)
    return (
        f"{value['repeated']} of {value['of']} repeated, {value['differ']} differ "
        f"(within {value['within']:g}): {value['compared']}"
    )
