"""Mean loss and speed between two lines of the log. No torch."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from lightune.train.memory import rss_mb
from lightune.types import Example

T = TypeVar("T")


class Meter:
    """Counts what was trained on; time spent in `pause` (evaluation) is left out."""

    def __init__(self) -> None:
        self.examples, self.seconds = 0, 0.0
        self._start()

    def add(self, loss: float, examples: Sequence[Example]) -> None:
        """Count one step."""
        self._losses.append(loss)
        self._examples += len(examples)
        self._tokens += sum(len(example) for example in examples)

    def pause(self, work: Callable[[], T]) -> T:
        """Return `work()`; its time does not count."""
        begun = time.perf_counter()
        result = work()
        self._begun += time.perf_counter() - begun
        return result

    def read(self) -> dict[str, float]:
        """Return the mean loss and the speed since the last call."""
        seconds = max(time.perf_counter() - self._begun, 1e-9)
        self.examples += self._examples
        self.seconds += seconds
        values = {
            "loss": sum(self._losses) / max(1, len(self._losses)),
            "examples_per_s": self._examples / seconds,
            "tokens_per_s": self._tokens / seconds,
            "rss_mb": rss_mb(),
        }
        self._start()
        return values

    def _start(self) -> None:
        self._begun = time.perf_counter()
        self._losses: list[float] = []
        self._examples = self._tokens = 0
