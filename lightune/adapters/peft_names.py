"""The names in an adapter file of PEFT's, and the names that the model here has for the same.

    base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight
    bert.encoder.layer.0.attention.self.query.lora_A.default.weight         (a raw state dict)
    base_model.model.classifier.modules_to_save.default.weight              (the same, of a head)

Why:        PEFT's writers differ in the prefix and in whether the adapter's own name is inside;
            and Transformers moves a model's parts between versions (`language_model.model.` and
            `model.language_model.`), which PEFT answers with one warning and an adapter left at
            its random start.
Invariants: one beginning of a path may stand for another where that alone makes every adapted
            layer exist here, in exactly one way; no number in a path is ever changed, and nothing
            is left out. What was mapped is said.
"""

import re
from collections.abc import Iterable, Mapping

PREFIXES = ("base_model.model.", "base_model.")
_NAMED = re.compile(
    r"\.(lora_A|lora_B|lora_magnitude_vector|ia3_l|ln_tuning_layers)\.(?!(?:weight|bias)$)[^.]+"
)
_MAGNITUDE = re.compile(r"\.lora_magnitude_vector\.weight$")


def plain(name: str) -> str:
    """Return a tensor's name without PEFT's prefix and without the adapter's own name."""
    for prefix in PREFIXES:
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            break
    name = _NAMED.sub(r".\1", name)
    name = re.sub(r"\.modules_to_save\.[^.]+\.", ".", name)
    return _MAGNITUDE.sub(".lora_magnitude_vector", name)


def moved(paths: Iterable[str], here: Iterable[str]) -> tuple[str, str] | None:
    """Return the beginning of `paths` and what it is called here, or None where there is no way.

    Args:
        paths: the layers that a file adapts, as the file calls them.
        here: the layers that the model has.
    """
    wanted, known = list(paths), set(here)
    if not wanted:
        return None
    first = wanted[0].split(".")
    ways: set[tuple[str, str]] = set()
    for other in known:
        parts = other.split(".")
        same = 0
        while same < min(len(first), len(parts)) and first[-1 - same] == parts[-1 - same]:
            same += 1
        old = ".".join(first[: len(first) - same])
        new = ".".join(parts[: len(parts) - same])
        if same and old != new and not re.search(r"\d", old + new):
            ways.add((old, new))
    fitting = [way for way in ways if all(renamed(path, way) in known for path in wanted)]
    return fitting[0] if len(fitting) == 1 else None


def renamed(path: str, way: tuple[str, str] | None) -> str:
    """Return `path` with one beginning in place of another; itself where it begins otherwise."""
    if way is None:
        return path
    old, new = way
    if old and not f"{path}.".startswith(f"{old}."):
        return path
    rest = path[len(old) :].lstrip(".") if old else path
    return f"{new}.{rest}".strip(".")


def in_file(names: Iterable[str], way: tuple[str, str] | None) -> Mapping[str, str]:
    """Return `{name here, without prefix: name in the file}`."""
    return {renamed(plain(name), way): name for name in names}
