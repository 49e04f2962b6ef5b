"""What a call of `compare` asks for: a recipe and its section `compare`, both checked whole.

Why:        the command, the library and the rehearsal take the same words: a recipe, overrides by
            dotted key (`grid.method.rank` is `compare.grid.method.rank`), and settings by name.
Not here:   what is done with them (`experiment.py`), which settings there are (`spec.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightune.compare.spec import CompareSpec
from lightune.compare.wording import LANGUAGES
from lightune.errors import ConfigError
from lightune.recipe import SECTIONS, Recipe, compare_section, load_recipe
from lightune.settings import keys, parse


def check_language(lang: str) -> None:
    """Refuse a language that reports are not written in.

    Raises:
        ConfigError: which there are.
    """
    if lang not in LANGUAGES:
        raise ConfigError(
            f"--lang: there is no report in {lang!r}",
            found=f"languages: {', '.join(LANGUAGES)}",
            mend="--lang en",
        )


def resolve(
    recipe: Recipe | Mapping[str, Any] | str | Path | None,
    overrides: Sequence[str] | Mapping[str, Any],
    settings: Mapping[str, Any],
) -> tuple[Recipe, CompareSpec]:
    """Return the recipe and what is compared, both checked whole.

    Raises:
        ConfigErrors, ConfigError: what is wrong in either.
    """
    sections = {name: value for name, value in settings.items() if name in SECTIONS}
    ours = {name: value for name, value in settings.items() if name not in SECTIONS}
    source: Any = sections if recipe is None else recipe
    plain, of_compare = _parted(overrides)
    resolved = load_recipe(source, plain)
    if recipe is not None and sections:
        resolved = load_recipe(resolved, sections)
    said = {} if isinstance(source, Recipe) else compare_section(source, of_compare)
    if isinstance(source, Recipe):
        said = compare_section({}, of_compare)
    if not isinstance(said, Mapping):
        raise ConfigError(
            "compare: a mapping is expected",
            found=repr(said)[:100],
            mend=f"keys that exist: {', '.join(keys(CompareSpec))}",
        )
    given = {name: value for name, value in ours.items() if value is not None}
    return resolved, parse(CompareSpec, {**said, **given}, "compare")


def _parted(overrides: Sequence[str] | Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the overrides of the training, and those of the comparison."""
    own = ("grid.", "tune.", "compare.")
    if isinstance(overrides, Mapping):
        mine = {k: v for k, v in overrides.items() if str(k).startswith(own)}
        rest = {k: v for k, v in overrides.items() if k not in mine}
        return rest, {_full(k): v for k, v in mine.items()}
    texts = [overrides] if isinstance(overrides, str) else list(overrides)
    plain = [text for text in texts if not text.startswith(own)]
    return plain, [_full(text) for text in texts if text.startswith(own)]


def _full(key: str) -> str:
    return key if key.startswith("compare.") else f"compare.{key}"
