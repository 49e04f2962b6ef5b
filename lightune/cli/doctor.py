"""`lightune doctor`: what this machine offers, what is fastest on it, and what is missing."""

from __future__ import annotations

import os
import re
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from lightune.cli.output import AsJson, output, table

EXTRA = re.compile(r"([\w.-]+)(?:\[[^]]*\])?[^;]*;.*\bextra == ['\"]([\w-]+)['\"].*")
"""A line of package metadata: the package, and the extra that asks for it."""

NOT_SHOWN = ("code_sha256", "date")
NOT_WRITABLE = "  NOT WRITABLE: set LIGHTUNE_HOME to a folder you own"


ATTENTION = {
    "lightune_native": "native: a kernel in C",
    "lightune": "plain: products of matrices",
    "sdpa": "fused: PyTorch's scaled_dot_product_attention",
    "off": "the model's own",
}
DROPOUT = {"pooled": "factors from a pool", "torch": "PyTorch's", "off": "none"}


def doctor(as_json: AsJson = False) -> None:
    """Show this machine, what is fastest on it, and what is missing.

    \b
    Example:
        lightune doctor
        lightune doctor --json
    """
    from lightune.engine.plan import machine_plan
    from lightune.models import store
    from lightune.models.catalogue import catalogue
    from lightune.nn import native
    from lightune.runs.environment import environment

    with output(as_json) as out:
        plan = machine_plan().model_dump(mode="json")
        missing = native.missing()
        machine = environment()
        models = {name: entry.cached for name, entry in catalogue().items()}
        folder = store.home()
        cache = {"folder": str(folder), "writable": _writable(folder)}
        packages = extras()
        out.result(
            {
                "machine": machine,
                "plan": plan,
                "kernels_missing": missing,
                "extras": packages,
                "models": [{"name": name, "cached": here} for name, here in models.items()],
                "cache": cache,
            }
        )
        shown = {key: value for key, value in machine.items() if key not in NOT_SHOWN}
        out.show(table(["machine", ""], _rows(shown)), "")
        out.show(table(["fastest here", ""], _plan_rows(plan)), "")
        if missing:
            out.show(f"no kernels in C: {missing}", "")
        out.show(
            table(
                ["extra", "state", "mend"],
                [
                    (
                        name,
                        "installed"
                        if not parts["missing"]
                        else f"missing: {', '.join(parts['missing'])}",
                        f"pip install 'lightune[{name}]'" if parts["missing"] else "",
                    )
                    for name, parts in packages.items()
                ],
            ),
            "",
        )
        out.show(
            table(
                ["model", "here already"],
                [
                    (name, "yes" if here else f"no: lightune models pull {name}")
                    for name, here in models.items()
                ],
            ),
            "",
            f"cache: {cache['folder']}" + ("" if cache["writable"] else NOT_WRITABLE),
        )


def extras() -> dict[str, dict[str, list[str]]]:
    """Return, for each optional extra, which of its packages are installed and which are missing.

    Read from the installed package's own metadata, so that a new extra needs no edit here.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for line in requires("lightune") or []:
        match = EXTRA.fullmatch(line)
        if not match or match[1] == "lightune":
            continue
        parts = found.setdefault(match[2], {"installed": [], "missing": []})
        try:
            parts["installed"].append(f"{match[1]} {version(match[1])}")
        except PackageNotFoundError:
            parts["missing"].append(match[1])
    return found


def _rows(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return a nested mapping as lines of a table."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            rows += _rows(value, f"{prefix}{key} ")
        else:
            shown = ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
            rows.append((f"{prefix}{key}".replace("_", " "), shown))
    return rows


def _plan_rows(plan: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the plan in words, then what was timed to decide."""
    rows = [
        ("device", plan["device"]),
        ("number format", plan["dtype"]),
        ("attention", ATTENTION[plan["attention"]]),
        ("dropout", DROPOUT[plan["dropout"]]),
        ("low-rank layers", "own backward pass" if plan["lowrank"] else "PyTorch's backward pass"),
        ("kernels in C", "used" if plan["native"] else "not used"),
        ("threads", str(plan["threads"])),
    ]
    for name, milliseconds in plan["measured"].items():
        what, dtype, *tokens = name.split()
        label = f"attention {what}, {dtype}, {tokens[0]} tokens" if tokens else f"{what}, {dtype}"
        rows.append((f"timed: {label}", f"{milliseconds:.3g} ms"))
    return rows


def _writable(folder: Path) -> bool:
    """Return whether `folder` can be written, or made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK)
