"""From one text to another: what translation, summarization and text2text have in common.

Models:     an encoder–decoder reads the source and learns the target; a decoder is given the source
            as a question in its chat template, and learns the answer (`chat_template.py`).
Targets:    one text, or a list of equally good ones. The first is learnt; all are references, and
            so are those of other rows with the same source, which is then scored once.
State:      `{"form": "seq2seq" or "decoder", "notes"}`, of decoders also `chat_template`, `end`.
Scores:     of real writing, by greedy choice while training and as `decoding` says after it; and
            the loss of the targets.
Invariants: a target keeps its end token unless it is cut, and a cut one is counted. A source that
            is too long loses its end, which is counted; a decoder's target is never cut.
Errors:     `DataError` for rows without target; for rows of which nothing is left to learn.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import PositiveInt
from torch import Tensor, nn

from lightune.errors import DataError, ModelError
from lightune.metrics import translation
from lightune.metrics.intervals import Weights
from lightune.metrics.text import rouge_l, rouge_n, words
from lightune.nn import losses
from lightune.settings import Settings
from lightune.tasks import chat_template
from lightune.tasks.base import Resampling, Scores
from lightune.tasks.chat import Turn
from lightune.tasks.decoding import Decoding, HowWritten
from lightune.tasks.written import Written, losses_of, mean_of, of_loss
from lightune.types import (
    Batch,
    Example,
    Generation,
    HeadKind,
    HeadSpec,
    Prediction,
    Purpose,
    Record,
)

SHOWN = 5
HEADS: dict[str, HeadKind] = {"seq2seq": "seq2seq_lm", "decoder": "causal_lm"}
ROUGES: dict[str, Callable[[str, str], float]] = {
    "rouge_1": partial(rouge_n, n=1),
    "rouge_2": partial(rouge_n, n=2),
    "rouge_l": rouge_l,
}
Split = Literal["auto", "13a", "zh", "char", "intl", "none"]


class SourceTarget(Written, Settings):
    """Settings and behaviour of a task that writes a target for a source."""

    measured: ClassVar[tuple[str, ...]]
    """Which scores of the texts there are, the first first: `bleu`, `chrf`, `rouge_1` …"""

    source: str | list[str] | None = None
    """Column of the text to start from; guessed from common names when left out."""
    target: str | None = None
    """Column of the text to write, or of a list of equally good ones; guessed from common names
    when left out."""
    instruction: str = ""
    """What stands before every source, such as `Translate into French: `."""
    max_new_tokens: PositiveInt = 128
    """What is written is cut here if it does not end before."""
    decoding: HowWritten = Decoding()
    """How it is written."""
    split: Split = "auto"
    """How BLEU splits texts into words, by sacreBLEU's names; auto takes `zh` for Chinese, `char`
    for Japanese and Korean, else `13a`."""

    def check(self, records: Sequence[Record]) -> None:
        """See `Task.check`."""
        if {"bleu", "chrf"} & set(self.measured):
            translation.library()
        bad = [record.place for record in records if not targets_of(record)]
        if bad:
            more = f" … and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
            raise DataError(
                f"{bad[0]}: nothing to learn: the target is missing or empty",
                found=f"{len(bad)} of {len(records)} rows: "
                f"{', '.join(map(str, bad[:SHOWN]))}{more}",
                mend="complete or remove these rows, or name the column: task.target=COLUMN",
            )

    def study(self, records: Sequence[Record]) -> dict[str, Any]:
        """See `Task.study`."""
        several = sum(len(targets_of(record)) > 1 for record in records)
        note = f"{several} training rows have several targets: the first of each is learnt"
        return {"notes": [note] if several else []}

    def head(self, state: dict[str, Any]) -> HeadSpec:
        """See `Task.head`."""
        return HeadSpec(HEADS.get(state.get("form", ""), "any_lm"))

    def fit_model(self, config: Any, state: dict[str, Any]) -> dict[str, Any]:
        """See `Task.fit_model`."""
        return {**state, "form": "seq2seq" if config.is_encoder_decoder else "decoder"}

    def fit_tokenizer(self, tokenizer: Any, state: dict[str, Any]) -> dict[str, Any]:
        """See `Task.fit_tokenizer`."""
        if state["form"] == "decoder":
            return chat_template.fitted(tokenizer, state)
        if tokenizer.eos_token_id is None or hasattr(tokenizer, "tgt_lang"):
            lacks = "an end token" if tokenizer.eos_token_id is None else "one language to write in"
            raise ModelError(
                f"the model's tokenizer lacks {lacks}",
                found=f"{type(tokenizer).__name__}: {tokenizer.special_tokens_map}"[:200],
                mend="a model of T5's, BART's or Marian's kind, or a decoder",
            )
        return state

    def encode(
        self, records: Sequence[Record], tokenizer: Any, state: dict[str, Any], max_length: int
    ) -> list[Example]:
        """See `Task.encode`.

        Raises:
            DataError: nothing of a source is left beside its target.
        """
        if state["form"] == "seq2seq":
            return [
                self._pair(index, record, tokenizer, max_length)
                for index, record in enumerate(records)
            ]
        encoder = chat_template.Encoder(tokenizer, state["end"])
        return [
            self._chat(index, record, encoder, max_length) for index, record in enumerate(records)
        ]

    def targets(self, examples: Sequence[Example], state: dict[str, Any], width: int) -> Tensor:
        """Return the labels; of an encoder–decoder `[batch, 1 + longest target]`, whose first
        column stands for the token that its decoder starts with."""
        if state["form"] == "decoder":
            return super().targets(examples, state, width)
        longest = max(len(example.target or ()) for example in examples)
        shifted = [
            replace(example, target=example.target and [losses.NO_LABEL, *example.target])
            for example in examples
        ]
        return super().targets(shifted, state, longest + 1)

    def forward(self, model: nn.Module, batch: Batch, state: dict[str, Any]) -> losses.Labelled:
        """See `Task.forward`."""
        if state["form"] == "decoder" or batch.targets is None:
            return super().forward(model, batch, state)
        config: Any = model.config
        read = batch.targets.masked_fill(batch.targets == losses.NO_LABEL, config.pad_token_id)
        read[:, 0] = config.decoder_start_token_id
        inputs = {**batch.inputs, "decoder_input_ids": read}
        return losses.labelled(model, inputs, batch.targets)

    def generation(
        self, tokenizer: Any, state: dict[str, Any], purpose: Purpose
    ) -> Generation | None:
        """See `Task.generation`."""
        stop = {tokenizer.eos_token_id, state.get("end")} - {None}
        return self.decoding.generation(self.max_new_tokens, stop, quick=purpose == "validation")

    def read(self, text: str) -> str:
        """See `Task.read`."""
        return text.strip()

    def truth(self, records: Sequence[Record], state: dict[str, Any]) -> list[Any]:
        """Return the first target of every record.

        Raises:
            DataError: a record has none.
        """
        for record in records:
            if not targets_of(record):
                raise DataError(
                    f"{record.place}: there is no target to compare with",
                    found=f"fields: {', '.join(record.values) or 'none'}",
                    mend="add the expected text, or remove the row",
                )
        return [targets_of(record)[0] for record in records]

    def compare(
        self,
        predictions: Sequence[Prediction],
        records: Sequence[Record],
        state: dict[str, Any],
        how: Resampling,
    ) -> Scores:
        """See `Task.compare`."""
        self.truth(records, state)
        number: dict[str, int] = {}
        references: list[list[str]] = []
        first: list[Prediction] = []
        sums = losses_of(predictions)
        lost = np.zeros_like(sums)
        for i, (prediction, record) in enumerate(zip(predictions, records, strict=True)):
            at = number.setdefault(str(record.values["source"]), len(first))
            if at == len(first):
                first.append(prediction)
                references.append([])
            references[at] += [t for t in targets_of(record) if t not in references[at]]
            lost[:, at] += sums[:, i]
        written = [str(prediction.value or "") for prediction in first]
        of_texts, signatures = self._of_texts(written, references)
        lost = lost[:, : len(first)]

        def statistic(weights: Weights) -> dict[str, np.ndarray]:
            found = {name: value(weights) for name, value in of_texts.items()}
            return found | of_loss(lost, weights)

        scores, tables = how.scores(statistic, len(written))
        unfinished = sum(p.measures.get("finished") == 0 for p in first)
        if unfinished:
            tables["notes"].append(
                f"{unfinished} of {len(written)} texts did not end and were cut "
                "(task.max_new_tokens)"
            )
        if len(records) > len(written):
            tables["notes"].append(
                f"{len(records)} rows have {len(written)} different sources: each is scored once, "
                "with the targets of all its rows as references"
            )
        tables |= {"sources": len(written), "signatures": signatures, "unfinished": unfinished}
        return Scores(scores, tables, {})

    def _of_texts(
        self, written: list[str], references: list[list[str]]
    ) -> tuple[dict[str, translation.Corpus], dict[str, str]]:
        """Return what gives each score in `measured`, and sacreBLEU's signatures."""
        made: dict[str, translation.Corpus] = {}
        signatures: dict[str, str] = {}
        for name in self.measured:
            if name == "bleu":
                split = translation.splitter(references) if self.split == "auto" else self.split
                bleu, ratio = translation.bleu(written, references, split)
                made |= {"bleu": bleu.value, "length_ratio": ratio}
                signatures["bleu"] = bleu.signature
            elif name == "chrf":
                chrf = translation.chrf(written, references)
                made["chrf"], signatures["chrf"] = chrf.value, chrf.signature
            elif name == "length_ratio":
                made["length_ratio"] = _length_ratio(written, references)
            else:
                best = [
                    max(ROUGES[name](text, expected) for expected in texts)
                    for text, texts in zip(written, references, strict=True)
                ]
                made[name] = partial(mean_of, np.array(best))
        return {name: made[name] for name in self.measured}, signatures

    def _pair(self, index: int, record: Record, tokenizer: Any, max_length: int) -> Example:
        """Return the example of an encoder–decoder."""
        options = {"split_special_tokens": True, "verbose": False}
        text = self.instruction + str(record.values["source"])
        whole = tokenizer(text, **options)["input_ids"]
        ids = tokenizer(text, truncation=True, max_length=max_length, **options)["input_ids"]
        dropped = len(whole) - len(ids)
        target = None
        if expected := targets_of(record):
            full = tokenizer(text_target=expected[0], **options)["input_ids"]
            if full[-1:] != [tokenizer.eos_token_id]:
                full = [*full, tokenizer.eos_token_id]
            target = full[: max_length - 1]
            dropped += len(full) - len(target)
        return Example(index, {"input_ids": list(ids)}, target, dropped, list(ids))

    def _chat(
        self, index: int, record: Record, encoder: chat_template.Encoder, max_length: int
    ) -> Example:
        """Return the example of a decoder; the end of a source gives way to the target."""
        source, expected = str(record.values["source"]), targets_of(record)
        answer = [Turn("assistant", expected[0])] if expected else []

        def chat(text: str) -> chat_template.Chat:
            return encoder.encode([Turn("user", self.instruction + text), *answer], record.place)

        made = chat(source)
        whole = len(made.ids)
        if not expected and whole >= max_length:  # leave room to write
            max_length = max(max_length // 2, max_length - self.max_new_tokens)
        ids = encoder.tokenizer(source, add_special_tokens=False, verbose=False)["input_ids"]
        while len(made.ids) > max_length:
            ids = ids[: max_length - len(made.ids)]
            if not ids:
                raise DataError(
                    f"{record.place}: the target alone is longer than train.max_length",
                    found=f"max_length: {max_length}; source and target have {whole} tokens",
                    mend=f"train.max_length={whole}, or remove the row",
                )
            made = chat(str(encoder.tokenizer.decode(ids)).rstrip("\ufffd"))
        target = made.labels if expected else None
        return Example(index, {"input_ids": made.ids}, target, whole - len(made.ids), made.prompt)


def targets_of(record: Record) -> list[str]:
    """Return the texts that a row gives as its target; none where the cell is empty.

    Raises:
        DataError: the cell holds something else, or a list with an empty text.
    """
    value: Any = record.values.get("target")
    if value is None or (isinstance(value, float) and value != value):
        return []
    if isinstance(value, str | int | float):
        return [str(value)] if str(value).strip() else []
    if not isinstance(value, list | tuple) or not all(
        isinstance(text, str) and text.strip() for text in value
    ):
        raise DataError(
            f"{record.place}: the target is neither a text nor a list of texts",
            found=f"{value!r:.80}",
            mend='a text, or a list such as ["one", "another"]',
        )
    return list(value)


def _length_ratio(written: list[str], references: list[list[str]]) -> translation.Corpus:
    """Return the words written over those of the reference next in length."""
    said = [len(words(text)) for text in written]
    wanted = [
        min((len(words(text)) for text in texts), key=lambda n: (abs(n - here), n))
        for here, texts in zip(said, references, strict=True)
    ]

    def ratio(weights: Weights) -> np.ndarray:
        expected = np.array(wanted) @ weights
        return np.where(expected > 0, np.array(said) @ weights / np.maximum(expected, 1), np.nan)

    return ratio
