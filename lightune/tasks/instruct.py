"""Instruction tuning: a language model learns to answer, in conversations of one turn or several.

Why:        the layouts of most instruction data (`chat.py`) are recognised, the base model's own
            chat template (`chat_template.py`) makes one text of them, and only the answers are
            learnt, the token that ends them included, so that the model learns to stop.
State:      `{"chat_template", "end": token that ends an answer, "notes"}`; the first two come from
            the tokenizer. Whatever it was trained on, a model reads conversations and prompts.
Scores:     the loss of the expected answers, and the answers written by the model itself, each
            after the expected turns before it (of several answers of a record, the last).
Invariants: a record whose answer truncation cuts off whole is an error that names it. What is
            generated starts from the very tokens that the loss of the answer started from.
Errors:     `DataError` for rows without question or answer, and for turns in the wrong order.
Not here:   generating (`evaluate/generate.py`), the formula of the loss (`nn/losses.py`).
"""

import math
import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator, PositiveInt

from lightune.errors import DataError
from lightune.metrics.intervals import Weights
from lightune.metrics.text import NUMBER, exact_match, extract, rouge_l
from lightune.nn import losses
from lightune.tasks import base, chat_template
from lightune.tasks.base import Resampling, Scores, Task
from lightune.tasks.chat import Turn, has_turns, turns_of
from lightune.tasks.decoding import Decoding, HowWritten
from lightune.tasks.written import Written, losses_of, mean_of, of_loss
from lightune.types import Example, Generation, HeadSpec, Prediction, Purpose, Record

SHOWN = 5


def _pattern(value: str | None) -> str | None:
    if value is not None:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"no regular expression: {error} | match: number") from None
    return value


