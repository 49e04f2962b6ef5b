"""Prompt tuning: train a few vectors that stand among the word embeddings of a frozen model.

Paper:      Lester, Al-Rfou and Constant 2021, "The Power of Scale for Parameter-Efficient Prompt
            Tuning" (arXiv:2104.08691), section 2:

                [P; X]      P [tokens, width] trained, X [seq, width] the text's embeddings

            Departure: in encoders that classify by their first token, P comes after that token, so
            that the head still reads the text's own `[CLS]`; `reads: prompt` puts P in front, as
            PEFT does, and the head then reads P's first vector.
Start:      section 3.2 of the paper: words of the vocabulary (any but special tokens; the paper
            takes the 5,000 most frequent), the words of a text, the names of the classes (a name's
            words are averaged, what is left is filled with words of the vocabulary), or uniform
            from -0.5 to 0.5.
Cost:       tokens * width trained weights, width being that of the word embedding; every input is
            longer by `tokens`, in time and memory. A model with a limit of positions reads that
            much less text.
Saved as:   PEFT's `prompt_embeddings` where PEFT computes the same; else by its path.
Not here:   how a prompt enters a model (`nn/prompts.py`).
"""

from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, PrivateAttr, model_validator
from torch import Tensor, nn

from lightune.errors import MethodError
from lightune.methods.base import Attachment, Method
from lightune.nn.prompts import (
    NAME,
    PEFT_NAME,
    Positions,
    Prompt,
    Reader,
    Reads,
    insert,
    peft_layout,
    random_words,
    reader,
    room,
    word_vectors,
)
from lightune.nn.surgery import Surgery
from lightune.settings import Settings


class PromptSettings(Settings):
    """The settings of every method that puts vectors among the words."""

    tokens: int = Field(default=20, ge=1, le=1000)
    """Length of the prompt. From 1 to 1000; every input is longer by it."""
    reads: Reads = "text"
    """What an encoder's head reads in the first place: the text's own first token, or the prompt's
    first vector (PEFT's way). Other models read the text whatever is said here."""
    positions: Positions = "shifted"
    """Whether the text's positions move up by the prompt's length, or are kept (the prompt then
    stands where the text begins, and takes none of the model's positions)."""

    def room(self, model: nn.Module) -> int:
        """Return how many of the model's positions the prompt takes."""
        return room(model, self.tokens, self.positions)


class PromptTuning(PromptSettings, Method):
    """Trained vectors among the word embeddings."""

    name: ClassVar[str] = "prompt_tuning"
    paper: ClassVar[str] = "Lester et al. 2021, arXiv:2104.08691, section 2"
    summary: ClassVar[str] = "trained vectors among the words of the text"
    identity_at_init: ClassVar[bool] = False
    learning_rate: ClassVar[float] = 1e-2

    start: Literal["vocabulary", "text", "labels", "random"] = "vocabulary"
    """What the prompt starts from: random words of the vocabulary, the words of `text`, the names
    of the classes, or random numbers."""
    text: str | None = None
    """The text to start from, with `start: text`: repeated or cut to the prompt's length."""
    _tokenizer: Any = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if (self.start == "text") != bool(self.text):
            raise ValueError("`start: text` and `text: …` go together | give both or neither")
        return self

    def with_tokenizer(self, tokenizer: Any) -> Self:
        """Return the method, able to read `text` and the names of the classes."""
        ready = self.model_copy()
        ready._tokenizer = tokenizer
        return ready

    def loaded(self) -> Self:
        """Return the method without its start, which a saved prompt replaces."""
        return self.model_copy(update={"start": "random", "text": None})

    def attach(self, model: nn.Module) -> Attachment:
        where = reader(model, self.name)
        prompt = Prompt(self._start(model, where))
        surgery = Surgery(model)
        insert(model, surgery, where, prompt, self.tokens, self.positions, self.reads)
        path = f"{where.path}.{NAME}.weight".lstrip(".")
        return Attachment(
            surgery,
            {path: prompt.weight},
            peft_layout(where, self.positions, self.reads),
            peft_config={
                "peft_type": "PROMPT_TUNING",
                "num_virtual_tokens": self.tokens,
                "token_dim": prompt.weight.shape[1],
                "num_transformer_submodules": 1,
                "prompt_tuning_init": "RANDOM",
            },
            peft_names={path: PEFT_NAME},
        )

    def _start(self, model: Any, where: Reader) -> Tensor:
        """Return the first value of the prompt, `[tokens, width]`."""
        some = word_vectors(where.words, random_words(model, where.words, self.tokens))
        if self.start == "random":
            return torch.rand_like(some) - 0.5
        if self.start == "text":
            ids = self._ids(self.text or "")
            return word_vectors(where.words, ids.repeat(-(-self.tokens // len(ids)))[: self.tokens])
        if self.start == "labels":
            names = list(model.config.id2label.values())[: self.tokens]
            means = [word_vectors(where.words, self._ids(name)).mean(0) for name in names]
            return torch.cat([torch.stack(means), some[len(names) :]])
        return some

    def _ids(self, text: str) -> Tensor:
        """Return the token ids of `text`, `[count]`, at least one."""
        if self._tokenizer is None:
            raise MethodError(
                f"method.start: `{self.start}` needs the model's tokenizer",
                found="a method without one",
                mend="`method.with_tokenizer(tokenizer).attach(model)`, as `lightune train` does",
            )
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        if not ids:
            raise MethodError(
                f"method.start: the tokenizer finds no word in {text!r}",
                found="no token",
                mend="`start: vocabulary`, or another text",
            )
        return torch.tensor(ids)
