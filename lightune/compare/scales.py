"""What values a metric can have, and how they are said: as shares of 100 %, or as they are.

Why:        an interval may be cut at a value that cannot be passed, and only there; and "points"
            are of metrics that are a share of something. A log-likelihood of -3 is neither.
Invariants: a metric that is not in the table (of a task that a plug-in brings) has no bounds, and
            is said as it is.
Errors:     `ConfigError` for a metric that counts by token, of models that split texts otherwise.
Not here:   which way a metric points (`evaluate/report.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lightune.errors import ConfigError

PER_TOKEN = ("log_likelihood", "loss", "perplexity")
"""Metrics that are of a tokenizer's tokens, so that two tokenizers' cannot be compared."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The values of a metric.

    Attributes:
        lowest, highest: that it can have; None where there is no such value.
        per_cent: it is a share, and said in per cent.
        points: what a point is a hundredth of; None where there are no points.
    """

    lowest: float | None = None
    highest: float | None = None
    per_cent: bool = False
    points: float | None = None

    @property
    def widest(self) -> float:
        """The largest difference of two values."""
        if self.lowest is None or self.highest is None:
            return math.inf
        return self.highest - self.lowest

    def cut(self, low: float, high: float) -> tuple[float, float]:
        """Return an interval without what cannot be."""
        if self.lowest is not None:
            low = max(low, self.lowest)
        return low, high if self.highest is None else min(high, self.highest)


SHARE = Scale(0.0, 1.0, per_cent=True, points=1.0)
CORRELATION = Scale(-1.0, 1.0, points=1.0)
HUNDRED = Scale(0.0, 100.0, points=100.0)
ERROR = Scale(lowest=0.0)

SHARES = (
    *("accuracy", "macro_f1", "micro_f1", "weighted_f1", "f1", "precision", "recall", "roc_auc"),
    *("subset_accuracy", "hamming_loss", "calibration_error", "exact_match", "match"),
    *("answerable_f1", "unanswerable_accuracy", "rouge_1", "rouge_2", "rouge_l"),
)
ERRORS = ("rmse", "mae", "loss", "bits_per_byte", "length_ratio")
SCALES = {
    **dict.fromkeys(SHARES, SHARE),
    **dict.fromkeys(ERRORS, ERROR),
    **dict.fromkeys(("pearson", "spearman", "matthews"), CORRELATION),
    **dict.fromkeys(("bleu", "chrf"), HUNDRED),
    "r2": Scale(highest=1.0, points=1.0),
    "perplexity": Scale(lowest=1.0),
    "log_likelihood": Scale(highest=0.0),
}
FIRST = "pass_at_"
"""How the names of shares begin that are one for each number of programs."""


def scale_of(metric: str) -> Scale:
    """Return the scale of a metric; one without bounds where it is not known."""
    return SHARE if metric.startswith(FIRST) else SCALES.get(metric, Scale())


def check_tokenizers(metric: str, hashes: Mapping[str, str]) -> None:
    """Refuse to compare by token what is split into tokens in different ways.

    Args:
        hashes: model -> the hash of its tokenizer.

    Raises:
        ConfigError: the metric counts by token, and the tokenizers differ.
    """
    if metric in PER_TOKEN and len(set(hashes.values())) > 1:
        raise ConfigError(
            f"--metric: {metric} is of each token, and these models split texts in different ways",
            found=f"different tokenizers: {', '.join(hashes)}",
            mend="--metric bits_per_byte where the task has it, or one that scores what is "
            "written; or compare models of one tokenizer",
        )
