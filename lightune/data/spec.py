"""The recipe's section `data`: where the rows are, and how to read them."""

import codecs
from os import PathLike, fspath
from typing import Any, Literal

from pydantic import Field, field_serializer, field_validator

from lightune.data.frames import is_frame, name_of
from lightune.settings import Settings

Format = Literal["csv", "tsv", "json", "jsonl", "parquet", "text", "conll"]

_DELIMITERS = {"tab": "\t", r"\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}


class DataSpec(Settings):
    """Where the rows are, and how to read them."""

    train: Any = None
    """Files, folders, globs, or a hub data set (`hf:org/name`, `hf:org/name:config#split`). From
    Python also a pandas or polars frame, a `datasets.Dataset`, or a list of dicts."""
    test: Any = None
    """Like `train`, or the share of `train` to hold out (0.2 when left out, 0 for none)."""
    validation: Any = None
    """Like `test`; when left out, a tenth of `train` is held out only where training needs it."""
    format: Format | None = None
    """Format of the files; by their ending when left out. With `text` or `conll`, what has none of
    the other formats' endings (`.txt`) is plain text, a document to a paragraph, or has a word and
    its tag a line, and an empty line between sentences."""
    encoding: str = "utf-8"
    """Character encoding of text files; a byte-order mark is understood."""
    delimiter: str | None = None
    """What separates the cells of a CSV file: one character, or `tab`. Guessed when left out."""
    quoting: bool | None = None
    """Whether \" quotes cells, or is a character like others. Guessed per file when left out."""
    header: bool | None = None
    """Whether the first line names the columns. Guessed per file when left out."""
    columns: list[str] | None = Field(default=None, min_length=1)
    """Column names of a file without header."""
    split: str | None = None
    """Which split of a hub data set is trained on; `train` when left out."""
    revision: str | None = None
    """Commit, tag or branch of a hub data set."""
    overlap: Literal["refuse", "drop", "allow"] = "refuse"
    """What happens where test or validation files hold texts that `train` has too: the run is
    refused, they are dropped from `train`, or they are allowed and counted in the data report."""
    limit: int | None = Field(default=None, ge=1)
    """Train on this many rows only, drawn at random under the seed. For trying things out."""

    @field_validator("train", "test", "validation")
    @classmethod
    def _is_source(cls, value: Any, info: Any) -> Any:
        if value is None or isinstance(value, str) or is_frame(value):
            return value
        if isinstance(value, PathLike):
            return fspath(value)
        if isinstance(value, int | float) and info.field_name != "train":
            if isinstance(value, bool) or not 0 <= value < 1:
                raise ValueError(
                    f"a share must be at least 0 and below 1 | `{info.field_name}: 0.2`, or a file"
                )
            return float(value)
        if isinstance(value, list | tuple) and value:
            if all(isinstance(item, str | PathLike) for item in value):
                return [fspath(item) for item in value]
            if all(isinstance(item, dict) for item in value):
                return value
        raise ValueError(
            "must name files, folders, globs or a hub data set, or be a frame or a list of dicts"
            f" | `{info.field_name}: reviews.csv`"
        )

    @field_validator("encoding")
    @classmethod
    def _is_encoding(cls, value: str) -> str:
        try:
            codecs.lookup(value)
        except LookupError:
            raise ValueError(
                "no such encoding | `encoding: utf-8` or `encoding: gb18030`"
            ) from None
        return value

    @field_validator("delimiter")
    @classmethod
    def _is_delimiter(cls, value: str | None) -> str | None:
        value = _DELIMITERS.get(value or "", value)
        if value is not None and (len(value) != 1 or value in '\r\n"'):
            raise ValueError('must be one character | `delimiter: ";"` or `delimiter: tab`')
        return value

    @field_serializer("train", "test", "validation")
    def _as_text(self, value: Any) -> Any:
        """Name what YAML cannot hold, so that a run's recipe says what it was trained on."""
        if is_frame(value) or (isinstance(value, list) and isinstance(value[0], dict)):
            return name_of(value)
        return value
