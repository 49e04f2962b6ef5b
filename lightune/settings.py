"""Settings: frozen, strict, documented by attribute docstrings; and how a wrong one is reported.

The docstring under each field is its only description: `--help`, the recipe that
`lightune init` writes and the reference page are made from it.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from lightune.errors import ConfigError, ConfigErrors, LightuneError


class Settings(BaseModel):
    """Base of every settings class: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


S = TypeVar("S", bound=Settings)


def parse(spec: type[S], values: Mapping[str, Any], section: str) -> S:
    """Build `spec` from one section of a recipe.

    A validator may raise `ValueError("problem | mend")`; the part after the bar becomes the mend.

    Raises:
        ConfigErrors: every mistake of the section at once.
    """
    try:
        return spec.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigErrors([_mistake(spec, e, section) for e in error.errors()]) from None


def _mistake(spec: type[Settings], error: Any, section: str) -> LightuneError:
    known = {(info.alias or name): info for name, info in spec.model_fields.items()}
    location = [str(part) for part in error["loc"]]
    key = location[0] if location else ""
    where = ".".join(part for part in (section, key) if part) or "recipe"
    problem, _, mend = error["msg"].removeprefix("Value error, ").partition(" | ")
    if error["type"] == "extra_forbidden":
        near = get_close_matches(location[-1], known, n=1, cutoff=0.5)
        listing = ", ".join(sorted(known))
        problem = "unknown key"
        mend = f"did you mean `{near[0]}`?" if near else f"keys that exist: {listing}"
    elif not mend and key in known:
        info = known[key]
        default = "" if info.is_required() else f" Default: {info.get_default(call_default_factory=True)}."
        mend = f"{info.description or problem}{default}"
    return ConfigError(f"{where}: {problem}", found=repr(error["input"]), mend=mend)
