"""Recipe: what one training is made from, read from YAML or a dict, checked whole, written back.

    task: classification              # or {name: classification, text: title, label: topic}
    model: minilm
    method: {name: lora, rank: 8}     # or just: lora
    data: reviews.csv                 # or {train: reviews.csv, test: 0.2}
    train: {epochs: 3}

Invariants: `load_recipe(dump(recipe))` equals `recipe`; a recipe is immutable; an unknown key is a
            mistake, never dropped; all mistakes of all sections are reported together.
Paths:      data files and `train.from` are relative to the current directory; what is not there
            but is in the recipe's own folder is taken from that, with a note in `Recipe.notes`.
Cost:       reading a recipe imports the tasks and methods, hence torch; importing this file does
            not.
Not here:   the sections' keys (`tasks/`, `methods/`, `data/spec.py`, `train/spec.py`), the
            commented recipe (`template.py`), looking into the data (`pipeline.py`).
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lightune import registry, strict_yaml
from lightune.data.spec import DataSpec
from lightune.errors import ConfigError, ConfigErrors, LightuneError, nearest, nearest_file
from lightune.settings import Settings, keys, parse
from lightune.template import template
from lightune.train.spec import TrainSpec

if TYPE_CHECKING:  # tasks and methods import torch
    from lightune.methods.base import Method
    from lightune.tasks.base import Task

__all__ = ["Recipe", "dump", "load_recipe", "template"]

SECTIONS = ("task", "model", "method", "data", "train")

SHORT = {"task": "name", "method": "name", "data": "train"}
"""Sections that may be given as one value, and the key it stands for: `method: lora`."""

COMPARE = "compare"
"""A section that is no part of a training: what `lightune compare` reads beside the others."""

NAMES = ("task", "task.name", "method", "method.name")
"""Overrides that come first, as they decide which other keys there are."""

DEFAULT_MODEL = "minilm"
DEFAULT_METHOD = "lora"

S = TypeVar("S", bound=Settings)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything one training is made from.

    Attributes:
        task: what is learned.
        model: catalogue name, hub id, `ms:<ModelScope id>`, or folder.
        method: how few weights are trained.
        data: where the records come from.
        train: how long, how fast and from where.
        notes: what reading it should tell the user; no part of the recipe itself.
    """

    task: Task
    model: str
    method: Method
    data: DataSpec
    train: TrainSpec
    notes: tuple[str, ...] = field(default=(), compare=False)


def load_recipe(
    source: str | Path | Mapping[str, Any] | Recipe,
    overrides: Sequence[str] | Mapping[str, Any] = (),
) -> Recipe:
    """Return the recipe that `source` describes, checked whole.

    Args:
        source: a YAML file, a dict of the same form, or a recipe.
        overrides: changes: `["method.rank=16"]`, values in YAML as on the command line; or a
            mapping by dotted key, `{"method.rank": 16}`. Naming another task or method
            (`method=full`) drops the settings of the old one.

    Raises:
        ConfigErrors: every mistake of every section, in the order of the sections.
        ConfigError: the file cannot be read as YAML at all.
    """
    folder = None
    values: Any
    if isinstance(source, Recipe):
        values = {section: getattr(source, section) for section in SECTIONS}
    elif isinstance(source, str | Path):
        folder = Path(source).parent
        values = _read(Path(source))
    else:
        values = source
    if not isinstance(values, Mapping):
        raise ConfigError(
            "a recipe is a mapping of its sections" if values is not None else "an empty recipe",
            found=_brief(values),
            mend="`lightune init` writes one to start from",
        )
    mistakes: list[LightuneError] = []
    sections = {str(key): _whole(str(key), value) for key, value in values.items()}
    if isinstance(overrides, Mapping):
        changes = [(str(key), value) for key, value in overrides.items()]
    else:
        texts = [overrides] if isinstance(overrides, str) else overrides
        parsed = [_attempt(mistakes, _change, text) for text in texts]
        changes = [change for change in parsed if change]
    for dotted, value in sorted(changes, key=lambda change: change[0] not in NAMES):
        _attempt(mistakes, _set, sections, dotted, value)
    return _build(sections, folder, mistakes)


