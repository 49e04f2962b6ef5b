"""Try every method on every kind of model and write down what works.

    .venv/bin/python docs/capabilities.py            # write both
    .venv/bin/python docs/capabilities.py --check    # exit 1 where they are not what the code does

Writes `lightune/methods/capabilities.json`, which `lightune methods` shows, and the table between
the two marks in `docs/methods.md`. A kind is impossible when `attach` raises `MethodError`; a
method merges when the plain model's state can be written for every kind that it works on.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lightune.adapters.merge import merged_state
from lightune.errors import AdapterError, MethodError
from lightune.methods.base import Attachment, Method, methods
from lightune.methods.beside import train_new_modules
from lightune.models.tiny_kinds import KINDS

ROOT = Path(__file__).parents[1]
FACTS = ROOT / "lightune" / "methods" / "capabilities.json"
PAGE = ROOT / "docs" / "methods.md"
BEGIN = "<!-- capabilities: written by docs/capabilities.py -->"
CLASS = re.compile(r"\b[A-Z]\w+(?:For|Model|With)\w*")
"""Names of model classes: the same reason holds for many."""
END = "<!-- end of capabilities -->"


def probe(method: Method, bases: Mapping[str, Any]) -> dict[str, Any]:
    """Attach `method` to each base and return a `Capability`."""
    works, refused, merges = [], {}, True
    for kind, model in bases.items():
        beside = train_new_modules(model, outside_the_base(model, kind))
        try:
            with torch.random.fork_rng(devices=[]):
                part = method.attach(model)
            works.append(kind)
            merges &= can_merge(model, part)
            part.detach()
        except MethodError as error:
            refused[kind] = error.problem
        beside.detach()
    return {"works": works, "refused": refused, "merges": merges}


def can_merge(model: Any, part: Attachment) -> bool:
    """Return whether the plain model's state can be written."""
    try:
        merged_state(model, [part])
    except AdapterError:
        return False
    return True


def outside_the_base(model: Any, kind: str) -> list[str]:
    """Return the parts that a checkpoint of the bare base does not have, where a task trains
    them."""
    if not KINDS[kind].classifies:
        return []
    parts = [name for name, _ in model.named_children() if name != model.base_model_prefix]
    return [name for name in parts if list(model.get_submodule(name).parameters())]


def facts() -> dict[str, Any]:
    """Return what is found now, for the methods of this package."""
    bases = {name: kind.build() for name, kind in KINDS.items()}
    return {
        name: probe(method(), bases)
        for name, method in methods().items()
        if method.__module__.startswith("lightune.")
    }


def table(found: Mapping[str, Any]) -> str:
    """Return the Markdown table: one row per kind, one column per method, reasons below."""
    reasons: dict[str, int] = {}
    lines = [
        "| kind | " + " | ".join(f"`{name}`" for name in found) + " |",
        "|---" * (len(found) + 1) + "|",
        "| merges | " + " | ".join("yes" if f["merges"] else "no" for f in found.values()) + " |",
    ]
    for kind in KINDS:
        cells = []
        for capability in found.values():
            reason = capability["refused"].get(kind)
            if reason is not None:
                reason = CLASS.sub("the model", reason)
                reasons.setdefault(reason, len(reasons) + 1)
            cells.append("yes" if reason is None else f"no ({reasons[reason]})")
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    notes = [f"{number}. {reason}" for reason, number in reasons.items()]
    return "\n".join([*lines, "", *notes]).rstrip() + "\n"


def written(found: Mapping[str, Any]) -> dict[Path, str]:
    """Return both files as they should be."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return {
        FACTS: json.dumps(found, indent=1, ensure_ascii=False) + "\n",
        PAGE: f"{before}{BEGIN}\n\n{table(found)}\n{END}{after}",
    }


def main() -> int:
    files = written(facts())
    stale = [path for path, text in files.items() if path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        print("\n".join(f"not up to date: {path.relative_to(ROOT)}" for path in stale))
        return bool(stale)
    for path in stale:
        path.write_text(files[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
