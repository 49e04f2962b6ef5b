"""A question and a long passage -> overlapping windows; logits of windows -> the best span.

Why:        a model reads 512 tokens, and a document has thousands. Each window has the question
            and a part of the passage; an answer is whole in one of them at least, if it is no
            longer than the overlap.
Invariants: the windows together hold every token of the passage. Places are characters of the
            passage as the user wrote it, so that an answer is a part of it, letter by letter.
Not here:   which answer is expected (`answers.py`), the loss (`question_answering.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightune.errors import ConfigError, ModelError

FEWEST = 8
"""Tokens of the passage that a window must have room for."""

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Window:
    """One example's worth of a passage.

    Attributes:
        inputs: what the model reads.
        places: first and end character of each token, or None for one that is no part of the
            passage.
        none: position of the token that stands for "no answer".
    """

    inputs: dict[str, list[int]]
    places: list[tuple[int, int] | None]
    none: int

    def tokens_of(self, start: int, end: int) -> tuple[int, int] | None:
        """Return the first and last token of the characters from `start` to `end`; None where
        this window does not hold them whole."""
        inside = [i for i, p in enumerate(self.places) if p and p[1] > start and p[0] < end]
        held = [p for p in self.places if p]
        if not inside or held[0][0] > start or held[-1][1] < end:
            return None
        return inside[0], inside[-1]


def cut(
    question: str, passage: str, tokenizer: Any, max_length: int, overlap: int
) -> tuple[list[Window], int]:
    """Return the windows of one passage, and how many tokens of the question were lost.

    A question that would take more than half of a window is cut.

    Args:
        overlap: tokens that a window shares with the one before; less where windows are short.

    Raises:
        ConfigError: `max_length` leaves no room.
        ModelError: the tokenizer does not tell where its tokens stand.
    """
    if not tokenizer.is_fast:
        raise ModelError(
            "the model's tokenizer does not say where in a text its tokens stand",
            found=type(tokenizer).__name__,
            mend="a model with a `tokenizer.json`: `lightune models` lists some",
        )
    plain = {"add_special_tokens": False, "verbose": False, "split_special_tokens": True}
    asked = tokenizer(question, return_offsets_mapping=True, **plain)["offset_mapping"]
    room = max_length - tokenizer.num_special_tokens_to_add(pair=True)
    kept = min(len(asked), room // 2)
    free = room - kept
    if free < FEWEST:
        raise ConfigError(
            f"train.max_length: {max_length} leaves no room for a passage",
            found=f"{max_length - room} special tokens, {kept} tokens of the question",
            mend="train.max_length=384",
        )
    question = question[: asked[kept - 1][1]] if kept < len(asked) else question
    read = tokenizer(
        question,
        passage,
        truncation="only_second",
        max_length=max_length,
        stride=min(overlap, free // 2),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_attention_mask=False,
        split_special_tokens=True,
        verbose=False,
    )
    names = [name for name in read if name not in ("offset_mapping", "overflow_to_sample_mapping")]
    windows = []
    for k, offsets in enumerate(read["offset_mapping"]):
        inputs = {name: list(read[name][k]) for name in names}
        parts = read.sequence_ids(k)
        places = [
            (int(start), int(end)) if part == 1 and end > start else None
            for part, (start, end) in zip(parts, offsets, strict=True)
        ]
        ids = inputs["input_ids"]
        first = tokenizer.cls_token_id
        # a decoder has read all at its last token; an encoder's first token stands for the whole
        none = ids.index(first) if first in ids else len(ids) - 1
        windows.append(Window(inputs, places, none))
    return windows, len(asked) - kept


def best_span(
    start: Logits, end: Logits, places: Sequence[Any], longest: int
) -> tuple[float, int, int]:
    """Return the highest sum of a start's and an end's logit, and that span's characters.

    All spans of at most `longest` tokens inside the passage are compared; the first of equals
    wins.

    Args:
        start, end: logits `[tokens]`.
        places: see `Window.places`.

    Returns:
        Score, first and end character; `-inf, 0, 0` for a window without passage.
    """
    allowed = np.array([place is not None for place in places], dtype=bool)
    starts = np.where(allowed, start[: len(places)].astype(np.float64), -np.inf)
    ends = np.where(allowed, end[: len(places)].astype(np.float64), -np.inf)
    best = (-np.inf, 0, 0)
    for more in range(min(longest, len(places))):
        sums = starts[: len(starts) - more] + ends[more:]
        i = int(sums.argmax())
        if sums[i] > best[0]:
            best = (float(sums[i]), places[i][0], places[i + more][1])
    return best
