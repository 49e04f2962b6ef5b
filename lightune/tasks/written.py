"""What tasks have in common whose model writes: the loss of expected tokens, by record.

    loss of a batch    mean over its labelled tokens
    logits             of each example the summed loss and the number of its labelled tokens
    prediction         measures `loss` (mean per token) and `tokens`, its record's examples together

Not here:   which tokens are labelled (the tasks), the formula (`nn/losses.py`), generating.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lightune.errors import DataError
from lightune.metrics.intervals import Weights
from lightune.nn import losses
from lightune.tasks.finite import refuse_not_finite
from lightune.types import Batch, Example, Prediction


class Written:
    """The parts of a `Task` that learns to write; put it before `Task` among the bases."""

    def targets(self, examples: Sequence[Example], state: dict[str, Any], width: int) -> Tensor:
        """Return the labels of a batch, `[batch, width]`, one beside each token that is read."""
        made = torch.full((len(examples), width), losses.NO_LABEL, dtype=torch.long)
        for row, example in enumerate(examples):
            if example.target is None:
                raise _unanswered(example)
            made[row, : len(example.target)] = torch.tensor(example.target)
        return made

    def forward(self, model: nn.Module, batch: Batch, state: dict[str, Any]) -> losses.Labelled:
        """Return the labelled tokens and what gives their losses."""
        if batch.targets is None:
            raise DataError("a batch without answers has no loss", mend="add the answer column")
        return losses.labelled(model, batch.inputs, batch.targets)

    def loss(self, outputs: losses.Labelled, batch: Batch, state: dict[str, Any]) -> Tensor:
        """Return the mean loss of a batch's labelled tokens."""
        return outputs.mean()

    def logits(self, outputs: losses.Labelled, batch: Batch) -> Tensor:
        """Return `[batch, 2]`: the summed loss of each example's labelled tokens, and their
        number."""
        each = outputs.each()
        sums = each.new_zeros(len(batch.indices), 2)
        sums.index_add_(0, outputs.rows, torch.stack([each, torch.ones_like(each)], dim=1))
        return sums

    def decode(
        self, logits: Tensor, examples: Sequence[Example], state: dict[str, Any]
    ) -> list[Prediction]:
        """Return one prediction per record, without a text."""
        sums = logits.detach().to("cpu", torch.float64)
        refuse_not_finite(sums, examples)
        made = []
        rows = zip((e.index for e in examples), sums.tolist(), strict=True)
        for index, parts in groupby(rows, key=lambda row: row[0]):
            each = [part for _, part in parts]
            total, count = sum(loss for loss, _ in each), sum(n for _, n in each)
            measures = {"loss": total / count, "tokens": int(count)}
            made.append(Prediction(index, None, measures=measures))
        return made


def losses_of(predictions: Sequence[Prediction]) -> NDArray[np.float64]:
    """Return `[2, predictions]`: the summed loss of each, and the number of its tokens."""
    tokens = np.array([p.measures["tokens"] for p in predictions], dtype=np.float64)
    return np.stack([np.array([p.measures["loss"] for p in predictions]) * tokens, tokens])


def of_loss(sums: NDArray[np.float64], weights: Weights) -> dict[str, NDArray[np.float64]]:
    """Return loss per token, perplexity and log-likelihood of each resample.

    Args:
        sums: see `losses_of`.
    """
    total, tokens = sums @ weights
    loss = total / tokens
    return {"loss": loss, "perplexity": np.exp(loss), "log_likelihood": -loss}


def mean_of(values: NDArray[np.float64], weights: Weights) -> NDArray[np.float64]:
    """Return the weighted mean of one value per record, `[resamples]`."""
    return values @ weights / weights.sum(0)


def _unanswered(example: Example) -> DataError:
    return DataError(f"record {example.index} of the split has no answer", mend="add its answer")
