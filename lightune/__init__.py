"""Lightune: lightweight fine-tuning of language models, from a data file to a deployed adapter.

    import lightune
    run = lightune.train({"task": "classification", "data": {"train": "reviews.csv"}})
    run.predict(["a charming film"])

Importing this package does nothing else: torch loads with the first name that needs it.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "LightuneError": "lightune.errors",
    "Recipe": "lightune.recipe",
    "Run": "lightune.run",
    "train": "lightune.pipeline",
}

__all__ = ["LightuneError", "Recipe", "Run", "__version__", "train"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lightune' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
