"""For each task ten records that a tiny model can learn by heart, for the contract test.

To add a task, add one line to `LEARNABLE`.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Learnable:
    """What the contract trains a task on.

    Attributes:
        rows: ten rows with columns that are recognised.
        perfect: metrics, and what they are at least when all is learnt.
        settings: of the task.
        train: of the training, where the usual ones do not suffice.
        family: of the tiny model.
    """

    rows: list[dict[str, Any]]
    perfect: dict[str, float]
    settings: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    family: str = "bert"


WORDS = ("good", "bad", "dull", "great", "boring", "free", "prize", "home", "late", "cash")

LEARNABLE: dict[str, Learnable] = {
    "classification": Learnable(
        [{"text": f"the film is {w}", "label": "ab"[i % 2]} for i, w in enumerate(WORDS)],
        {"accuracy": 1.0},
    ),
    "regression": Learnable(
        [{"text": f"the film is {w}", "score": 100.0 + 10 * i} for i, w in enumerate(WORDS)],
        {"pearson": 0.98, "r2": 0.95},
    ),
}
