"""How answers are written: settings that every task that writes has, kept with its adapter."""

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from lightune.settings import Settings
from lightune.types import Generation


def _not_blank(words: tuple[str, ...]) -> tuple[str, ...]:
    if not all(words):
        raise ValueError("an empty text would end every answer at once | stop: ['Question:']")
    return words


class Decoding(Settings):
    """Which tokens are chosen, and what ends an answer beside its end token."""

    beams: PositiveInt = 1
    """Answers that are followed at a time; the most probable is kept. 1 is greedy."""
    length_penalty: float = 1.0
    """With several beams: above 0 favours long answers, below 0 short ones."""
    no_repeat_ngram: NonNegativeInt = 0
    """No run of so many tokens is written twice; 0 for no such rule."""
    temperature: NonNegativeFloat = 0.0
    """0 always takes the most probable token; above it tokens are drawn, the wilder the higher."""
    top_k: NonNegativeInt = 0
    """Draw among so many most probable tokens; 0 for all."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Draw among the fewest most probable tokens that have this share together."""
    stop: Annotated[tuple[str, ...], AfterValidator(_not_blank)] = ()
    """Texts that end an answer and do not belong to it."""
    seed: NonNegativeInt = 0
    """Of the draws."""

    @model_validator(mode="after")
    def _beams_or_draws(self) -> "Decoding":
        if self.beams > 1 and self.temperature:
            raise ValueError(
                "beams follow the most probable answers, draws do not | temperature: 0"
            )
        if not self.temperature and (self.top_k or self.top_p < 1):
            raise ValueError("top_k and top_p are of draws, and none are made | temperature: 0.7")
        return self

    def generation(
        self, max_new_tokens: int, stop: set[int], quick: bool = False, samples: int = 1
    ) -> Generation:
        """Return how an answer is written.

        Args:
            stop: tokens that end it.
            quick: by greedy choice, for scores while training.
            samples: answers to each prompt.
        """
        return Generation(
            max_new_tokens=max_new_tokens,
            stop=tuple(sorted(stop)),
            stop_words=self.stop,
            beams=1 if quick else self.beams,
            length_penalty=self.length_penalty,
            no_repeat_ngram=self.no_repeat_ngram,
            temperature=0.0 if quick else self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            seed=self.seed,
            samples=samples,
        )


def _empty_is_default(value: Any) -> Any:
    return Decoding() if value is None else value


HowWritten = Annotated[Decoding, BeforeValidator(_empty_is_default)]
"""The type of a task's `decoding`: a section with nothing in it stands for its defaults."""
