"""From the times of a few batches to the time of every batch of a run.

Equation:   t(rows, length) = a + b * rows * length + c * rows * length^2, with a, b, c >= 0: what a
            step costs whatever is in it, what each token costs in the linear layers, and what each
            pair of tokens costs in attention. Fitted by non-negative least squares on relative
            errors, so that short batches count as much as long ones.
First time: the libraries beneath build and keep a kernel for each new shape; what the first batch
            of a shape takes longer than the next ones is counted once for each shape of the run.
Not here:   measuring (`forecast.py`). No torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from scipy.optimize import nnls

Shape = tuple[int, int]
"""Rows and padded length of a batch."""


@dataclass(frozen=True, slots=True)
class ShapeTimes:
    """The fitted times.

    Attributes:
        fixed, per_token, per_pair: a, b and c of the equation, in seconds.
        first: seconds that the first batch of a shape takes longer.
        start: seconds that the very first batch takes longer beyond that.
    """

    fixed: float
    per_token: float
    per_pair: float
    first: float
    start: float

    def of(self, shape: Shape) -> float:
        """Return the seconds of one batch whose shape has been seen before."""
        rows, length = shape
        return self.fixed + self.per_token * rows * length + self.per_pair * rows * length**2

    def total(self, shapes: Sequence[Shape]) -> float:
        """Return the seconds of all batches of a run, the first of each shape included."""
        if not shapes:
            return 0.0
        return sum(map(self.of, shapes)) + self.first * len(set(shapes)) + self.start


def fit_times(seconds: Mapping[Shape, Sequence[float]]) -> ShapeTimes:
    """Fit the times of some shapes.

    Args:
        seconds: times of each shape in order, the first one cold; shapes in the order measured.
    """
    warm = {shape: median(times[1:] or times) for shape, times in seconds.items()}
    features = np.array([[1.0, rows * length, rows * length**2] for rows, length in warm])
    times = np.array(list(warm.values()))
    scale = features.max(axis=0)  # tokens and pairs differ by orders of magnitude
    solved, _ = nnls(features / scale / times[:, None], np.ones(len(times)))
    fixed, per_token, per_pair = (solved / scale).tolist()
    extra = [max(0.0, seen[0] - warm[shape]) for shape, seen in seconds.items() if len(seen) > 1]
    # the median: a first time that something else held up says nothing of the other shapes
    first = median(extra[1:]) if len(extra) > 1 else 0.0
    start = max(0.0, extra[0] - first) if extra else 0.0
    return ShapeTimes(fixed, per_token, per_pair, first, start)


def representative(shapes: Sequence[Shape], count: int) -> list[Shape]:
    """Return up to `count` shapes of a run to measure: one of the middle first, the longest always.

    They lie at even distances in the run's work, so that what takes the time is measured rather
    than what is rare; where one shape takes most of it, they are filled up by frequency.
    """
    ordered = sorted(shapes, key=lambda shape: (shape[0] * shape[1], shape[1]))
    work = np.cumsum([rows * length for rows, length in ordered])
    by_work = np.searchsorted(work, np.linspace(0, work[-1], count + 1)[1:-1])
    by_number = np.linspace(0, len(ordered) - 1, count + 1)[:-1].astype(int)
    places = [len(ordered) - 1, *([0] if count > 2 else []), *by_work.tolist(), *by_number.tolist()]
    found = sorted(
        list(dict.fromkeys(ordered[place] for place in places))[:count],
        key=lambda shape: (shape[0] * shape[1], shape[1]),
    )
    middle = found[max(0, (len(found) - 1) // 2)]
    return [middle, *(shape for shape in found if shape != middle)]
