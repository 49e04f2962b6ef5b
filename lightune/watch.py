"""A training watched while it runs: whether it learns, step by step and at its end.

Why:        the checks (`train/learning.py`) are plain functions of numbers; here they meet one
            job, and their findings go where all warnings go.
Invariants: a watched training has the same weights, bit for bit.
Not here:   what comes before the first step (`preflight.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from lightune.engine.plan import threads_of
from lightune.evaluate.predict import evaluating
from lightune.runs.warned import Warned, Warnings
from lightune.train import guards
from lightune.train.learning import (
    GRADIENT_STEPS,
    LEAST_STEPS,
    Norms,
    Probe,
    guessing,
    no_gradient,
    unreached,
)
from lightune.train.loop import FitResult
from lightune.types import Example

if TYPE_CHECKING:
    from lightune.assembly import Job


class Watch:
    """Looks at one training. Made before the first step, with the weights as they begin.

    Args:
        warnings: takes what is found.
        steps: of the whole training.
    """

    def __init__(self, job: Job, warnings: Warnings, steps: int) -> None:
        self.job, self.warnings, self.steps = job, warnings, steps
        self.norms = Norms()
        self.probe: Probe | None = None
        if steps >= LEAST_STEPS:
            self.probe = Probe(self._loss, job.examples["train"])

    def log(self, entry: Mapping[str, float]) -> None:
        """Look at a line of the log."""
        self.warnings.look("gradient_norm", self.norms.look(entry), step=int(entry["step"]))

    def step(self, step: int, state: Callable[..., Any]) -> None:
        """Look at the training after a step, where it is time to.

        Args:
            state: gives the training's state, as `loop.fit` has it.
        """
        if step == GRADIENT_STEPS:
            paths = unreached(list(self.job.trainable), state(copy=False).moments)
            warned = no_gradient(paths, len(self.job.trainable), step)
            self.warnings.look("no_gradient", warned, step=step)
        if step == self.steps // 2 >= LEAST_STEPS:
            self._learns("half-way", step)

    def end(self, result: FitResult) -> None:
        """Look at the training when its weights are final."""
        if result.steps < GRADIENT_STEPS:  # later on `step` has seen more
            warned = no_gradient(result.without_gradient, len(self.job.trainable), result.steps)
            self.warnings.look("no_gradient", warned, step=result.steps)
        if result.state is None:  # a training that a signal stopped is not at its end
            self._learns("at the end", result.steps)

    def tested(self, report: Mapping[str, Any], result: FitResult) -> None:
        """Look at the scores of the test records."""
        warned = guessing(report["metrics"], report["records"], result.steps)
        self.warnings.look("guessing", warned, step=result.steps)

    def failed(self, check: str, problem: str, found: str, step: int = 0) -> None:
        """Keep that something beside the training went wrong, and that it went on."""
        mend = "the training goes on; free space on the disk, and see that the folder is writable"
        self.warnings.look(check, Warned(check, problem, found, mend), step=step)

    def untracked(self, name: str, found: str) -> None:
        """Keep that a tracker failed, and that the training went on."""
        self.failed("trackers", f"{name} could not take all of the log", found)

    def _learns(self, where: str, step: int) -> None:
        if self.probe:
            self.warnings.look("loss", *self.probe.look(where), step=step)

    @torch.no_grad()
    def _loss(self, example: Example) -> float:
        """Return the loss of one example as a prediction has it; NaN where it has no target."""
        job = self.job
        batch = job.collate([example])
        if not guards.count_targets(batch):
            return float("nan")
        with evaluating(job.base.model), threads_of(job.predictor.prepared.plan):
            return float(job.loss(batch))