def compare_section(source: Any, overrides: Sequence[str] | Mapping[str, Any] = ()) -> Any:
    """Return what a recipe says under `compare`, with the overrides that begin so; {} for nothing.

    Raises:
        ConfigError: the file cannot be read as YAML at all, or an override has no form.
    """
    values = _read(Path(source)) if isinstance(source, str | Path) else source
    section = values.get(COMPARE) if isinstance(values, Mapping) else None
    if section is not None and not isinstance(section, Mapping):
        return section
    sections: dict[str, Any] = {COMPARE: dict(section or {})}
    changes = list(overrides.items()) if isinstance(overrides, Mapping) else []
    changes += [] if isinstance(overrides, Mapping) else [_change(text) for text in overrides]
    for dotted, value in changes:
        if dotted.startswith(f"{COMPARE}."):
            _set(sections, dotted, value)
    return sections[COMPARE]


def dump(recipe: Recipe) -> str:
    """Return the recipe as YAML, every default written out, so that it loads back equal.

    Data given from Python as objects (frames, lists of dicts) is named only, since no file holds
    it: such a recipe documents its run, and cannot be trained again from the file.
    """
    return strict_yaml.write(
        {
            "task": {"name": recipe.task.name} | recipe.task.model_dump(mode="json"),
            "model": recipe.model,
            "method": {"name": recipe.method.name} | recipe.method.model_dump(mode="json"),
            "data": recipe.data.model_dump(mode="json", by_alias=True),
            "train": recipe.train.model_dump(mode="json", by_alias=True),
        }
    )


def _values(settings: Settings) -> dict[str, Any]:
    """Return the fields by the recipe's keys, data objects as they are (a dump would name them)."""
    values = {}
    for name, info in type(settings).model_fields.items():
        value = getattr(settings, name)
        values[info.alias or name] = _values(value) if isinstance(value, Settings) else value
    return values


def _read(path: Path) -> Any:
    """Return what a recipe file holds."""
    try:
        return strict_yaml.read_file(path)
    except FileNotFoundError:
        names = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        near = nearest_file(path.name, names)
        raise ConfigError(
            f"there is no recipe {str(path)!r}",
            found=f"in {path.parent}: {', '.join(sorted(names)[:8]) or 'no YAML file'}",
            mend=f"did you mean `{path.parent / near}`?"
            if near
            else f"`lightune init {path}` writes one",
        ) from None
    except IsADirectoryError:
        inside = path / "recipe.yaml"
        raise ConfigError(
            f"{path} is a folder, not a recipe",
            found=f"in it: {', '.join(sorted(p.name for p in path.iterdir())[:8]) or 'nothing'}",
            mend=f"`{inside}`" if inside.is_file() else "name the YAML file in it",
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read",
            found=str(error.strerror),
            mend="check its permissions, or name another file",
        ) from None


def _whole(section: str, value: Any) -> Any:
    """Write a short section out: `lora` -> `{name: lora}`. Mappings are copied."""
    if isinstance(value, Settings):
        named: Any = value
        return ({"name": named.name} if SHORT.get(section) == "name" else {}) | _values(value)
    if isinstance(value, Mapping):
        return dict(value)
    if section == "method" and isinstance(value, list | tuple):
        return {"name": "combined", "methods": list(value)}  # `method: [bottleneck, lora]`
    return {SHORT[section]: value} if section in SHORT and value is not None else value


def _change(text: str) -> tuple[str, Any]:
    """Read one override of the command line: `a.b=c`, c in YAML."""
    key, equals, value = text.partition("=")
    if not (equals and key.strip()):
        raise ConfigError(
            f"-s {text}: not of the form key=value",
            found=f"no `=` in {text!r}" if not equals else f"no key in {text!r}",
            mend="-s method.rank=16",
        )
    return key.strip(), strict_yaml.read(value, f"-s {text}")


def _set(sections: dict[str, Any], dotted: str, value: Any) -> None:
    """Put `value` where `dotted` points, making the sections on the way."""
    section, *path = dotted.removesuffix(".name" if dotted in NAMES else "").split(".")
    if not path:
        old = sections.get(section)
        same = isinstance(old, Mapping) and isinstance(value, str) and old.get("name") == value
        sections[section] = old if same else _whole(section, value)
        return
    here, node = section, sections
    for key in path:
        inner = node.get(here)
        if (inner is not None and not isinstance(inner, Mapping | Settings)) or section == "model":
            raise ConfigError(
                f"-s {dotted}: `{here}` has no keys",
                found=_brief(inner),
                mend=f"-s {dotted.rpartition('.')[0]}={value}",
            )
        node[here] = dict(_whole(here, inner) or {})
        here, node = key, node[here]
    node[here] = value


