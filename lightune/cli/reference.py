"""Methods and tasks as reference pages, made from their classes: nothing is written twice.

Used by `methods.py` and `tasks.py`. The text of a setting is the docstring under its field.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from lightune.cli.output import Output, table
from lightune.errors import ConfigError, nearest
from lightune.methods.capabilities import capabilities
from lightune.settings import Settings, keys
from lightune.template import help_table

WORDS = {str: "text", int: "whole number", float: "number", bool: "true/false", type(None): "null"}

INTERNAL = re.compile(r"^(?:State|Invariants|Errors|Not here):.*\n?(?:[ \t]+.*\n?)*", re.MULTILINE)
"""Heads of a module's docstring that speak to people who change the code."""


def list_all(out: Output, kind: str, classes: Mapping[str, Any]) -> None:
    """Print one line for each class.

    Args:
        out: where to.
        kind: `methods` or `tasks`, also the key of the JSON object.
        classes: by name, from the registry.
    """
    rows = [_summary(cls) for cls in classes.values()]
    out.result({kind: rows})
    columns, cells = ["name", "what it does"], [[row["name"], row["summary"]] for row in rows]
    if kind == "methods":
        columns += ["works on", "merges"]
        cells = [[*cell, *_works(row)] for cell, row in zip(cells, rows, strict=True)]
    out.show(
        table(columns, cells),
        f"in full: lightune {kind} show NAME",
    )


def show_one(out: Output, kind: str, classes: Mapping[str, Any], name: str) -> None:
    """Print all of one class: what it is, its paper or columns, and every setting.

    Raises:
        ConfigError: there is none of that name; the nearest is offered.
    """
    if name not in classes:
        raise unknown(kind.removesuffix("s"), name, list(classes))
    cls = classes[name]
    page = _summary(cls) | {"about": _about(cls), "settings": settings_of(cls)}
    out.result({kind.removesuffix("s"): page})
    out.show(f"{name}: {page['summary']}", "", page["about"], "")
    for key in ("paper", "learning_rate", "metric"):
        if key in page:
            out.show(f"{key.replace('_', ' ')}: {page[key]}")
    if "merges" in page:
        out.show(f"works on: {', '.join(page['works'])}; merges: {_works(page)[1]}")
        for reason, kinds in _by_reason(page["refused"]).items():
            out.show(f"not on {', '.join(kinds)}: {reason}")
    for column, use in page.get("columns", {}).items():
        needed = "needed" if use["needed_to_predict"] else "needed to train"
        needed = needed if use["needed_to_train"] else "optional"
        out.show(f"column {column} ({needed}), guessed from: {', '.join(use['guessed_from'])}")
    rows = [[s["key"], s["type"], s["default"], s["help"]] for s in page["settings"]]
    out.show(
        table(["setting", "type", "default", "what it does"], rows),
        f"in a recipe: {kind.removesuffix('s')}: {{name: {name}, …}}     "
        f"on the command line: -s {kind.removesuffix('s')}.SETTING=VALUE",
    )


def unknown(what: str, name: str, known: list[str]) -> ConfigError:
    """Return the error for a name that nothing has."""
    near = nearest(name, known)
    return ConfigError(
        f"there is no {what} {name!r}",
        found=f"known: {', '.join(known)}",
        mend=f"did you mean `{near}`?" if near else f"lightune {what}s list",
    )


def settings_of(spec: type[Settings]) -> list[dict[str, str]]:
    """Return key, type, default and help of every setting; nested ones by their dotted key."""
    types_by_key = dict(_types(spec))
    return [
        {"key": row.key, "type": types_by_key[row.key], "default": row.default, "help": row.help}
        for row in help_table(spec)
    ]


def type_words(annotation: Any) -> str:
    """Return a type as a person says it: `whole number or null`, `linear | cosine`."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(str(choice) for choice in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(type_words(part) for part in inner)
    if origin in (list, tuple, set, frozenset):
        return f"list of {type_words(inner[0])}" if inner else "list"
    if origin in (dict, Mapping):
        return "mapping"
    if inner and hasattr(annotation, "__metadata__"):  # Annotated[int, Gt(0)]
        return type_words(inner[0])
    return WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _types(spec: type[Settings], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, info in keys(spec).items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, Settings):
            yield from _types(inner, f"{prefix}{key}.")
        else:
            yield prefix + key, type_words(inner)


def _summary(cls: Any) -> dict[str, Any]:
    row = {"name": cls.name, "summary": cls.summary}
    if hasattr(cls, "paper"):
        row |= {"paper": cls.paper, "learning_rate": cls.learning_rate}
        row |= capabilities().get(cls.name, {})
    else:
        row |= {
            "metric": cls.deciding,
            "columns": {
                field.name: {
                    "guessed_from": list(field.guesses),
                    "needed_to_train": field.needed_to_train,
                    "needed_to_predict": field.needed_to_predict,
                }
                for field in cls.fields
            },
        }
    return row


def _works(page: Mapping[str, Any]) -> tuple[str, str]:
    """Return on how many kinds of models a method works, and whether it merges, in words."""
    if "works" not in page:
        return "not tried", ""
    every = len(page["works"]) + len(page["refused"])
    return f"{len(page['works'])} of {every} kinds", "yes" if page["merges"] else "no"


def _by_reason(refused: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the kinds of models by why a method is refused there; a model's class is left out."""
    found: dict[str, list[str]] = {}
    for kind, reason in refused.items():
        general = re.sub(r"\b[A-Z]\w+(?:For|Model|With)\w*", "the model", reason)
        found.setdefault(general, []).append(kind)
    return found


def _about(cls: Any) -> str:
    """Return the docstring of the class's module: the long explanation, with its formula.

    Its heads for people who change the code are left out.
    """
    text = inspect.getdoc(inspect.getmodule(cls)) or inspect.getdoc(cls) or ""
    return INTERNAL.sub("", text).strip()
