"""Code generation: a program for a problem, judged by running its tests (pass@k).

Prompts:    a problem in words is a question in the base model's chat template, with some of its
            tests; the beginning of a program (HumanEval) is gone on with as it stands.
State:      `{"chat_template", "end", "notes"}`, as that of instruct.
Scores:     pass@k of the programs that the model writes, where `run_tests` allows that they are
            run, each in a sandbox; and the loss of the expected programs. A program passes if it
            and its tests come to their end.
Safety:     programs are run only where the recipe says so, and only isolated from the machine
            (`sandbox.py`). Where that cannot be, training stops before it begins, with the reason.
Invariants: a row whose program truncation cuts off whole is an error that names it.
            Programs are run once: how many passed is kept with the prediction, and sealing or
            verifying a run counts from that.
Errors:     `DataError` for rows without problem or program, or without tests where they are run;
            `ResourceError` where programs cannot be isolated.
Not here:   the layouts of rows (`programs.py`), the formula (`metrics/passing.py`).
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from lightune.errors import DataError
from lightune.metrics.intervals import Weights
from lightune.metrics.passing import pass_at
from lightune.nn import losses
from lightune.tasks import base, chat_template, sandbox
from lightune.tasks.base import Resampling, Scores, Task
from lightune.tasks.chat import Turn
from lightune.tasks.decoding import Decoding, HowWritten
from lightune.tasks.programs import (
    answer_of,
    entry_point,
    question_of,
    read_program,
    tests_of,
    whole_program,
)
from lightune.tasks.written import Written, losses_of, mean_of, of_loss
from lightune.types import Example, Generation, HeadSpec, Prediction, Purpose, Record

SHOWN = 5
FAILURES = 100
"""Programs of which the reason is kept."""
RUN, PASSED = "programs_run", "programs_passed"
"""What `predictions.jsonl` keeps of each record."""
AT = (1, 10, 100)
"""The k for which pass@k is given, beside the number of programs that were written."""


class CodeGeneration(Written, Task):
    """Programs for problems."""

    name: ClassVar[str] = "code_generation"
    summary: ClassVar[str] = "write programs for problems, judged by running their tests"
    fields: ClassVar[tuple[base.Field, ...]] = (
        base.Field("prompt", ("prompt", "text", "instruction", "question", "problem", "题目")),
        base.Field(
            "answer",
            ("code", "canonical_solution", "solution", "completion", "answer", "output", "答案"),
            needed_to_train=False,
            needed_to_predict=False,
        ),
        base.Field(
            "tests", ("test_list", "tests", "test", "测试"), "texts", False, needed_to_predict=False
        ),
        base.Field("setup", ("test_setup_code", "test_imports", "setup"), "texts", False, False),
        base.Field("entry_point", ("entry_point",), "texts", False, False),
    )
    deciding: ClassVar[str] = "log_likelihood"
    default_model: ClassVar[str] = "smollm2-135m"

    prompt: str | list[str] | None = None
    """Column of the problem, or of the beginning of the program; guessed from common names when
    left out, as are the others."""
    answer: str | None = None
    """Column of the expected program."""
    tests: str | None = None
    """Column of the tests: a list of lines, or a text, that fails where the program is wrong."""
    setup: str | None = None
    """Column of what stands before program and tests (imports …)."""
    entry_point: str | None = None
    """Column of the name of the function that the prompt begins, which is handed to the tests'
    `check` (HumanEval)."""
    run_tests: bool = False
    """Run the programs that the model writes, to score them by their tests. They run isolated, or
    not at all."""
    test_seconds: float = Field(default=5.0, gt=0, le=600)
    """A program that computes for so many seconds, or waits for thrice as many, has failed."""
    test_memory_mb: int = Field(default=512, ge=64)
    """Memory that a program may use; if it starts others, each of them."""
    samples: PositiveInt = 1
    """Programs written for each problem; more than one must be drawn (`decoding.temperature`)."""
    tests_shown: NonNegativeInt = 3
    """So many tests of a row stand in its prompt, and say what the function is called."""
    max_new_tokens: PositiveInt = 384
    """A program is cut here if it does not end before."""
    decoding: HowWritten = Decoding()
    """How a program is written."""

    @model_validator(mode="after")
    def _drawn(self) -> "CodeGeneration":
        if self.samples > 1 and not self.decoding.temperature:
            raise ValueError(
                "several programs for one problem would all be the same | "
                "decoding: {temperature: 0.8}"
            )
        return self

    def check(self, records: Sequence[Record]) -> None:
        if self.run_tests:
            sandbox.require()
        bad = [r.place for r in records if not answer_of(r)]
        if bad:
            more = f" … and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
            raise DataError(
                f"{bad[0]}: nothing to learn: the program is missing",
                found=f"{len(bad)} of {len(records)} rows: "
                f"{', '.join(map(str, bad[:SHOWN]))}{more}",
                mend="complete or remove these rows, or name the column: task.answer=COLUMN",
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
            DataError: a program that `max_length` cuts off whole.
        """
        encoder = chat_template.Encoder(tokenizer, state["end"])
        # a problem that must be cut leaves room to solve it
        kept = max(max_length // 2, max_length - self.max_new_tokens)
        examples = []
        for index, record in enumerate(records):
            chat = self._chat(record, encoder)
            prompt = chat.prompt if len(chat.prompt) < max_length else chat.prompt[-kept:]
            if answer_of(record) is None:
                lost = len(chat.prompt) - len(prompt)
                examples.append(Example(index, {"input_ids": prompt}, None, lost, prompt))
                continue
            ids, labels = chat.ids[:max_length], chat.labels[:max_length]
            if all(label == losses.NO_LABEL for label in labels):
                raise DataError(
                    f"{record.place}: nothing to learn: all of the program lies beyond "
                    "train.max_length",
                    found=f"max_length: {max_length}; problem and program have {len(chat.ids)}",
                    mend=f"train.max_length={len(chat.ids)}, task.tests_shown=1, or remove the row",
                )
            dropped = len(chat.ids) - len(ids)
            examples.append(Example(index, {"input_ids": ids}, labels, dropped, prompt))
        return examples

    def generation(
        self, tokenizer: Any, state: dict[str, Any], purpose: Purpose
    ) -> Generation | None:
        if purpose == "validation":
            return None
        stop = {int(state["end"]), tokenizer.eos_token_id} - {None}
        return self.decoding.generation(self.max_new_tokens, stop, samples=self.samples)

    def read(self, text: str) -> str:
        return read_program(text)

    def truth(self, records: Sequence[Record], state: dict[str, Any]) -> list[Any]:
        """Return the expected program of every record, None where it has none."""
        return [answer_of(record) for record in records]

    def check_test(self, records: Sequence[Record], state: dict[str, Any]) -> None:
        """Look at records whose tests are to be run: those of training need none.

        Raises:
            DataError: a record has no tests.
            ResourceError: programs cannot be isolated here.
        """
        if self.run_tests:
            self._refuse_without_tests(records)
            sandbox.require()

    def compare(
        self,
        predictions: Sequence[Prediction],
        records: Sequence[Record],
        state: dict[str, Any],
        how: Resampling,
    ) -> Scores:
        by_record: dict[str, np.ndarray] = {}
        tables: dict[str, Any] = {}
        notes = []
        written = all(prediction.value is not None for prediction in predictions)
        counts: list[dict[str, float]] = []
        if written and self.run_tests:
            counts, tables = self._counted(predictions, records)
            by_record = _pass_at([(int(c[RUN]), int(c[PASSED])) for c in counts])
        elif written:
            notes.append("the programs were not run: `task.run_tests: true` allows it")
        known = all("loss" in prediction.measures for prediction in predictions)
        sums = losses_of(predictions) if known else None

        def statistic(weights: Weights) -> dict[str, np.ndarray]:
            found = {name: mean_of(values, weights) for name, values in by_record.items()}
            return found if sums is None else found | of_loss(sums, weights)

        shares = ("pass_at_1",) if self.samples == 1 else ()
        scores, own = how.scores(statistic, len(predictions), shares=shares)
        unfinished = sum(p.measures.get("finished") == 0 for p in predictions)
        if unfinished:
            notes.append(
                f"{unfinished} of {len(predictions)} programs did not end and were cut "
                "(task.max_new_tokens)"
            )
        own["notes"] += notes
        return Scores(scores, own | tables, {}, counts)

    def _counted(
        self, predictions: Sequence[Prediction], records: Sequence[Record]
    ) -> tuple[list[dict[str, float]], dict[str, Any]]:
        """Return how many programs of each record were run and passed, and how they ended.

        Predictions that say it are believed: run again, on another machine or a busy one, a
        program near its limits may end otherwise.
        """
        if all({RUN, PASSED} <= p.measures.keys() for p in predictions):
            return [{name: p.measures[name] for name in (RUN, PASSED)} for p in predictions], {}
        self._refuse_without_tests(records)  # without them, any program would pass
        texts = [p.value if isinstance(p.value, list) else [p.value] for p in predictions]
        programs = [
            whole_program(record, text)
            for record, several in zip(records, texts, strict=True)
            for text in several
        ]
        isolated = sandbox.require()
        limits = sandbox.Limits(seconds=self.test_seconds, memory_mb=self.test_memory_mb)
        outcomes = iter(sandbox.run_all(programs, limits, isolated))
        each = [[next(outcomes) for _ in several] for several in texts]
        counts: list[dict[str, float]] = [
            {RUN: len(rows), PASSED: sum(outcome.status == "passed" for outcome in rows)}
            for rows in each
        ]
        failures = [
            {"file": record.place.file, "line": record.place.line, "found": o.detail or o.status}
            for record, rows in zip(records, each, strict=True)
            for o in rows
            if o.status != "passed"
        ]
        ended = Counter(outcome.status for rows in each for outcome in rows)
        tables = {"programs": dict(ended), "isolated": isolated, "failures": failures[:FAILURES]}
        return counts, tables

    def _chat(self, record: Record, encoder: chat_template.Encoder) -> chat_template.Chat:
        """Return the tokens of a row, which of them are learnt, and those of its prompt."""
        answer = answer_of(record)
        if entry_point(record) is None:
            turns = [Turn("user", question_of(record, self.tests_shown))]
            turns += [] if answer is None else [Turn("assistant", answer)]
            return encoder.encode(turns, record.place)
        options = {"split_special_tokens": True, "verbose": False}
        prompt = encoder.tokenizer(str(record.values["prompt"]), **options)["input_ids"]
        if prompt and prompt[-1] == encoder.tokenizer.eos_token_id:
            prompt = prompt[:-1]
        # the body begins a line of its own, which the prompt's last line break has opened
        made = encoder.tokenizer(answer or "", add_special_tokens=False, **options)["input_ids"]
        learnt = [*made, encoder.end] if answer is not None else []
        labels = [losses.NO_LABEL] * len(prompt) + learnt
        return chat_template.Chat([*prompt, *learnt], labels, prompt)

    def _refuse_without_tests(self, records: Sequence[Record]) -> None:
        bad = [record.place for record in records if not tests_of(record)]
        if bad:
            raise DataError(
                f"{bad[0]}: there are no tests to run",
                found=f"{len(bad)} of {len(records)} rows have none",
                mend="add them, name their column: task.tests=COLUMN, or set task.run_tests=false",
            )


def _pass_at(counts: Sequence[tuple[int, int]]) -> dict[str, np.ndarray]:
    """Return pass@k of each record, of how many programs were run and how many passed."""
    fewest = min(run for run, _ in counts)
    return {
        f"pass_at_{k}": np.array([pass_at(k, run, passed) for run, passed in counts])
        for k in sorted({*AT, fewest})
        if k <= fewest
    }