def _build(sections: dict[str, Any], folder: Path | None, mistakes: list[LightuneError]) -> Recipe:
    """Check every section and put the recipe together.

    Raises:
        ConfigErrors: `mistakes` made so far, and those found here.
    """
    given = {section: value for section, value in sections.items() if value is not None}
    for key in sections:
        if key != COMPARE:
            _attempt(mistakes, _known, key)
    task = _attempt(mistakes, _named, "task", given.get("task", {}))
    usual = getattr(task, "default_model", DEFAULT_MODEL)
    model = _attempt(mistakes, _model, given.get("model", usual))
    method = given.get("method", {})
    if isinstance(method, Mapping):
        method = {"name": DEFAULT_METHOD} | dict(method)
    method = _attempt(mistakes, _named, "method", method)
    data = _attempt(mistakes, _data, given.get("data", {}))
    train = _attempt(mistakes, _section, TrainSpec, given.get("train", {}), "train")
    if mistakes or not (task and model and method and data and train):
        raise ConfigErrors(mistakes)
    notes: list[str] = []
    if task.bare_files and data.format is None:
        data = data.model_copy(update={"format": task.bare_files})
    if folder is not None:
        near = {
            key: _beside(folder, getattr(data, key), f"data.{key}", notes)
            for key in ("train", "test", "validation")
        }
        data = data.model_copy(update=near)
        source = _beside(folder, train.from_run, "train.from", notes)
        train = train.model_copy(update={"from_run": source})
    return Recipe(task, model, method, data, train, tuple(notes))


def _attempt(
    mistakes: list[LightuneError], function: Callable[..., T], *arguments: Any
) -> T | None:
    """Call `function`; what it finds wrong is added to `mistakes`, so that reading goes on."""
    try:
        return function(*arguments)
    except ConfigErrors as errors:
        mistakes.extend(errors.mistakes)
    except ConfigError as error:
        mistakes.append(error)
    return None


def _known(key: str) -> None:
    """Refuse a section that does not exist; say where the key belongs if it is known elsewhere."""
    if key in SECTIONS:
        return
    near = nearest(key, SECTIONS)
    mend = f"sections that exist: {', '.join(SECTIONS)}"
    for section, spec in (("train", TrainSpec), ("data", DataSpec)):
        if key in keys(spec):
            mend = f"it belongs under `{section}`: `{section}: {{{key}: …}}`"
    raise ConfigError(
        f"{key}: unknown key",
        found=f"a section {key!r} in the recipe",
        mend=f"did you mean `{near}`?" if near else mend,
    )


def _section(spec: type[S], values: Any, section: str) -> S:
    """Parse one section."""
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{section}: a mapping is expected",
            found=_brief(values),
            mend=f"keys that exist: {', '.join(keys(spec))}",
        )
    return parse(spec, {str(key): value for key, value in values.items()}, section)


def _named(section: str, values: Any) -> Any:
    """Parse the section of a task or a method; its `name` says which class reads the rest."""
    rest = dict(values) if isinstance(values, Mapping) else {"name": values}
    name = rest.pop("name", None)
    package = f"lightune.{section}s"
    if not isinstance(name, str) or not name:
        known = registry.scan(package)
        raise ConfigError(
            f"{section}: no {section} is named",
            found=_brief(name) if name else f"keys: {', '.join(map(str, rest)) or 'none'}",
            mend=f"`{section}: {next(iter(known))}`; known: {', '.join(known)}",
        )
    return _section(registry.find(package, name, section), rest, section)


def _model(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(
            "model: the name of a model is expected",
            found=_brief(value),
            mend="`model: minilm`, a hub id, `ms:<ModelScope id>`, or a folder",
        )
    return value


def _data(values: Any) -> DataSpec:
    spec = _section(DataSpec, values, "data")
    if spec.train is None:
        given = [key for key, value in dict(values).items() if value is not None]
        raise ConfigError(
            "data.train: no training data is named",
            found=f"keys of `data`: {', '.join(map(str, given)) or 'none'}",
            mend="`data: reviews.csv`, or on the command line: --data FILE",
        )
    return spec


def _beside(folder: Path, value: Any, key: str, notes: list[str]) -> Any:
    """Return a path that exists only in the recipe's own folder with that folder before it."""
    if isinstance(value, list):
        return [_beside(folder, item, key, notes) for item in value]
    if not isinstance(value, str) or not value or os.path.isabs(value) or _exists(value):
        return value
    there = os.path.join(folder, value)
    if not _exists(there):
        return value
    notes.append(f"{key}: {value} is taken from the recipe's folder, {folder}")
    return there


def _exists(pattern: str) -> bool:
    if "\0" in pattern:
        return False
    return os.path.exists(pattern) or any(glob.iglob(pattern, recursive=True))


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:100] + " …"
