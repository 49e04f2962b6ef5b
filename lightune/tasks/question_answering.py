"""Question answering: the answer is a part of a given text, or there is none (SQuAD, CMRC).

Why:        what is extracted can be checked: it stands in the text, letter by letter.
How:        two logits a token, of the answer's start and of its end; a long text is read in
            overlapping windows (`windows.py`), and the best span of all of them is the answer.
            "No answer" has the logits of the first token (of the last in decoders).
State:      `{"unanswerable": whether training had questions without answer, "by_character": how
            answers are compared, "notes"}`.
Errors:     `DataError` for answers that are missing, or stand in no passage.
Not here:   the formulas of the metrics (`metrics/answers.py`), offsets (`answers.py`).
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from lightune.errors import DataError
from lightune.metrics import answers as metrics
from lightune.metrics.intervals import Weights
from lightune.tasks import base
from lightune.tasks.answers import Found, answers_of, expected, span_of
from lightune.tasks.base import Resampling, Scores, Task
from lightune.tasks.finite import refuse_not_finite
from lightune.tasks.texts import text_of
from lightune.tasks.windows import best_span, cut
from lightune.types import Batch, Example, HeadSpec, Prediction, Record

NOT_LEARNT = -100


class QuestionAnswering(Task):
    """Answers that are parts of a text."""

    name: ClassVar[str] = "question_answering"
    summary: ClassVar[str] = "find the answer to a question in a text, or that it has none"
    fields: ClassVar[tuple[base.Field, ...]] = (
        base.Field("question", ("question", "query", "问题")),
        base.Field(
            "context", ("context", "passage", "paragraph", "document", "text", "文章"), "passage"
        ),
        base.Field(
            "answer", ("answers", "answer", "答案"), kind="answers", needed_to_predict=False
        ),
        base.Field(
            "answer_start",
            ("answer_start", "start"),
            kind="number",
            needed_to_train=False,
            needed_to_predict=False,
        ),
    )
    deciding: ClassVar[str] = "f1"

    question: str | list[str] | None = None
    """Column of the question; guessed from common names when left out. SQuAD's nested JSON needs
    no columns."""
    context: str | list[str] | None = None
    """Column of the text that has the answer."""
    answer: str | None = None
    """Column of the answer: a text, a list of texts, or SQuAD's `answers`. An empty list says that
    there is none; an empty cell leaves the row out."""
    answer_start: str | None = None
    """Column of the answer's first character, counted from 0, where the answer is a text alone."""
    overlap: PositiveInt = 128
    """Tokens that two windows of a long text share."""
    max_answer: PositiveInt = 30
    """Tokens of the longest answer that is looked for."""
    by_character: bool | None = None
    """Compare answers by Chinese characters, as CMRC does, not by words, as SQuAD does. When left
    out, the training answers decide."""
    no_answer_bias: float = Field(default=0.0, allow_inf_nan=False)
    """How much higher than the best answer "no answer" must score to be given, where training had
    questions without answer."""

    def study(self, records: Sequence[Record]) -> dict[str, Any]:
        found = Found()
        spans = [span_of(record, found) for record in records]
        texts = [text for record in records for text in expected(record)]
        if not any(spans):
            raise DataError(
                f"{records[0].place}: no answer stands in its text",
                found=f"{len(records)} questions, {len(found.lost)} answers that are not in theirs",
                mend="name the right columns: task.context=COLUMN task.answer=COLUMN",
            )
        notes, by_character = found.notes(), self.by_character
        if by_character is None:
            by_character = metrics.chinese_share(texts) > 0.5
            if by_character:
                notes.append(
                    "answers are compared by character, as most are Chinese "
                    "(task.by_character=false undoes it)"
                )
        unanswerable = any(answers_of(record) == [] for record in records)
        return {"unanswerable": unanswerable, "by_character": by_character, "notes": notes}

    def head(self, state: dict[str, Any]) -> HeadSpec:
        return HeadSpec("question_answering", ("start", "end"))

    def encode(
        self, records: Sequence[Record], tokenizer: Any, state: dict[str, Any], max_length: int
    ) -> list[Example]:
        """Tokenise; several examples for a record whose text is long."""
        examples = []
        for index, record in enumerate(records):
            passage = text_of(record, "context")
            question = text_of(record, "question")
            windows, lost = cut(question, passage, tokenizer, max_length, self.overlap)
            answers, span = answers_of(record), span_of(record)
            for window in windows:
                places = [place for place in window.places if place]
                base_, stop = (places[0][0], places[-1][1]) if places else (0, 0)
                target = None
                if answers is not None:
                    inside = window.tokens_of(*span) if span else None
                    target = list(inside or (window.none, window.none))
                    if answers and span is None:  # the answer was not found: nothing to learn
                        target = [NOT_LEARNT, NOT_LEARNT]
                source = {
                    "text": passage[base_:stop],
                    "base": base_,
                    "none": window.none,
                    "places": [list(p) if p else None for p in window.places],
                }
                examples.append(Example(index, window.inputs, target, lost, source=source))
        return examples

    def targets(self, examples: Sequence[Example], state: dict[str, Any], width: int) -> Tensor:
        """Return the first and last token of each answer, `[batch, 2]`."""
        missing = [e.index for e in examples if e.target is None]
        if missing:
            raise DataError(f"record {missing[0]} of the split has no answer", mend="add it")
        return torch.tensor([e.target for e in examples], dtype=torch.long)

    def loss(self, outputs: Any, batch: Batch, state: dict[str, Any]) -> Tensor:
        """Return the mean cross entropy of start and end over the tokens that are no padding."""
        if batch.targets is None:
            raise DataError("a batch without answers has no loss", mend="add the answer column")
        padding = batch.inputs["attention_mask"] == 0
        logits = torch.stack([outputs.start_logits, outputs.end_logits], dim=1).float()
        logits = logits.masked_fill(padding[:, None], torch.finfo(torch.float32).min)
        loss = F.cross_entropy(
            logits.flatten(0, 1),
            batch.targets.flatten(),
            ignore_index=NOT_LEARNT,
            reduction="sum",
        )
        return loss / (batch.targets != NOT_LEARNT).sum().clamp(min=1)

    def logits(self, outputs: Any, batch: Batch) -> Tensor:
        """Return `[batch, 2, seq]`, zero where there is padding."""
        logits = torch.stack([outputs.start_logits, outputs.end_logits], dim=1).detach().float()
        return logits * batch.inputs["attention_mask"][:, None]

    def decode(
        self, logits: Tensor, examples: Sequence[Example], state: dict[str, Any]
    ) -> list[Prediction]:
        refuse_not_finite(logits, examples)
        values = logits.cpu().numpy()
        found = []
        for index, group in groupby(range(len(examples)), key=lambda i: examples[i].index):
            best, text, start, none = -np.inf, "", -1, np.inf
            for i in group:
                source = examples[i].source
                start_logits, end_logits = values[i]
                score, first, end = best_span(
                    start_logits, end_logits, source["places"], self.max_answer
                )
                if score > best:
                    shift = source["base"]
                    best, start = score, first
                    text = source["text"][first - shift : end - shift]
                none = min(none, float(values[i, :, source["none"]].sum()))
            margin = best - none if np.isfinite(best) else 0.0
            if not np.isfinite(best) or (state["unanswerable"] and margin < -self.no_answer_bias):
                text, start = "", -1
            lead = len(text) - len(text.lstrip())  # byte-level tokens hold the blank before them
            place = start + lead if start >= 0 else -1
            found.append(Prediction(index, text.strip(), {}, {"start": place, "margin": margin}))
        return found

    def truth(self, records: Sequence[Record], state: dict[str, Any]) -> list[Any]:
        """Return the expected answers of every record, any of which is right.

        Raises:
            DataError: a record does not say what its answer is.
        """
        return [expected(record) for record in records]

    def compare(
        self,
        predictions: Sequence[Prediction],
        records: Sequence[Record],
        state: dict[str, Any],
        how: Resampling,
    ) -> Scores:
        truth = self.truth(records, state)
        by = state["by_character"]
        pairs = [metrics.score(p.value, t, by) for p, t in zip(predictions, truth, strict=True)]
        exact, f1 = (np.array(column) for column in zip(*pairs, strict=True))
        answerable = np.array([bool(metrics.score("", t, by)[0] == 0) for t in truth])
        parts = {"f1": (f1, np.ones(len(f1))), "exact_match": (exact, np.ones(len(f1)))}
        if not answerable.all():
            parts["answerable_f1"] = (f1, answerable.astype(float))
            parts["unanswerable_accuracy"] = (exact, (~answerable).astype(float))

        def statistic(weights: Weights) -> dict[str, np.ndarray]:
            scores = {}
            for name, (values, chosen) in parts.items():
                total = chosen @ weights
                scores[name] = np.divide(
                    (values * chosen) @ weights,
                    total,
                    out=np.full(total.shape, np.nan),
                    where=total > 0,
                )
            return scores

        scores, tables = how.scores(statistic, len(truth), shares=("exact_match",))
        tables["compared_by"] = "character" if by else "word"
        none = float((~answerable).mean())
        baselines = {} if answerable.all() else {"no_answer": {"f1": none, "exact_match": none}}
        return Scores(scores, tables, baselines)
