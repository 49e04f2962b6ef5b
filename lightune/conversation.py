"""A conversation with a tuned model: turns go in, answers come out as they are written.

talk = Conversation(Run.open("runs/mine"))
talk.say("hello", on_text=print)

A run of the task `instruct` remembers what was said, as far as its longest text allows; runs of
other tasks that write take each text on its own.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lightune.engine.plan import threads_of
from lightune.errors import ConfigError
from lightune.evaluate.generate import before_words
from lightune.evaluate.stream import stream
from lightune.predictor import pad_id
from lightune.run import Run
from lightune.types import Place, Record


class Conversation:
    """What was said so far to a run that writes.

    Args:
        run: of a task that writes.
        system: a system prompt, for runs that remember.
        decoding: changes to the run's own settings, by the names of `Generation`.

    Raises:
        ConfigError: the run's task does not write, or takes no system prompt.
    """

    def __init__(self, run: Run, system: str | None = None, **decoding: Any) -> None:
        predictor = run.predictor
        how = run.recipe.task.generation(predictor.tokenizer, predictor.state, "predict")
        if how is None:
            raise ConfigError(
                f"{run.folder} does not write texts",
                found=f"task: {run.recipe.task.name}",
                mend=f"lightune predict {run.folder} --text TEXT",
            )
        self._run, self._how = run, replace(how, beams=1, **decoding)
        self._system = system
        self._field = "messages" if self.remembers else run.recipe.task.fields[0].name
        if system and not self.remembers:
            raise ConfigError(
                f"{run.folder} takes no system prompt",
                found=f"task: {run.recipe.task.name}",
                mend="leave it out, or train a run of the task instruct",
            )
        self.turns: list[dict[str, str]] = []
        self.forgotten = 0
        self.cut = 0

    @property
    def remembers(self) -> bool:
        """Whether an answer depends on the turns before."""
        return "messages" in {field.name for field in self._run.recipe.task.fields}

    def forget(self) -> None:
        """Begin anew."""
        self.turns = []

    def say(self, text: str, on_text: Callable[[str], None] = lambda piece: None) -> str:
        """Return the answer to a turn; `on_text` takes its pieces as they are written.

        `forgotten` then holds how many turns were left out, from the first on, to make room, and
        `cut` how many tokens of this one, where it alone is too long.
        """
        predictor = self._run.predictor
        self.forgotten = 0
        turns = [*self.turns, {"role": "user", "content": text}]
        example = self._encoded(turns, text)
        room = max(predictor.max_length - self._how.max_new_tokens, predictor.max_length // 2)
        while (
            self.remembers and len(turns) > 2 and len(example.prompt or ()) + example.dropped > room
        ):
            turns = turns[2:]
            self.forgotten += 2
            example = self._encoded(turns, text)
        self.cut = example.dropped
        plan = predictor.prepared.plan
        with threads_of(plan):
            tokens = stream(
                predictor.prepared.model,
                example,
                self._how,
                pad_id=pad_id(predictor.tokenizer),
                decode=predictor.text,
                on_text=on_text,
                device=plan.device,
            )
        written, _ = before_words(predictor.text(tokens), self._how.stop_words)
        answer: str = self._run.recipe.task.read(written)
        if self.remembers and answer:
            self.turns = [*turns, {"role": "assistant", "content": answer}]
        return answer

    def _encoded(self, turns: list[dict[str, str]], text: str) -> Any:
        values: dict[str, Any] = {self._field: turns if self.remembers else text}
        if self.remembers and self._system:
            values["system"] = self._system

        record = Record(values, Place("<conversation>", len(turns)))
        [example] = self._run.predictor.encode([record])[-1:]
        return example
