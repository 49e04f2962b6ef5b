"""Settings: frozen, strict, documented by attribute docstrings; and how a wrong one is reported.

The docstring under each field is its only description: `--help`, the recipe that
`lightune init` writes and the reference page are made from it.
"""

from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from lightune.errors import ConfigError, ConfigErrors, LightuneError, nearest


class Settings(BaseModel):
    """Base of every settings class: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _yes_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse `true` for a number, which pydantic would read as 1."""
        if isinstance(value, bool) and info.field_name in cls.model_fields:
            kinds = _kinds(cls.model_fields[info.field_name].annotation)
            if bool not in kinds and kinds & {int, float}:
                raise ValueError("must be a number, not true or false")
        return value


def _kinds(annotation: Any) -> set[Any]:
    """Return the plain types an annotation is made of."""
    parts = get_args(annotation)
    return set().union(*map(_kinds, parts)) if parts else {annotation}


S = TypeVar("S", bound=Settings)

_SAID = {
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
}
"""What pydantic finds wrong, by its error types, in the words of a recipe."""


def parse(spec: type[S], values: Mapping[str, Any], section: str) -> S:
    """Build `spec` from one section of a recipe.

    A validator may raise `ValueError("problem | mend")`; the part after the bar becomes the mend.

    Raises:
        ConfigErrors: every mistake of the section at once.
    """
    try:
        return spec.model_validate(dict(values))
    except ValidationError as error:
        mistakes: dict[str, list[Any]] = {}
        for e in error.errors():
            mistakes.setdefault(".".join(_where(spec, e)[0]), []).append(e)
        raise ConfigErrors([_mistake(spec, es, section) for es in mistakes.values()]) from None


def keys(spec: type[Settings]) -> dict[str, FieldInfo]:
    """Return the fields of `spec` by the key that a recipe uses."""
    return {(info.alias or name): info for name, info in spec.model_fields.items()}


def _where(spec: type[Settings], error: Any) -> tuple[list[str], type[Settings]]:
    """Return the path of keys that `error` is about, and the settings class that has the last."""
    path: list[str] = []
    for part in map(str, error["loc"]):
        if path:
            info = keys(spec).get(path[-1])
            inner = info.annotation if info else None
            if not (isinstance(inner, type) and issubclass(inner, Settings)):
                break
            spec = inner
        path.append(part)
    return path, spec


def _said(error: Any) -> str:
    """Return what is wrong, in one clause."""
    words = _SAID.get(error["type"])
    if words is None:
        return str(error["msg"]).removeprefix("Value error, ")
    return words.format(**error.get("ctx", {}))


def _mistake(spec: type[Settings], errors: list[Any], section: str) -> LightuneError:
    """Turn what pydantic says of one key (several lines where it takes several types) into ours."""
    error = errors[0]
    path, owner = _where(spec, error)
    known, key = keys(owner), path[-1] if path else ""
    where = ".".join(part for part in (section, *path) if part) or "recipe"
    texts = dict.fromkeys(map(_said, errors))
    first, *others = texts
    others = [text.removeprefix("must be ") for text in others]
    problem, _, mend = ", or ".join([first, *others]).partition(" | ")
    if error["type"] == "extra_forbidden":
        near = nearest(key, known)
        listing = ", ".join(sorted(known))
        problem = "unknown key"
        mend = f"did you mean `{near}`?" if near else f"keys that exist: {listing}"
    elif not mend and key in known:
        info = known[key]
        default = ""
        if not info.is_required():
            default = f" Default: {info.get_default(call_default_factory=True)}."
        mend = f"{' '.join((info.description or problem).split())}{default}"
    found = "" if error["type"] == "missing" else repr(error["input"])
    return ConfigError(
        f"{where}: {problem}", found=found if len(found) <= 200 else found[:200] + " …", mend=mend
    )
