"""A tuned model ready to answer: base model, adapter, tokenizer, task and plan together.

Training, evaluation and prediction all go through here, so that what a run reports at its end is
what the reloaded adapter gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lightune.engine.plan import threads_of
from lightune.engine.prepare import Prepared
from lightune.evaluate.predict import PREDICTION_BATCH, Progress, predict_logits
from lightune.tasks.base import Scores, Task
from lightune.types import Example, Prediction, Record


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
        self, examples: Sequence[Example], on_batch: Progress | None = None
    ) -> list[Prediction]:
        """Return one prediction per example, in order."""
        if not examples:
            return []
        indices = [example.index for example in examples]
        return self.task.decode(self.logits(examples, on_batch), indices, self.state)

    def score(
        self, records: Sequence[Record], on_batch: Progress | None = None, seed: int = 0
    ) -> tuple[Scores, list[Prediction]]:
        """Predict labelled records and compare."""
        predictions = self.predict(self.encode(records), on_batch)
        return self.task.score(predictions, records, self.state, seed), predictions


def pad_id(tokenizer: Any) -> int:
    """Return the padding token's id; the loader makes sure that there is one."""
    return int(tokenizer.pad_token_id)
