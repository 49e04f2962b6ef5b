"""Words -> tokens that a model reads, in windows that overlap where a text is long.

Why:        a word has one tag and may have several tokens: its first one carries the tag. A model
            reads so many tokens, and a document has more: each window has a part of it, and a word
            that two of them hold belongs to the one that shows more of what stands around it.
Invariants: every word belongs to exactly one window, whole or not; a window begins with the first
            token of a word. What is counted as lost: the tokens of a word that alone is longer
            than a window, and words of which a tokenizer makes no token at all.
Not here:   what a word is (`tagging.py`), the loss (`token_classification.py`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lightune.errors import ConfigError, ModelError

FEWEST = 8
"""Tokens of a text that a window must have room for."""

OPTIONS = {
    "is_split_into_words": True,
    "return_attention_mask": False,
    "split_special_tokens": True,
    "verbose": False,
}


@dataclass(frozen=True, slots=True)
class Window:
    """One example's worth of words.

    Attributes:
        inputs: what the model reads.
        words: numbers of the words that belong to this window, in order.
        at: the place of each one's first token among the inputs.
        lost: tokens and words that are not read.
    """

    inputs: dict[str, list[int]]
    words: list[int]
    at: list[int]
    lost: int


def read_words(
    texts: Sequence[Sequence[str]],
    blanks: Sequence[Sequence[bool]],
    tokenizer: Any,
    max_length: int,
    overlap: int,
) -> Iterator[list[Window]]:
    """Yield the windows of each text; at least one, even of a text without words.

    Args:
        texts: the words of each.
        blanks: whether a blank stands before each word.
        overlap: tokens that a window shares with the one before; less where windows are short.

    Raises:
        ConfigError: `max_length` leaves no room.
        ModelError: the tokenizer does not tell which token is of which word.
    """
    if not tokenizer.is_fast:
        raise ModelError(
            "the model's tokenizer does not say which token is of which word",
            found=type(tokenizer).__name__,
            mend="a model with a `tokenizer.json`: `lightune models` lists some",
        )
    room = max_length - tokenizer.num_special_tokens_to_add(pair=False)
    if room < FEWEST:
        raise ConfigError(
            f"train.max_length: {max_length} leaves no room for a text",
            found=f"{max_length - room} special tokens",
            mend="train.max_length=128",
        )
    spaced = _wants_blanks(tokenizer)
    given = [
        [
            f" {word}" if blank and spaced else word
            for word, blank in zip(words, before, strict=True)
        ]
        for words, before in zip(texts, blanks, strict=True)
    ]
    if not given:
        return
    read = tokenizer(given, **OPTIONS)
    for i, words in enumerate(given):
        columns = {name: list(rows[i]) for name, rows in read.items()}
        yield _windows(columns, read.word_ids(i), len(words), room, min(overlap, room // 2))


def _wants_blanks(tokenizer: Any) -> bool:
    """Return whether words with the blank before them become the tokens of the text as it is."""
    options = {"add_special_tokens": False}
    natural = tokenizer("of a text", **options)["input_ids"]
    apart = tokenizer(["of", " a", " text"], is_split_into_words=True, **options)["input_ids"]
    return bool(apart == natural)


def _windows(
    columns: dict[str, list[int]], owners: list[int | None], words: int, room: int, overlap: int
) -> list[Window]:
    """Cut one tokenised text.

    Args:
        columns: ids and further inputs of all its tokens.
        owners: the word of each token; None for special ones, which stand at the two ends.
    """
    body = [i for i, owner in enumerate(owners) if owner is not None]
    head = list(range(body[0])) if body else list(range(len(owners)))
    tail = list(range(body[-1] + 1, len(owners))) if body else []
    firsts = [i for i in body if i == body[0] or owners[i] != owners[i - 1]]
    ends = [*firsts[1:], body[-1] + 1] if body else []
    unread = words - len(firsts)
    spans = list(_spans(firsts, ends, room, overlap)) or [(0, 0)]
    # between two windows, the words they share are parted in the middle
    shared = [(later[0] + earlier[1] + 1) // 2 for earlier, later in pairwise(spans)]
    owned = list(zip([0, *shared], [*shared, len(firsts)], strict=True))
    made = []
    for number, ((a, b), (first, end)) in enumerate(zip(spans, owned, strict=True)):
        begin, stop = (firsts[a], min(ends[b - 1], firsts[a] + room)) if b else (0, 0)
        kept = [*head, *range(begin, stop), *tail]
        inputs = {name: [values[i] for i in kept] for name, values in columns.items()}
        at = [len(head) + firsts[i] - begin for i in range(first, end)]
        lost = (ends[b - 1] - stop if b else 0) + (unread if number == 0 else 0)
        numbers = [int(owners[firsts[i]] or 0) for i in range(first, end)]
        made.append(Window(inputs, numbers, at, lost))
    return made


def _spans(
    firsts: list[int], ends: list[int], room: int, overlap: int
) -> Iterator[tuple[int, int]]:
    """Yield first and end word of each window; a word that is too long has a window of its own."""
    a = 0
    while a < len(firsts):
        b = a + 1
        while b < len(firsts) and ends[b] - firsts[a] <= room:
            b += 1
        yield a, b
        if b == len(firsts):
            return
        again = b
        while again - 1 > a and ends[b - 1] - firsts[again - 1] <= overlap:
            again -= 1
        while again < b and ends[b] - firsts[again] > room:  # what is next must fit, too
            again += 1
        a = again
