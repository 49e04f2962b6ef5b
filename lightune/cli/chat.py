"""`lightune chat`: talk to a run that writes; its answers appear as they are written."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from lightune.cli.opened import RunFolder, decoded
from lightune.cli.output import AsJson, output

NEW, QUIT = "/new", "/quit"


def chat(
    run: RunFolder,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="A system prompt.")] = None,
    temperature: Annotated[
        float | None,
        typer.Option(min=0, metavar="T", help="Draw tokens, the wilder the higher; 0 draws none."),
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Cut answers here.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, metavar="N", help="Of the draws.")] = None,
    as_json: AsJson = False,
) -> None:
    """Talk to a run that writes; one line is one turn.

    /new forgets what was said, /quit or the end of the input ends. What is not said here is as
    the run was trained with (`task.decoding`). With --json all turns are printed at the end.

    \b
    Example:
        lightune chat runs/mine
        lightune chat runs/mine --temperature 0.7 --system "You answer in one sentence."
        echo "What is LoRA?" | lightune chat runs/mine
    """
    from lightune.conversation import Conversation
    from lightune.run import Run

    given = {"temperature": temperature, "max_new_tokens": max_new_tokens, "seed": seed}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if temperature == 0:
        changes |= {"top_k": 0, "top_p": 1.0}
    said: list[dict[str, str]] = []
    with output(as_json) as out:
        talk = Conversation(Run.open(run, note=out.note), system, **changes)
        asks = sys.stdin.isatty()
        if asks:
            out.note(f"{NEW} forgets what was said, {QUIT} ends")
        while (line := _line(asks)) is not None and line.strip() != QUIT:
            if line.strip() == NEW:
                talk.forget()
            elif line.strip():
                answer = talk.say(line.strip(), on_text=_show)
                _show("\n")
                said += [
                    {"role": "user", "content": line.strip()},
                    {"role": "assistant", "content": answer},
                ]
                if talk.forgotten:
                    out.note(
                        f"{talk.forgotten} turns were left out: the conversation is longer than "
                        "the model reads"
                    )
                if talk.cut:
                    out.note(
                        f"{talk.cut} tokens of this turn were left out: it is longer than the "
                        "model reads"
                    )
        out.result({"turns": said})


def _show(piece: str) -> None:
    print(piece, end="", flush=True)


def _line(asks: bool) -> str | None:
    """Return the next line of the input, None at its end."""
    if asks:
        print("> ", end="", file=sys.stderr, flush=True)
    # what stands in for standard input (a notebook's, say) may hold text alone
    bytes_of = getattr(sys.stdin, "buffer", None)
    line = sys.stdin.readline() if bytes_of is None else decoded(bytes_of.readline())
    return line if line else None
