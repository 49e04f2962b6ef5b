"""Lightune: lightweight fine-tuning of language models, from a data file to a deployed adapter.

    import lightune
    run = lightune.train({"task": "classification", "data": {"train": "reviews.csv"}})
    run.predict(["a charming film"])

Importing this package does nothing else: torch loads with the first name that needs it.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "LightuneError": "lightune.errors",
    "Recipe": "lightune.recipe",
    "Run": "lightune.run",
}

__all__ = ["LightuneError", "Recipe", "Run", "__version__", "compare", "train"]


class _Package(ModuleType):
    """This package, with `train` and `compare` always the functions.

    Python sets a package's attribute to each folder in it that is imported, so that without this
    `lightune.train` would be the function until the folder `train/` is first imported, and that
    folder ever after.
    """

    @property
    def train(self) -> Any:
        return import_module("lightune.pipeline").train

    @train.setter
    def train(self, folder: ModuleType) -> None:
        """Leave the folder where `import` looks for it, in `sys.modules`, and only there."""

    @property
    def compare(self) -> Any:
        return import_module("lightune.compare.experiment").compare

    @compare.setter
    def compare(self, folder: ModuleType) -> None:
        """Leave the folder where `import` looks for it, as that of `train`."""


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lightune' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
