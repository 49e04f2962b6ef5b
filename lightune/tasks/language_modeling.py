"""Language modelling: plain texts are learnt as they are (continuation, domain adaptation).

How:        a document is its start token, its text and its end token. What is longer than
            `train.max_length` becomes several windows, each of which begins with the last `overlap`
            tokens of the one before, read and not learnt, so that every token is predicted once.
Packing:    none. A window is a row of its own and batches are made of windows of like length
            (`engine/batches.py`), so that no document sees another, under any attention and with
            any method's prompts, and little is padding.
Scores:     perplexity per token; bits per byte, which also compares models of other tokenizers:
            bits of all predicted tokens, the end token's too, per byte of the text in UTF-8.
Prediction: how the text goes on, and its loss.
Errors:     `ConfigError` where `overlap` leaves a window nothing new.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import PositiveInt

from lightune.errors import ConfigError, ModelError
from lightune.metrics.intervals import Weights
from lightune.nn import losses
from lightune.tasks import base
from lightune.tasks.base import Resampling, Scores, Task
from lightune.tasks.decoding import Decoding, HowWritten
from lightune.tasks.written import Written, losses_of, of_loss
from lightune.types import Example, Generation, HeadSpec, Prediction, Purpose, Record


class LanguageModeling(Written, Task):
    """Plain texts."""

    name: ClassVar[str] = "language_modeling"
    summary: ClassVar[str] = "learn plain texts: continue them, or adapt a model to a domain"
    fields: ClassVar[tuple[base.Field, ...]] = (
        base.Field("text", ("text", "document", "content", "body", "article", "文本", "正文")),
    )
    deciding: ClassVar[str] = "log_likelihood"
    default_model: ClassVar[str] = "smollm2-135m"
    bare_files: ClassVar[Literal["text", "conll"] | None] = "text"

    text: str | list[str] | None = None
    """Column of the texts, where the file is a table; guessed from common names when left out. A
    `.txt` file has none: each of its paragraphs, parted by empty lines, is a document."""
    overlap: PositiveInt = 1
    """Tokens of a long document that each window reads again from the one before."""
    max_new_tokens: PositiveInt = 128
    """When predicting, a text goes on for so many tokens if it does not end before."""
    decoding: HowWritten = Decoding()
    """How it goes on."""

    def head(self, state: dict[str, Any]) -> HeadSpec:
        return HeadSpec("causal_lm")

    def fit_tokenizer(self, tokenizer: Any, state: dict[str, Any]) -> dict[str, Any]:
        end = tokenizer.eos_token_id
        if end is None:
            raise ModelError(
                "the model's tokenizer has no end token, so that no text could end",
                found=f"special tokens: {tokenizer.special_tokens_map}",
                mend="set `eos_token` in the model's tokenizer_config.json",
            )
        start = end if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        return {**state, "start": int(start), "end": int(end)}

    def encode(
        self, records: Sequence[Record], tokenizer: Any, state: dict[str, Any], max_length: int
    ) -> list[Example]:
        """Tokenise; a long document has several examples.

        Raises:
            ConfigError: `overlap` is no less than `max_length`.
        """
        if self.overlap >= max_length:
            raise ConfigError(
                "task.overlap: a window would hold nothing new",
                found=f"overlap: {self.overlap}, max_length: {max_length}",
                mend=f"task.overlap={max(1, max_length // 4)}",
            )
        options = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
        examples = []
        kept = max(max_length // 2, max_length - self.max_new_tokens)  # leaves room to go on
        for index, record in enumerate(records):
            text = tokenizer(str(record.values["text"]), **options)["input_ids"]
            whole = [state["start"], *text, state["end"]]
            for begin in range(0, max(1, len(whole) - self.overlap), max_length - self.overlap):
                ids = whole[begin : begin + max_length]
                seen = self.overlap if begin else 1
                labels = [losses.NO_LABEL] * seen + ids[seen:]
                prompt = whole[:-1][-kept:]
                examples.append(Example(index, {"input_ids": ids}, labels, 0, prompt))
        return examples

    def generation(
        self, tokenizer: Any, state: dict[str, Any], purpose: Purpose
    ) -> Generation | None:
        if purpose != "predict":
            return None
        return self.decoding.generation(self.max_new_tokens, {state["end"]})

    def truth(self, records: Sequence[Record], state: dict[str, Any]) -> list[Any]:
        return [str(record.values["text"]) for record in records]

    def compare(
        self,
        predictions: Sequence[Prediction],
        records: Sequence[Record],
        state: dict[str, Any],
        how: Resampling,
    ) -> Scores:
        sums = losses_of(predictions)
        sizes = np.array([len(text.encode()) for text in self.truth(records, state)], dtype=float)

        def statistic(weights: Weights) -> dict[str, np.ndarray]:
            found = of_loss(sums, weights)
            with np.errstate(divide="ignore", invalid="ignore"):
                bits = sums[0] @ weights / math.log(2) / (sizes @ weights)
            return {"perplexity": found["perplexity"], "bits_per_byte": bits} | found

        scores, tables = how.scores(statistic, len(records))
        tables |= {"tokens": int(sums[1].sum()), "bytes": int(sizes.sum())}
        return Scores(scores, tables, {})
