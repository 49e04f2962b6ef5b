"""Instruction tuning: a language model learns to answer, in conversations of one turn or several.

Why:        the layouts of most instruction data (`chat.py`) are recognised, the base model's own
            chat template (`chat_template.py`) makes one text of them, and only the answers are
            learnt, the token that ends them included, so that the model learns to stop.
State:      `{"layout": "messages" or "prompt", "chat_template", "end": token that ends an answer,
            "notes"}`; the last but one come from the tokenizer.
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
import torch
from pydantic import AfterValidator, PositiveInt
from torch import Tensor, nn

from lightune.errors import DataError
from lightune.metrics.intervals import Weights
from lightune.metrics.text import NUMBER, exact_match, extract, rouge_l
from lightune.nn import losses
from lightune.tasks import base, chat_template
from lightune.tasks.base import Resampling, Scores, Task
from lightune.tasks.chat import Turn, has_turns, turns_of
from lightune.tasks.finite import refuse_not_finite
from lightune.types import Batch, Example, Generation, HeadSpec, Prediction, Purpose, Record

SHOWN = 5


def _pattern(value: str | None) -> str | None:
    if value is not None:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"no regular expression: {error} | match: number") from None
    return value


class Instruct(Task):
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
    generate: Literal["test", "always", "never"] = "test"
    """When answers are written to be scored: for the test records, for validation while training
    too (slow), or never, so that only the loss of the expected answers is scored."""

    def needed_after(self, state: dict[str, Any]) -> tuple[str, ...]:
        return (state["layout"],)

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

    def learn(self, records: Sequence[Record]) -> dict[str, Any]:
        if not records:
            raise DataError(
                "there are no training records", found="0 records", mend="name a file with rows"
            )
        layouts = {"messages" if has_turns(r) else "prompt" for r in records}
        return {"layout": min(layouts), "notes": []}

    def head(self, state: dict[str, Any]) -> HeadSpec:
        return HeadSpec("causal_lm")

    def fit_tokenizer(self, tokenizer: Any, state: dict[str, Any]) -> dict[str, Any]:
        before = state.get("chat_template")
        template = chat_template.install(tokenizer, before)
        notes = list(state.get("notes", ()))
        if before is None and template == chat_template.DEFAULT:
            notes.append("the model has no chat template: a plain one is used and kept with it")
        end = chat_template.end_token(tokenizer)
        return {**state, "chat_template": template, "end": end, "notes": notes}

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
        examples = []
        for index, record in enumerate(records):
            turns = turns_of(record, self.system_prompt)
            chat = encoder.encode(turns, record.place)
            prompt = chat.prompt[-max_length:]
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

    def targets(self, examples: Sequence[Example], state: dict[str, Any], width: int) -> Tensor:
        made = torch.full((len(examples), width), losses.NO_LABEL, dtype=torch.long)
        for row, example in enumerate(examples):
            if example.target is None:
                raise DataError(
                    f"record {example.index} of the split has no answer", mend="add its answer"
                )
            made[row, : len(example)] = torch.tensor(example.target)
        return made

    def forward(self, model: nn.Module, batch: Batch, state: dict[str, Any]) -> losses.Labelled:
        if batch.targets is None:
            raise DataError("a batch without answers has no loss", mend="add the answer column")
        return losses.labelled(model, batch.inputs, batch.targets)

    def loss(self, outputs: losses.Labelled, batch: Batch, state: dict[str, Any]) -> Tensor:
        return outputs.mean()

    def logits(self, outputs: losses.Labelled, batch: Batch) -> Tensor:
        """Return `[batch, 2]`: the summed loss of each record's answers, and their tokens."""
        each = outputs.each()
        sums = each.new_zeros(len(batch.indices), 2)
        sums.index_add_(0, outputs.rows, torch.stack([each, torch.ones_like(each)], dim=1))
        return sums

    def decode(
        self, logits: Tensor, examples: Sequence[Example], state: dict[str, Any]
    ) -> list[Prediction]:
        sums = logits.detach().to("cpu", torch.float64)
        refuse_not_finite(sums, examples)
        return [
            Prediction(example.index, None, measures={"loss": total / count, "tokens": int(count)})
            for example, (total, count) in zip(examples, sums.tolist(), strict=True)
        ]

    def generation(
        self, tokenizer: Any, state: dict[str, Any], purpose: Purpose
    ) -> Generation | None:
        wanted = {"never": ("predict",), "test": ("test", "predict")}
        if purpose not in wanted.get(self.generate, (purpose,)):
            return None
        stop = {int(state["end"]), tokenizer.eos_token_id} - {None}
        return Generation(self.max_new_tokens, tuple(sorted(stop)))

    def read(self, tokens: Sequence[int], tokenizer: Any) -> str:
        return super().read(tokens, tokenizer).strip()

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
        tokens = np.array([p.measures["tokens"] for p in predictions])
        lost = np.array([p.measures["loss"] for p in predictions]) * tokens
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
            found = {name: v @ weights / weights.sum(0) for name, v in by_record.items()}
            loss = (lost @ weights) / (tokens @ weights)
            return found | {"loss": loss, "perplexity": np.exp(loss), "log_likelihood": -loss}

        n = len(predictions)
        scores, tables = how.scores(statistic, n, shares=("match", "exact_match"))
        unfinished = sum(p.measures.get("finished") == 0 for p in predictions)
        if unfinished:
            tables["notes"].append(
                f"{unfinished} of {n} answers did not end and were cut (task.max_new_tokens)"
            )
        tables["answer_tokens"] = int(tokens.sum())
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
