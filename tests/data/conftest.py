"""What every data test needs: the fields of a text task, a file maker, a reader."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lightune.data.columns import known_names
from lightune.data.read import read_tables
from lightune.data.records import Made, make_records
from lightune.data.spec import DataSpec


@dataclass(frozen=True)
class Field:
    """As `tasks.base.Field`, which this folder must not import."""

    name: str
    guesses: tuple[str, ...]
    kind: str = "text"
    needed_to_train: bool = True
    needed_to_predict: bool = True


FIELDS = (
    Field("text", ("text", "sentence", "content", "text_a", "review", "#1 string", "sentence1")),
    Field("text_pair", ("text_pair", "sentence2", "#2 string"), "text", False, False),
    Field("label", ("label", "labels", "class", "quality"), "label", True, False),
)


@pytest.fixture
def fields() -> tuple[Field, ...]:
    return FIELDS


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes a file (a str as UTF-8) and returns its path."""

    def make(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return make


@pytest.fixture
def load() -> Callable[..., Made]:
    """Return a function from a source to what was made of it: `load(path, need=…, **spec)`."""

    def read(source: Any, mapped: Any = None, need: str = "train", multi: Any = None, **spec: Any):
        tables = read_tables(source, DataSpec(**spec), known_names(FIELDS, mapped or {}))
        return make_records(tables, FIELDS, mapped or {}, need, multi)

    return read
