"""A tuned model ready to answer: base model, adapter, tokenizer, task and plan together.

Training, evaluation and prediction all go through here, so that what a run reports at its end is
what the reloaded adapter gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from lightune.engine.plan import threads_of
from lightune.engine.prepare import Prepared
from lightune.evaluate.generate import before_words, generate
from lightune.evaluate.predict import PREDICTION_BATCH, Progress, predict_logits
from lightune.tasks.base import Scores, Task
from lightune.types import Example, Generation, Prediction, Purpose, Record


@dataclass(slots=True)
class Predictor:
    """What turns records into predictions.

    Attributes:
        task: the task and its settings.
        state: what training data taught the task (labels …).
        tokenizer: of the base model.
        prepared: the model under its plan.
        max_length: tokens after which an input is cut.
    """

    task: Task
    state: dict[str, Any]
    tokenizer: Any
    prepared: Prepared
    max_length: int

    def encode(self, records: Sequence[Record]) -> list[Example]:
        """Tokenise records; see `Task.encode`."""
        return self.task.encode(records, self.tokenizer, self.state, self.max_length)

    def logits(self, examples: Sequence[Example], on_batch: Progress | None = None) -> Tensor:
        """Return what the model says of every example, `[examples, …]` in float32, in order."""
        plan = self.prepared.plan
        with threads_of(plan):
            return predict_logits(
                self.prepared.model,
                self.task,
                examples,
                self.state,
                pad_id=pad_id(self.tokenizer),
                max_length=self.max_length,
                batch_size=PREDICTION_BATCH,
                device=plan.device,
                on_batch=on_batch,
            )

    def predict(
        self,
        examples: Sequence[Example],
        on_batch: Progress | None = None,
        purpose: Purpose = "predict",
    ) -> list[Prediction]:
        """Return one prediction per record of the examples, in order.

        Args:
            on_batch: progress, of answers where any are written.
            purpose: a task may leave out what takes long where only scores are wanted.
        """
        if not examples:
            return []
        how = self.task.generation(self.tokenizer, self.state, purpose)
        # a question without its answer is answered, and has no loss
        read = [e for e in examples if e.prompt is None or e.target is not None]
        known: dict[int, Prediction] = {}
        if read:
            logits = self.logits(read, None if how else on_batch)
            known = {p.index: p for p in self.task.decode(logits, read, self.state)}
        indices = dict.fromkeys(e.index for e in examples)  # a record may have several examples
        predictions = [known.get(index) or Prediction(index, None) for index in indices]
        asked = list({example.index: example for example in examples}.values())
        return self._answered(predictions, asked, how, on_batch) if how else predictions

    def _answered(
        self,
        predictions: Sequence[Prediction],
        examples: Sequence[Example],
        how: Generation,
        on_batch: Progress | None,
    ) -> list[Prediction]:
        """Return the predictions with an answer written to each example's prompt, or with a list
        of answers where several are asked for."""
        plan = self.prepared.plan
        rounds = []
        with threads_of(plan):
            for number in range(how.samples):
                answers = generate(
                    self.prepared.model,
                    examples,
                    replace(how, seed=how.seed + number),
                    pad_id=pad_id(self.tokenizer),
                    device=plan.device,
                    decode=self.text,
                    on_batch=on_batch,
                )
                rounds.append([self._read(tokens, how) for tokens in answers])
        made = []
        for prediction, written in zip(predictions, zip(*rounds, strict=True), strict=True):
            texts = [text for text, _, _ in written]
            facts = {
                "new_tokens": sum(tokens for _, tokens, _ in written),
                "finished": all(finished for _, _, finished in written),
            }
            measures = {**prediction.measures, **facts}
            value = texts if how.samples > 1 else texts[0]
            made.append(replace(prediction, value=value, measures=measures))
        return made

    def _read(self, tokens: Sequence[int], how: Generation) -> tuple[str, int, bool]:
        """Return an answer, how many tokens it has, and whether it came to its end."""
        # a stop word may be white space, which a task takes off its answers
        text, stopped = before_words(self.text(tokens), how.stop_words)
        finished = stopped or (bool(tokens) and tokens[-1] in how.stop)
        return self.task.read(text), len(tokens), finished

    def text(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens that were written, special ones left out."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def score(
        self, records: Sequence[Record], on_batch: Progress | None = None, seed: int = 0
    ) -> tuple[Scores, list[Prediction]]:
        """Predict labelled records and compare.

        Raises:
            DataError: there are none, or one does not say what was to be said.
        """
        self.task.check_test(records, self.state)  # before all are predicted, which may take long
        predictions = self.predict(self.encode(records), on_batch, "test")
        scores = self.task.score(predictions, records, self.state, seed)
        return scores, scores.kept_with(predictions)


def pad_id(tokenizer: Any) -> int:
    """Return the padding token's id; the loader makes sure that there is one."""
    return int(tokenizer.pad_token_id)
