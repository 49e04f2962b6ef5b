"""One answer, shown while it is written.

Invariants: the pieces that are shown, joined, are the answer: half a character waits for its other
            half, and the beginning of what may become a stop word waits until it is decided.
Not here:   conversations (`conversation.py`), which tokens are chosen (`models/generation.py`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from transformers.generation.streamers import BaseStreamer

from lightune.evaluate.generate import before_words
from lightune.evaluate.predict import evaluating
from lightune.models.generation import Decode, write
from lightune.types import Example, Generation

BROKEN = "\ufffd"
"""What stands for bytes that are no character yet."""


class Pieces(BaseStreamer):
    """Passes on the text of tokens as it becomes sure.

    Args:
        decode: gives the text of tokens.
        on_text: takes each piece.
        stop: tokens that end the answer.
        words: texts that end it.
    """

    def __init__(
        self,
        decode: Decode,
        on_text: Callable[[str], None],
        stop: Sequence[int] = (),
        words: Sequence[str] = (),
    ) -> None:
        self.decode, self.on_text, self.stop, self.words = decode, on_text, stop, words
        self.tokens: list[int] = []
        self.shown = ""
        self.begun = False

    def put(self, value: Any) -> None:
        """Take new tokens; the first that come are the prompt."""
        if not self.begun:
            self.begun = True
            return
        self.tokens += [token for token in value.flatten().tolist() if token not in self.stop]
        text, ended = before_words(self.decode(self.tokens), self.words)
        if not ended:
            text = text[: len(text) - self._unsure(text)]
        if not text.endswith(BROKEN):
            self._show(text.rstrip())  # an answer has no white space before its stop word

    def end(self) -> None:
        """Show what waited."""
        self._show(before_words(self.decode(self.tokens), self.words)[0])

    def _unsure(self, text: str) -> int:
        """Return how many characters at the end may be the beginning of a stop word."""
        starts = (n for word in self.words for n in range(1, len(word)) if text.endswith(word[:n]))
        return max(starts, default=0)

    def _show(self, text: str) -> None:
        if len(text) > len(self.shown) and text.startswith(self.shown):
            self.on_text(text[len(self.shown) :])
            self.shown = text


def stream(
    model: nn.Module,
    example: Example,
    how: Generation,
    *,
    pad_id: int,
    decode: Decode,
    on_text: Callable[[str], None],
    device: torch.device | str = "cpu",
) -> list[int]:
    """Write an answer to one prompt, showing it meanwhile; return its tokens.

    Args:
        how: with one beam: several are not decided before the end.
    """
    ids = torch.tensor([example.prompt], device=device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    pieces = Pieces(decode, on_text, how.stop, how.stop_words)
    with evaluating(model):
        [tokens] = write(model, inputs, how, pad_id, decode, pieces)
    return tokens
