"""Settings of one training: the recipe's section `train`. No torch.

The common ones lie flat; what is rarely touched is nested, so that no class has more than fourteen.

    train: {epochs: 3, batch_size: 16, learning_rate: 5e-4, max_length: 128, seed: 0}
    train: {max_steps: 500, optimizer: {schedule: cosine, warmup: 50}, evaluation: {every: 100}}

Not here: the values a method brings itself, such as its learning rate (`methods/`).
"""

from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from lightune.engine.spec import EngineSpec
from lightune.settings import Settings

DEFAULT_EPOCHS = 4
"""Passes over the records when there are neither few nor many of them."""

ENOUGH_STEPS = 400
"""Few records are passed over more often, up to so many optimiser steps …"""

MOST_EPOCHS = 15
"""… but not more often than this."""

ENOUGH_RECORDS = 200_000
"""Many records are passed over less often, down to once, when so many were shown in all."""

DEFAULT_ROWS = 16
"""Examples in a batch, unless the user says otherwise."""

Share = Annotated[float, Field(ge=0, lt=1)]
"""A part of the whole run."""

Interval = Annotated[str, Field(pattern=r"^\d{1,6}(\.\d{1,3})? ?min$")]
"""A time such as `10 min`."""


class OptimizerSpec(Settings):
    """AdamW and its learning-rate schedule."""

    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate goes from its peak to the end: falling linearly to zero, along a half
    cosine to zero, or not at all."""
    warmup: NonNegativeInt | Share = 0.06
    """Rise from zero to the peak learning rate: a whole number counts optimiser steps (500), a
    fraction is a share of the run (0.06)."""
    weight_decay: NonNegativeFloat = 0.01
    """AdamW's weight decay. Biases and normalisation weights are left out."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    """AdamW's averaging rates of the gradient and of its square."""
    epsilon: PositiveFloat = 1e-8
    """AdamW's number that keeps it from dividing by zero."""
    max_grad_norm: PositiveFloat | None = 1.0
    """Gradients whose joint norm is larger are scaled down to it; null never scales."""
    accumulate: PositiveInt = 1
    """Batches whose gradients are added up for one optimiser step."""


class EvaluationSpec(Settings):
    """Scoring on the validation records while training, and what follows from it.

    There are such records where `data.validation` names some; a tenth of the training records is
    held out for it where early stopping, or scoring every so many steps, asks for them.
    """

    every: Literal["epoch"] | PositiveInt | None = "epoch"
    """When to score on the validation records: after each `epoch` where there are some, every so
    many optimiser steps, or never (null)."""
    early_stopping: PositiveInt | None = None
    """Stop after so many scorings in a row without a better one; null trains to the end. Holds a
    tenth of the training records out for it where `data.validation` is not set."""
    best: bool = True
    """Keep the weights that scored best rather than the last ones, where there were scorings."""
    log_every: PositiveInt = 10
    """Optimiser steps between two lines of the run's log."""

    @property
    def needs_records(self) -> bool:
        """Whether validation records must be held out where the user names none."""
        return self.early_stopping is not None or isinstance(self.every, int)

    @model_validator(mode="after")
    def _stopping_needs_scores(self) -> "EvaluationSpec":
        if self.early_stopping and self.every is None:
            raise ValueError("early_stopping without scoring | write `every: epoch`")
        return self


class TrainSpec(Settings):
    """How long, how fast and from where to train."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    epochs: PositiveFloat | None = None
    """Passes over the training records; 0.5 is half a pass. Null takes 4, more for few records
    (up to 15, for 400 optimiser steps) and fewer for many (down to 1, for 200,000 records)."""
    max_steps: PositiveInt | None = None
    """End after so many optimiser steps; with epochs given as well, whichever is reached first."""
    batch_size: PositiveInt | Literal["auto"] = 16
    """Examples in a batch. `auto` takes 16, and where they do not fit into memory at once computes
    them in parts (`train.engine.micro_batch`); the run's recipe has what was chosen."""
    learning_rate: PositiveFloat | None = None
    """Peak learning rate; null takes the method's own (`lightune methods show NAME`)."""
    max_length: PositiveInt | None = None
    """Longest input in tokens; what is longer is cut, and counted in the data report. Null takes
    the model's limit, at most 512."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of the frozen weights and the arithmetic; trained weights are always float32.
    `auto` takes the fastest that trains well on this machine."""
    seed: NonNegativeInt = Field(0, lt=2**32)
    """Covers every random choice: splits, new weights, order of the records, dropout."""
    from_run: str | None = Field(None, alias="from")
    """Run or adapter folder whose trained weights to start from; null starts anew."""
    save_steps: PositiveInt | Interval | None = "10 min"
    """Save the whole state so often, that a run which is killed goes on from there (`lightune train
    --resume RUN`): every so many optimiser steps, or `10 min`; null only when a signal stops it."""
    trackers: list[Literal["tensorboard", "mlflow", "trackio"]] = []
    """Where to send the log as well, besides the run folder. Each needs `lightune[track]`."""
    seal: bool = True
    """Prove the finished run in a new process (`lightune verify` repeats it): its adapter, loaded
    from the disk, gives the recorded predictions. Without it the run is marked unsealed."""
    optimizer: OptimizerSpec = OptimizerSpec()
    """AdamW, its schedule, clipping and accumulation."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """Scoring while training, early stopping, and which weights are kept."""
    engine: EngineSpec = EngineSpec()
    """Parts of the engine that can be forced or switched off."""

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, values: Any) -> Any:
        """Let a nested section with nothing in it (`optimizer:`) stand for its defaults."""
        if not isinstance(values, dict):
            return values
        nested = ("optimizer", "evaluation", "engine")
        return {k: v for k, v in values.items() if v is not None or k not in nested}

    @property
    def rows(self) -> int:
        """Examples in a batch, whatever parts it is computed in."""
        return DEFAULT_ROWS if self.batch_size == "auto" else self.batch_size

    def with_horizon(self, records: int) -> "TrainSpec":
        """Return these settings with `epochs` chosen by the number of training records, where
        neither epochs nor steps are given."""
        if self.epochs is not None or self.max_steps is not None or not records:
            return self
        step_records = self.rows * self.optimizer.accumulate
        for_few = min(MOST_EPOCHS, round(ENOUGH_STEPS * step_records / records))
        for_many = max(1, round(ENOUGH_RECORDS / records))
        epochs = max(for_few, min(DEFAULT_EPOCHS, for_many))
        return self.model_copy(update={"epochs": float(epochs)})
