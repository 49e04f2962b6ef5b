"""What is compared, and how: a recipe's section `compare`, which the command's options change.

    compare:
      methods: [lora, bottleneck, {name: last_layers, layers: 2}]
      folds: 5
      seeds: 3
      grid: {method.rank: [2, 8, 32]}

No torch. Not here: what these settings are turned into (`contenders.py`, `design.py`).
"""

import re
from typing import Any

from pydantic import Field, PositiveInt, field_validator

from lightune.settings import Settings

SIZE = re.compile(r"all|[1-9]\d*(/class)?")

BUDGET = re.compile(r"(\d+(?:\.\d+)?) ?(s|m|min|h)")
SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600}


class CompareSpec(Settings):
    """What is compared, on which parts of the records, and for how long."""

    methods: list[Any] | None = Field(default=None, min_length=1)
    """Methods, by name or with settings (`{name: lora, rank: 8}`); null takes the recipe's."""
    models: list[str] | None = Field(default=None, min_length=1)
    """Base models; null takes the recipe's."""
    grid: dict[str, list[Any]] = {}
    """Values of settings, each a contender of its own: {method.rank: [2, 8, 32]}. A setting that a
    method lacks leaves that method as it is."""
    tune: dict[str, list[Any]] = {}
    """Values of settings among which every contender chooses inside each training part, by a
    fifth of it that is held out, so that no test has a say: {train.learning_rate: [1e-4, 5e-4]}."""
    folds: int | None = Field(default=None, ge=2, le=100)
    """Parts of the records, each tested once; null takes the test set that the recipe names, else
    5."""
    seeds: PositiveInt = Field(default=1, le=100)
    """Trainings of each contender on each fold, under the recipe's seed and those after it."""
    sizes: list[str] = Field(default=["all"], min_length=1)
    """Training records of each fold to learn from, for learning curves: 32, 8/class, all."""
    group: str | None = None
    """Column; records of equal value stay in one fold (one author, one patient …)."""
    time: str | None = None
    """Column of numbers or dates: train on the past, test on what came next."""
    by: str | None = None
    """Column that names each record's fold."""
    metric: str | None = None
    """What decides; null takes the task's own."""
    budget: str | None = None
    """Time for all of it: 90s, 30m, 2h. Contenders that are shown to be worse are dropped early."""

    @field_validator("sizes", mode="before")
    @classmethod
    def _are_sizes(cls, value: Any) -> Any:
        items = value if isinstance(value, list | tuple) else [value]
        sizes = [str(item).strip() for item in items]
        for size in sizes:
            if not SIZE.fullmatch(size):
                raise ValueError(
                    f"{size!r} is no number of records | `sizes: [32, 128, all]`, or `8/class`"
                )
        return list(dict.fromkeys(sizes))

    @field_validator("grid", "tune", mode="before")
    @classmethod
    def _are_lists(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        flat = dict(_flat(value))
        for key, values in flat.items():
            if not isinstance(values, list) or not values:
                raise ValueError(f"{key} needs a list of values | `{key}: [2, 8, 32]`")
            if key == "train.seed":
                raise ValueError("the seed is no setting to choose | `seeds: 3`")
            if key.split(".")[0] not in ("method", "train", "task", "model"):
                raise ValueError(f"{key} is no setting of a training | `method.rank: [2, 8, 32]`")
        return flat

    @field_validator("budget", mode="before")
    @classmethod
    def _is_time(cls, value: Any) -> Any:
        if value is not None and seconds_of(str(value)) is None:
            raise ValueError("is no time | `budget: 30m`, `90s` or `2h`")
        return None if value is None else str(value)

    @property
    def seconds(self) -> float | None:
        """The budget in seconds; None where there is no limit."""
        return None if self.budget is None else seconds_of(self.budget)


def seconds_of(text: str) -> float | None:
    """Return a time such as `30m` in seconds; None where it is none."""
    found = BUDGET.fullmatch(text.strip())
    seconds = float(found[1]) * SECONDS[found[2]] if found else 0.0
    return seconds or None


def _flat(values: dict[Any, Any], before: str = "") -> list[tuple[str, Any]]:
    """Return nested keys as dotted ones: `{method: {rank: […]}}` is `method.rank`."""
    found = []
    for key, value in values.items():
        name = f"{before}{key}"
        found += _flat(value, f"{name}.") if isinstance(value, dict) else [(name, value)]
    return found
