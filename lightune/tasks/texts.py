"""Texts and pairs of texts -> token ids, for tasks that say one thing of a whole text.

Invariants: what truncation drops is counted exactly; a text is never read as a special token; a
            text without tokens gets one, so that the model has something to say something of.
"""

from collections.abc import Sequence
from typing import Any

from lightune.errors import ConfigError, DataError
from lightune.settings import Settings
from lightune.tasks.base import Field
from lightune.tasks.guesses import PAIR_COLUMNS, TEXT_COLUMNS
from lightune.tasks.labels import is_missing
from lightune.types import Record

Encoded = tuple[dict[str, list[int]], int]
"""The model's inputs, and how many tokens truncation lost."""

TEXT_FIELDS = (
    Field("text", TEXT_COLUMNS),
    Field("text_pair", PAIR_COLUMNS, needed_to_train=False, needed_to_predict=False),
)
"""What `TextOrPair` reads from a row."""


class TextOrPair(Settings):
    """The settings of a `Task` that reads one text or a pair; put it before `Task` among the
    bases, and whether records are pairs into its state as `pair`."""

    text: str | list[str] | None = None
    """Column of the text, or several that are joined; guessed from common names when left out."""
    text_pair: str | list[str] | None = None
    """Column of the second text where each record is a pair of texts."""

    def needed_after(self, state: dict[str, Any]) -> tuple[str, ...]:
        """Return the fields that a model trained on pairs cannot do without."""
        return ("text_pair",) if state.get("pair") else ()


def are_pairs(records: Sequence[Record]) -> bool:
    """Return whether any record has a second text."""
    return any(not is_missing(record.values.get("text_pair")) for record in records)


def encode_texts(
    records: Sequence[Record], tokenizer: Any, pair: bool, max_length: int
) -> list[Encoded]:
    """Tokenise `text`, and `text_pair` where records are pairs; in order.

    Raises:
        ConfigError: `max_length` leaves no room for a text.
        DataError: a record lacks a text.
    """
    texts = [text_of(record, "text") for record in records]
    pairs = [text_of(record, "text_pair") for record in records] if pair else None
    special = tokenizer.num_special_tokens_to_add(pair=pair)
    if max_length <= special + pair:
        raise ConfigError(
            f"train.max_length: {max_length} leaves no room for a text",
            found=f"{special} special tokens per record",
            mend="train.max_length=128",
        )
    if not texts:
        return []
    # "[SEP]" or "</s>" in a user's text is text, not a special token
    options = {"return_attention_mask": False, "verbose": False, "split_special_tokens": True}
    whole = tokenizer(texts, pairs, **options)
    # only the long ones are tokenised again: the truncation of pairs is the tokenizer's affair
    long = [i for i, ids in enumerate(whole["input_ids"]) if len(ids) > max_length]
    short = {}
    if long:
        second = None if pairs is None else [pairs[i] for i in long]
        cut = {"truncation": "longest_first", "max_length": max_length}
        short = tokenizer([texts[i] for i in long], second, **options, **cut)
    at = {i: k for k, i in enumerate(long)}
    encoded = []
    for i, record in enumerate(records):
        source, k = (short, at[i]) if i in at else (whole, i)
        inputs = {name: list(rows[k]) for name, rows in source.items()}
        dropped = len(whole["input_ids"][i]) - len(inputs["input_ids"])
        if not inputs["input_ids"]:
            inputs = one_token(inputs, tokenizer, record)
        encoded.append((inputs, dropped))
    return encoded


def text_of(record: Record, field: str) -> str:
    """Return one text of a record.

    Raises:
        DataError: it is not there.
    """
    value = record.values.get(field)
    if value is None:
        raise DataError(
            f"{record.place}: the field {field!r} is missing",
            found=f"fields of this record: {', '.join(map(str, record.values)) or 'none'}",
            mend=f"name its column: task.{field}=COLUMN",
        )
    return value if isinstance(value, str) else str(value)


def one_token(inputs: dict[str, list[int]], tokenizer: Any, record: Record) -> dict[str, list[int]]:
    """Stand one special token in for a text without tokens (decoders add none to empty texts)."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id):
        if token is not None:
            return {name: [token if name == "input_ids" else 0] for name in inputs}
    raise DataError(f"{record.place}: the text has no tokens", mend="remove the row")
