"""`lightune data preview`: rows as the model reads them, what of them is learnt, what is cut."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lightune.cli.output import AsJson, Output, output
from lightune.errors import DataError

if TYPE_CHECKING:
    from lightune.tasks.base import Task
    from lightune.types import Example, Record

app = typer.Typer(name="data", no_args_is_help=True, rich_markup_mode=None)

NO_LABEL = -100
READ, LEARNT, CUT = "read", "learnt", "cut"


@app.callback()
def data() -> None:
    """Look at data as training will take it.

    \b
    Example:
        lightune data preview recipe.yaml
    """


@app.command()
def preview(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="YAML file.")],
    rows: Annotated[int, typer.Option(min=1, metavar="N", help="How many rows.")] = 3,
    start: Annotated[int, typer.Option(min=1, metavar="N", help="The first row shown.")] = 1,
    tokens: Annotated[bool, typer.Option("--tokens", help="Show where each token ends.")] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="Change one value of the recipe."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show training rows as the model reads them: tokens, which of them are learnt, what is cut.

    Only the tokenizer of the base model is loaded, so this takes seconds.

    \b
    Example:
        lightune data preview recipe.yaml
        lightune data preview recipe.yaml --rows 10 -s train.max_length=256 --json
    """
    from lightune.assembly import LONGEST_BY_DEFAULT, splits_of
    from lightune.models.load import load_tokenizer_of
    from lightune.recipe import load_recipe

    with output(as_json) as out:
        resolved = load_recipe(recipe, overrides or [])
        for sentence in resolved.notes:
            out.note(sentence)
        splits = splits_of(resolved)
        task = resolved.task
        tokenizer, longest, config = load_tokenizer_of(resolved.model)
        state = task.fit_model(config, task.learn(splits.train))
        state = task.fit_tokenizer(tokenizer, state)
        for sentence in (*splits.notes, *state.get("notes", ())):
            out.note(sentence)
        limit = min(resolved.train.max_length or LONGEST_BY_DEFAULT, longest)
        shown = splits.train[start - 1 : start - 1 + rows]
        if not shown:
            raise DataError(
                f"--start {start}: there is no such row",
                found=f"{len(splits.train)} rows to train on",
                mend="--start 1",
            )
        views = [view for record in shown for view in _views(record, task, tokenizer, state, limit)]
        out.result({"rows": views, "max_length": limit, "records": len(splits.train)})
        for view in views:
            _show(out, view, tokenizer, tokens)


def _views(
    record: Record, task: Task, tokenizer: Any, state: dict[str, Any], limit: int
) -> list[dict[str, Any]]:
    """Return the views of one row: several where it is read in overlapping windows."""
    from lightune.models.tokenizer import NO_LIMIT

    [whole, *_] = task.encode([record], tokenizer, state, NO_LIMIT)
    try:
        read = task.encode([record], tokenizer, state, limit)
    except DataError as error:
        return [_view(record, whole, whole, tokenizer, limit, str(error))]
    if len(read) == 1:
        return [_view(record, read[0], whole, tokenizer, limit)]
    return [_view(record, window, window, tokenizer, limit) for window in read]


def _view(
    record: Record,
    example: Example,
    whole: Example,
    tokenizer: Any,
    limit: int,
    problem: str | None = None,
) -> dict[str, Any]:
    """Return one example: its tokens, which of them are learnt, and what `limit` cuts."""
    ids = list(example.inputs["input_ids"])[: None if problem is None else limit]
    every = list(whole.inputs["input_ids"])
    # what stands behind the cut, where the cut is at the end (pairs of texts lose it elsewhere)
    lost = every[len(ids) :] if every[: len(ids)] == ids else []
    labels = example.target if isinstance(example.target, list) else []
    # a target of a model that writes apart from what it reads may be as long by chance
    own = example.inputs["input_ids"]
    by_token = len(labels) == len(own) and (
        all(label in (NO_LABEL, token) for label, token in zip(labels, own, strict=True))
        or (example.prompt is None and NO_LABEL in labels)  # one tag a word
    )
    target = None if by_token else example.target
    if target is not None and example.prompt is not None:  # tokens to be written
        target = str(tokenizer.decode(labels))
    return {
        "file": record.place.file,
        "line": record.place.line,
        "tokens": tokenizer.convert_ids_to_tokens(ids),
        "ids": ids,
        "learnt": [label != NO_LABEL for label in labels[: len(ids)]] if by_token else None,
        "target": target,
        "cut": tokenizer.convert_ids_to_tokens(lost),
        "cut_ids": lost,
        "tokens_cut": len(every) - len(ids),
        "problem": problem,
    }


def _show(out: Output, view: dict[str, Any], tokenizer: Any, apart: bool) -> None:
    """Print one row in runs of tokens that are treated alike."""
    learnt = view["learnt"] or [False] * len(view["ids"])
    marks = [LEARNT if yes else READ for yes in learnt] + [CUT] * len(view["cut_ids"])
    pieces = [*zip(marks, [*view["ids"], *view["cut_ids"]], strict=True)]
    facts = [f"{len(view['ids'])} tokens", f"{view['tokens_cut']} cut"]
    if view["learnt"] is not None:
        facts.insert(1, f"{sum(learnt)} learnt")
    elif view["target"] is not None:
        facts.append(f"target {view['target']}")
    out.show(f"{view['file']}:{view['line']}  {', '.join(facts)}")
    for mark, run in groupby(pieces, key=lambda piece: piece[0]):
        text = _text([token for _, token in run], tokenizer, apart)
        for number, line in enumerate(text.split("\n")):
            out.show(f"  {mark if number == 0 else '':<7}│ {line}")
    if view["problem"]:
        out.show(f"  {view['problem']}")
    out.show("")


def _text(ids: Sequence[int], tokenizer: Any, apart: bool) -> str:
    if apart:
        return "|".join(tokenizer.convert_ids_to_tokens(ids))
    return str(tokenizer.decode(ids))