class Instruct(Written, Task):
    """Answers to instructions, questions and conversations."""

    name: ClassVar[str] = "instruct"
    summary: ClassVar[str] = "answer instructions, questions and conversations, by writing"
    fields: ClassVar[tuple[base.Field, ...]] = (
        base.Field(
            "messages",
            ("messages", "conversations", "conversation", "dialogue", "dialog", "turns", "对话"),
            "turns",
            needed_to_train=False,
            needed_to_predict=False,
        ),
        base.Field(
            "prompt",
            ("prompt", "instruction", "question", "query", "input", "指令", "问题", "提示"),
            needed_to_train=False,
            needed_to_predict=False,
        ),
        base.Field("context", ("input", "context"), needed_to_train=False, needed_to_predict=False),
        base.Field(
            "answer",
            ("completion", "response", "answer", "output", "target", "回答", "答案", "输出"),
            needed_to_train=False,
            needed_to_predict=False,
        ),
        base.Field(
            "system", ("system", "system_prompt"), needed_to_train=False, needed_to_predict=False
        ),
    )
    deciding: ClassVar[str] = "log_likelihood"
    default_model: ClassVar[str] = "smollm2-135m"

    messages: str | None = None
    """Column of whole conversations: lists of turns with `role` and `content`, or with `from` and
    `value` (ShareGPT); guessed from common names when left out."""
    prompt: str | list[str] | None = None
    """Column of the question or instruction, where a row has one column for it and one for the
    answer; guessed from common names when left out."""
    context: str | list[str] | None = None
    """Column of what the instruction is about (Alpaca's `input`); it may be empty."""
    answer: str | None = None
    """Column of the expected answer; guessed from common names when left out."""
    system: str | None = None
    """Column of a system prompt."""
    system_prompt: str | None = None
    """A system prompt for every conversation that has none of its own."""
    match: Annotated[str | None, AfterValidator(_pattern)] = None
    """Also score whether the same thing is found in the answer and in the expected one: a regular
    expression, whose first group counts; or `number` for the result of a calculation (GSM8K)."""
    max_new_tokens: PositiveInt = 256
    """An answer is cut here if it does not end before."""
    decoding: HowWritten = Decoding()
    """How an answer is written."""
    generate: Literal["test", "always", "never"] = "test"
    """When answers are written to be scored: for the test records, for validation while training
    too (slow), or never, so that only the loss of the expected answers is scored."""

    def needed_after(self, state: dict[str, Any]) -> tuple[str, ...]:
        return ("prompt",)  # unless a file has conversations, see `data/columns.py`

    def check(self, records: Sequence[Record]) -> None:
        bad = [r.place for r in records if not (_asks(r) and self._answer(r))]
        if not bad:
            return
        more = f" … and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        if len(bad) == len(records) and not any(_asks(r) for r in records):
            raise DataError(
                f"{bad[0].file}: no column is recognised as conversations or as prompts",
                found=f"fields read: {', '.join(sorted({k for r in records for k in r.values}))}"
                if any(r.values for r in records)
                else "columns of other names",
                mend="name them: task.prompt=COLUMN and task.answer=COLUMN, or "
                "task.messages=COLUMN",
            )
        raise DataError(
            f"{bad[0]}: nothing to learn: the question or the answer is missing",
            found=f"{len(bad)} of {len(records)} rows: {', '.join(map(str, bad[:SHOWN]))}{more}",
            mend="complete or remove these rows, or name the columns: task.prompt=COLUMN "
            "task.answer=COLUMN",
        )

    def head(self, state: dict[str, Any]) -> HeadSpec:
        return HeadSpec("causal_lm")

    def fit_tokenizer(self, tokenizer: Any, state: dict[str, Any]) -> dict[str, Any]:
        return chat_template.fitted(tokenizer, state)

    def encode(
        self, records: Sequence[Record], tokenizer: Any, state: dict[str, Any], max_length: int
    ) -> list[Example]:
        """Tokenise; see `Task.encode`.

        Raises:
            DataError: turns in the wrong order; an answer that `max_length` cuts off whole.
        """
        if "end" not in state:
            state = self.fit_tokenizer(tokenizer, state)
        encoder = chat_template.Encoder(tokenizer, state["end"])
        # a question that must be cut leaves room to answer it
        kept = max(max_length // 2, max_length - self.max_new_tokens)
        examples = []
        for index, record in enumerate(records):
            turns = turns_of(record, self.system_prompt)
            chat = encoder.encode(turns, record.place)
            prompt = chat.prompt if len(chat.prompt) < max_length else chat.prompt[-kept:]
            if turns[-1].role != "assistant":
                lost = len(chat.prompt) - len(prompt)
                examples.append(Example(index, {"input_ids": prompt}, None, lost, prompt))
                continue
            ids, labels = chat.ids[:max_length], chat.labels[:max_length]
            if all(label == losses.NO_LABEL for label in labels):
                raise _nothing_left(record, turns, chat, max_length)
            dropped = len(chat.ids) - len(ids)
            examples.append(Example(index, {"input_ids": ids}, labels, dropped, prompt))
        return examples

    def generation(
        self, tokenizer: Any, state: dict[str, Any], purpose: Purpose
    ) -> Generation | None:
        wanted = {"never": ("predict",), "test": ("test", "predict")}
        if purpose not in wanted.get(self.generate, (purpose,)):
            return None
        stop = {int(state["end"]), tokenizer.eos_token_id} - {None}
        return self.decoding.generation(self.max_new_tokens, stop, quick=purpose == "validation")

    def read(self, text: str) -> str:
        return text.strip()

    def truth(self, records: Sequence[Record], state: dict[str, Any]) -> list[Any]:
        """Return the last answer of every record.

        Raises:
            DataError: a record has none, or `match` finds nothing in it.
        """
        answers = []
        for record in records:
            answer = self._answer(record)
            if answer is None:
                raise DataError(
                    f"{record.place}: there is no answer to compare with",
                    found="the conversation ends with a question",
                    mend="add the expected answer, or remove the row",
                )
            if self.match is not None and extract(answer, self.match) is None:
                raise DataError(
                    f"{record.place}: task.match finds nothing in the expected answer",
                    found=f"{self.match!r} in {answer!r:.80}",
                    mend="a pattern that fits every expected answer, or `match: number`",
                )
            answers.append(answer)
        return answers

    def compare(
        self,
        predictions: Sequence[Prediction],
        records: Sequence[Record],
        state: dict[str, Any],
        how: Resampling,
    ) -> Scores:
        expected = self.truth(records, state)
        sums = losses_of(predictions)
        written = all(p.value is not None for p in predictions)
        by_record: dict[str, np.ndarray] = {}
        if written:
            pairs = [(p.value, e) for p, e in zip(predictions, expected, strict=True)]
            if (match := self.match) is not None:
                same = [extract(a, match) == extract(e, match) for a, e in pairs]
                by_record["match"] = np.array(same, dtype=float)
            by_record["exact_match"] = np.array([exact_match(a, e) for a, e in pairs], dtype=float)
            by_record["rouge_l"] = np.array([rouge_l(a, e) for a, e in pairs])

        def statistic(weights: Weights) -> dict[str, np.ndarray]:
            return {k: mean_of(v, weights) for k, v in by_record.items()} | of_loss(sums, weights)

        n = len(predictions)
        scores, tables = how.scores(statistic, n, shares=("match", "exact_match"))
        unfinished = sum(p.measures.get("finished") == 0 for p in predictions)
        if unfinished:
            tables["notes"].append(
                f"{unfinished} of {n} answers did not end and were cut (task.max_new_tokens)"
            )
        tables["answer_tokens"] = int(sums[1].sum())
        if written:
            tables["number_match"] = self.match == NUMBER
            tables["unfinished"] = unfinished
        return Scores(scores, tables, {})

    def _answer(self, record: Record) -> str | None:
        """Return the last turn if it is an answer."""
        last = turns_of(record)[-1]
        return last.content if last.role == "assistant" and last.content.strip() else None


def _asks(record: Record) -> bool:
    return has_turns(record) or bool(str(record.values.get("prompt") or "").strip())


def _nothing_left(
    record: Record, turns: Sequence[Turn], chat: chat_template.Chat, max_length: int
) -> DataError:
    if not any(turn.learnt for turn in turns if turn.role == "assistant"):
        return DataError(
            f"{record.place}: nothing to learn: every answer has the weight 0",
            found=f"{len(turns)} turns",
            mend="remove the row, or give an answer the weight 1",
        )
    first = next(i for i, label in enumerate(chat.labels) if label != losses.NO_LABEL)
    needed = 2 ** math.ceil(math.log2(first + 2))
    return DataError(
        f"{record.place}: nothing to learn: all of the answer lies beyond train.max_length",
        found=f"max_length: {max_length}; the first answer begins at token {first + 1}",
        mend=f"train.max_length={needed}, or remove the row",
    )
