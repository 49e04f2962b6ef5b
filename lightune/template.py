"""Settings as text: the rows of a help table, and a commented recipe to start from.

Why:        the docstring under a field is its only description; whatever shows it is made here.
Invariants: a template loads as a recipe, whatever task and method it is for, and so it does with
            every `#key: value` line uncommented.
Not here:   reading recipes (`recipe.py`), printing (`cli/`).
"""

import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo

from lightune import registry, strict_yaml
from lightune.data.spec import DataSpec
from lightune.settings import Settings, keys
from lightune.train.spec import TrainSpec

WIDTH = 88

INTRO = """\
# A Lightune recipe. What must be set is set; a line that begins with `#name:` shows a setting
# with its default: remove the # to change it. Try it with
#     lightune train recipe.yaml --dry-run"""

MODEL = """\
# Catalogue name (`lightune models` lists them), hub id, `ms:<ModelScope id>`, or folder.
"""

SHOWN: dict[str, dict[str, Any]] = {
    "data": {"train": "data.csv", "test": 0.2},
    "train": {"epochs": 4, "seed": 0},
}
"""Settings that the template sets itself, so that it says what most recipes say."""


@dataclass(frozen=True, slots=True)
class HelpRow:
    """One setting, for tables.

    Attributes:
        key: as in a recipe, dotted where nested: `optimizer.warmup`.
        default: as in a recipe; `required` where there is none.
        help: its docstring, on one line.
    """

    key: str
    default: str
    help: str


def help_table(spec: type[Settings], prefix: str = "") -> list[HelpRow]:
    """Return one row for every setting of `spec`, those of nested sections under dotted keys."""
    rows = []
    for key, info in keys(spec).items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, Settings):
            rows += help_table(inner, f"{prefix}{key}.")
            continue
        default = "required" if info.is_required() else _yaml(_default(info))
        rows.append(HelpRow(prefix + key, default, " ".join((info.description or "").split())))
    return rows


def template(task: str = "classification", method: str = "lora", model: str | None = None) -> str:
    """Return a commented recipe for `task` and `method`, for `lightune init`.

    Args:
        model: the base model; None takes the task's own.

    Raises:
        ConfigError: there is no such task or method.
    """
    of_task: Any = registry.find("lightune.tasks", task, "task")
    sections: list[tuple[str, type[Settings], dict[str, Any]]] = [
        ("task", of_task, {"name": task}),
        ("method", registry.find("lightune.methods", method, "method"), {"name": method}),
        ("data", DataSpec, SHOWN["data"]),
        ("train", TrainSpec, SHOWN["train"]),
    ]
    parts = ["\n".join(_section(name, spec, shown)) for name, spec, shown in sections]
    parts.insert(1, f"{MODEL}model: {_yaml(model or of_task.default_model)}")
    return "\n\n".join([INTRO, *parts]) + "\n"


def _section(name: str, spec: type[Settings], shown: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of one section: those `shown` are set, the others are commented out."""
    yield f"{name}:"
    if "name" in shown:
        yield f"  name: {_yaml(shown['name'])}"
    yield from _settings(spec, shown, "  ")


def _settings(spec: type[Settings], shown: dict[str, Any], indent: str) -> Iterator[str]:
    for key, info in keys(spec).items():
        help_text = " ".join((info.description or "").split())
        yield from textwrap.wrap(
            help_text, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
        )
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, Settings):
            yield f"{indent}{key}:"
            yield from _settings(inner, {}, indent + "  ")
        elif key in shown:
            yield f"{indent}{key}: {_yaml(shown[key])}"
        else:
            yield f"{indent}#{key}: {_yaml(_default(info))}"


def _default(info: FieldInfo) -> Any:
    return info.get_default(call_default_factory=True)


def _yaml(value: Any) -> str:
    """Return a scalar or a short list as it stands behind `key: `."""
    plain = list(value) if isinstance(value, tuple) else value
    if isinstance(plain, list) and any(isinstance(part, dict) for part in plain):
        return json.dumps(plain, ensure_ascii=False)  # YAML too, and on one line
    return strict_yaml.write({"x": plain}).partition(":")[2].strip()
