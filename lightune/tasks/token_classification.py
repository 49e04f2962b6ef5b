"""Token classification: a tag for each word (names of people and places, parts of speech …).

How:        the first token of a word carries its tag, its other tokens are read and not learnt
            (`words.py`). A long text is read in overlapping windows, so that no word is left out.
Two kinds:  tags that say where in an entity a word stands (`B-PER`, `I-PER`; IOB2, BIOES and
            their kin) are scored by whole entities, as seqeval does; other tags (parts of speech)
            by words, each of which is then an entity of its own unless its tag is `O`.
State:      `{"labels", "entities": which of the two, "split": how texts are parted, "notes"}`.
Prediction: a list of entities, each with its text, label, place (characters of a text, numbers of
            a list of words) and score, the mean probability of its words' tags.
Errors:     `DataError` for lists of different lengths, spans outside their text, unknown tags,
            numbers without names.
Not here:   the layouts (`tagging.py`), the formulas of the metrics (`metrics/entities.py`).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import NonNegativeInt
from torch import Tensor
from torch.nn import functional as F

from lightune.errors import DataError
from lightune.metrics.classification import per_class
from lightune.metrics.entities import OUTSIDE, by_entity, entities
from lightune.tasks import base
from lightune.tasks.base import Resampling, Scores, Task
from lightune.tasks.finite import refuse_not_finite
from lightune.tasks.labels import natural_order, unknown_label
from lightune.tasks.tagging import Split, Tagged, fits, parts_of, tagged, with_parts
from lightune.tasks.texts import one_token
from lightune.tasks.words import read_words
from lightune.types import Batch, Example, HeadSpec, Prediction, Record

NOT_LEARNT = -100


class TokenClassification(Task):
    """A tag for each word."""

    name: ClassVar[str] = "token_classification"
    summary: ClassVar[str] = "find names and terms in texts, or give each word a tag"
    fields: ClassVar[tuple[base.Field, ...]] = (
        base.Field(
            "tokens",
            ("tokens", "words", "characters", "chars", "字", "词"),
            kind="tokens",
            needed_to_train=False,
            needed_to_predict=False,
        ),
        base.Field(
            "text",
            ("text", "sentence", "content", "document", "文本", "句子", "内容"),
            needed_to_train=False,
            needed_to_predict=False,
        ),
        base.Field(
            "tags",
            (
                *("ner_tags", "tags", "entities", "spans", "labels", "label", "ner"),
                *("pos_tags", "upos", "pos", "标签", "实体"),
            ),
            kind="tags",
            needed_to_predict=False,
        ),
    )
    deciding: ClassVar[str] = "f1"
    bare_files: ClassVar[Literal["text", "conll"] | None] = "conll"

    tokens: str | None = None
    """Column of the list of words (or of characters), where texts are parted already; guessed from
    common names when left out. CoNLL files need no columns."""
    text: str | list[str] | None = None
    """Column of the text, where they are not."""
    tags: str | None = None
    """Column of the list of tags, one for each word; or of a list of spans of the text, with
    `start`, `end` and `label`."""
    names: list[str] | None = None
    """Names of the tags, in order, where the column holds their numbers."""
    split: Split | None = None
    """How a text is parted: at its blanks, into characters, or into words, each sign and each
    Chinese character alone. When left out, as the training tags fit; else into words."""
    overlap: NonNegativeInt = 64
    """Tokens that two windows of a long text share."""

    def needed_after(self, state: dict[str, Any]) -> tuple[str, ...]:
        return ("text",)  # unless a file has lists of words, see `data/columns.py`

    def check(self, records: Sequence[Record]) -> None:
        bad = []
        for record in records:
            try:
                self._tagged(record)
            except DataError as error:
                bad.append(error)
        if bad:
            more = f"; {len(bad)} of {len(records)} rows are so" if bad[1:] else ""
            raise DataError(bad[0].problem, bad[0].found + more, bad[0].mend)

    def study(self, records: Sequence[Record]) -> dict[str, Any]:
        ways = Counter(way for record in records if (way := fits(record)))
        split = self.split or (ways.most_common(1)[0][0] if ways else "words")
        every = [self._tagged(record, split) for record in records]
        tags = {tag for one in every for tag in one.tags or ()}
        if not tags - {OUTSIDE}:
            raise DataError(
                f"{records[0].place.file}: nothing is tagged in the training rows",
                found=f"{len(records)} rows, whose words all have the tag {OUTSIDE}",
                mend="name the column of the tags: task.tags=COLUMN",
            )
        if self.names is None and all(tag.isdigit() for tag in tags):
            raise DataError(
                f"{records[0].place.file}: the tags are numbers, and nothing says what they mean",
                found=f"{len(tags)} numbers: {', '.join(natural_order(tags)[:20])}",
                mend="task.names=[O,B-PER,I-PER], a name for each number, that of 0 first; one of "
                "them is O where a word is of no entity",
            )
        parts = {tag: parts_of(tag) for tag in tags - {OUTSIDE}}
        prefixed = [part for part in parts.values() if part]
        whole = len(prefixed) == len(parts) and any(p == "B" or k != "_" for p, k in prefixed)
        notes = _notes(every)
        if whole:
            prefixes = "BIES" if {"E", "S"} & {p for p, _ in prefixed} else "BI"
            kinds = natural_order(k for _, k in prefixed)
            labels = [OUTSIDE, *(with_parts(p, k) for k in kinds for p in prefixes)]
        else:
            labels = natural_order(tags)
            notes.append(
                "tags do not say where an entity begins (B- and I-): each word is scored alone"
            )
        return {"labels": labels, "entities": whole, "split": split, "notes": notes}

    def head(self, state: dict[str, Any]) -> HeadSpec:
        return HeadSpec("token_classification", tuple(state["labels"]))

    def encode(
        self, records: Sequence[Record], tokenizer: Any, state: dict[str, Any], max_length: int
    ) -> list[Example]:
        """Tokenise; several examples for a record whose text is long.

        Raises:
            DataError: a tag that training did not know, or tags that do not fit their words.
        """
        every = [self._tagged(record, state["split"]) for record in records]
        numbers = self._numbers(every, records, state)
        texts = [[one.text[a:b] for a, b in one.words] for one in every]
        blanks = [[a > 0 and one.text[a - 1].isspace() for a, _ in one.words] for one in every]
        read = read_words(texts, blanks, tokenizer, max_length, self.overlap)
        examples = []
        for index, (one, windows) in enumerate(zip(every, read, strict=True)):
            # a window's part of the text goes up to the first word of the next
            cuts = [one.words[w.words[0]][0] if w.words else 0 for w in windows]
            for window, base_, stop in zip(windows, cuts, [*cuts[1:], len(one.text)], strict=True):
                inputs = window.inputs
                if not inputs["input_ids"]:
                    inputs = one_token(inputs, tokenizer, records[index])
                target = None
                if one.tags is not None:
                    target = [NOT_LEARNT] * len(inputs["input_ids"])
                    for word, at in zip(window.words, window.at, strict=True):
                        target[at] = numbers[index][word]
                source = {
                    "text": one.text[base_:stop],
                    "base": base_,
                    "words": [[number, *one.words[number]] for number in window.words],
                    "at": window.at,
                    "listed": one.listed,
                }
                examples.append(Example(index, inputs, target, window.lost, source=source))
        return examples

    def targets(self, examples: Sequence[Example], state: dict[str, Any], width: int) -> Tensor:
        """Return the number of each word's tag at its first token, `[batch, width]`."""
        made = torch.full((len(examples), width), NOT_LEARNT, dtype=torch.long)
        for row, example in enumerate(examples):
            if example.target is None:
                raise DataError(f"record {example.index} of the split has no tags", mend="add them")
            made[row, : len(example.target)] = torch.tensor(example.target)
        return made

    def loss(self, outputs: Any, batch: Batch, state: dict[str, Any]) -> Tensor:
        """Return the mean cross entropy over the words of the batch."""
        if batch.targets is None:
            raise DataError("a batch without tags has no loss", mend="add the column of tags")
        loss = F.cross_entropy(
            outputs.logits.float().flatten(0, 1),
            batch.targets.flatten(),
            ignore_index=NOT_LEARNT,
            reduction="sum",
        )
        return loss / (batch.targets != NOT_LEARNT).sum().clamp(min=1)

    def logits(self, outputs: Any, batch: Batch) -> Tensor:
        """Return `[batch, seq, tags]`, zero where there is padding."""
        return outputs.logits.detach().float() * batch.inputs["attention_mask"][..., None]

    def decode(
        self, logits: Tensor, examples: Sequence[Example], state: dict[str, Any]
    ) -> list[Prediction]:
        refuse_not_finite(logits, examples)
        found = []
        for index, group in groupby(range(len(examples)), key=lambda i: examples[i].index):
            text, words, chosen, sure, listed = "", {}, {}, {}, False
            for i in group:
                source = examples[i].source
                text = text.ljust(source["base"]) + source["text"]
                listed = source["listed"]
                best = logits[i, source["at"]].softmax(dim=-1).max(dim=-1)
                sides = best.indices.tolist(), best.values.tolist()
                for (number, start, end), label, share in zip(source["words"], *sides, strict=True):
                    words[number] = (start, end)
                    chosen[number], sure[number] = state["labels"][label], share
            # words of which the tokenizer made nothing were not read: nothing is said of them
            last = max(words, default=-1) + 1
            one = Tagged(text, [words.get(n, (0, 0)) for n in range(last)], None, listed)
            tags = [chosen.get(n, OUTSIDE) for n in range(last)]
            value = [
                {**part, "score": float(np.mean([sure[n] for n in range(first, end)]))}
                for part, first, end in _parts(one, tags, state["entities"])
                if first in sure
            ]
            found.append(Prediction(index, value))
        return found

    def truth(self, records: Sequence[Record], state: dict[str, Any]) -> list[Any]:
        """Return the entities of every record.

        Raises:
            DataError: a record does not say what its words are.
        """
        said = []
        for record in records:
            one = self._tagged(record, state["split"])
            if one.tags is None:
                raise DataError(
                    f"{record.place}: the tags are missing",
                    found=f"fields of this record: {', '.join(map(str, record.values))}",
                    mend="write them, or an empty list of spans if the text has no entity",
                )
            parts = _parts(one, _canonical(one.tags, state), state["entities"])
            said.append([part for part, _, _ in parts])
        return said

    def compare(
        self,
        predictions: Sequence[Prediction],
        records: Sequence[Record],
        state: dict[str, Any],
        how: Resampling,
    ) -> Scores:
        truth = [_placed(parts) for parts in self.truth(records, state)]
        said = [_placed(prediction.value) for prediction in predictions]
        kinds = natural_order(kind for parts in (*truth, *said) for kind, _, _ in parts)
        row = {kind: i for i, kind in enumerate(kinds)}
        counts = np.zeros((3, len(kinds), len(records)), dtype=np.int64)
        for column, (expected, parts) in enumerate(zip(truth, said, strict=True)):
            for part, which in enumerate((expected & parts, expected, parts)):
                for kind, _, _ in which:
                    counts[part, row[kind], column] += 1
        scores, tables = how.scores(by_entity(*counts), len(records), max(1, len(kinds)))
        rows = per_class(*counts.sum(axis=2))
        tables["per_class"] = [
            {"label": kind, **facts} for kind, facts in zip(kinds, rows, strict=True)
        ]
        tables["notes"] += _notes([self._tagged(record, state["split"]) for record in records])
        return Scores(scores, tables, {})

    def _tagged(self, record: Record, split: Split = "words") -> Tagged:
        """Return a record's words and tags, numbers replaced by `names`."""
        one = tagged(record, self.split or split)
        if self.names is None or one.tags is None:
            return one
        by_number = {str(i): name for i, name in enumerate(self.names)}
        if unknown := set(one.tags) - by_number.keys() - set(self.names):
            raise DataError(
                f"{record.place}: the tag {min(unknown)!r} is not among task.names",
                found=f"{len(self.names)} names: {', '.join(self.names[:20])}",
                mend="one name for each number, that of 0 first",
            )
        tags = [by_number.get(tag, tag) for tag in one.tags]
        return replace(one, tags=tags)

    def _numbers(
        self, every: Sequence[Tagged], records: Sequence[Record], state: dict[str, Any]
    ) -> list[list[int]]:
        """Return the number of each word's tag."""
        number = {label: i for i, label in enumerate(state["labels"])}
        made, unknown = [], []
        for one, record in zip(every, records, strict=True):
            tags = _canonical(one.tags or [], state)
            unknown += [(tag, record) for tag in tags if tag not in number][:1]
            made.append([number.get(tag, NOT_LEARNT) for tag in tags])
        if unknown:
            tag, record = unknown[0]
            raise unknown_label(tag, record, state["labels"], len(unknown) - 1)
        return made


def _canonical(tags: Sequence[str], state: dict[str, Any]) -> list[str]:
    """Return tags as they are learnt."""
    if not state["entities"]:
        return list(tags)
    return [with_parts(*parts) if (parts := parts_of(tag)) else tag for tag in tags]


def _parts(one: Tagged, tags: Sequence[str], whole: bool) -> list[tuple[dict[str, Any], int, int]]:
    """Return each entity as it is shown, with its first word and the one behind its last."""
    alone = [(tag, i, i + 1) for i, tag in enumerate(tags) if tag != OUTSIDE]
    found = entities(tags) if whole else alone
    return [(one.part(label, first, end), first, end) for label, first, end in found]


def _placed(parts: Any) -> set[tuple[str, int, int]]:
    return {(part["label"], part["start"], part["end"]) for part in parts or ()}


def _notes(every: Sequence[Tagged]) -> list[str]:
    widened, overlapping = (sum(one.widened for one in every), sum(o.overlapping for o in every))
    said = (
        (widened, "spans begin or end inside a word, and were widened to it"),
        (overlapping, "spans overlap a longer one, and were left out"),
    )
    return [f"{count} {what}" for count, what in said if count]
