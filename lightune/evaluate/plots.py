"""Pictures of a run as PNG files: the loss curve, and the confusion matrix.

How:        matplotlib's `Figure` drawn by the Agg canvas. No pyplot: it keeps global figures and
            chooses a window system.
Invariants: labels in any script are drawn if some installed font has them. A label that no font
            has stands as its class number, and a line under the picture says so; nothing warns.
Not here:   reading `metrics.jsonl` (the pipeline passes plain points).
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

DPI = 150
LATIN = "DejaVu Sans"
"""Comes with matplotlib."""
CJK = (
    *("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN"),
    *("Microsoft YaHei", "PingFang SC", "Hiragino Sans GB", "Heiti SC", "STHeiti", "SimHei"),
    *("WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Noto Sans CJK JP", "Noto Sans CJK TC"),
    *("Droid Sans Fallback", "Arial Unicode MS", "Noto Serif CJK SC", "SimSun"),
)
COUNTS_UP_TO = 20
"""Classes up to which every cell shows its count."""
NAMES_UP_TO = 100
"""Classes up to which every row and column has its name."""
LONGEST_NAME = 24
BLUE, ORANGE, GREY = "#2166ac", "#d6604d", "#999999"

Point = tuple[float, float]
"""A step and a value."""


def loss_curve(
    path: str | Path,
    train: Sequence[Point],
    validation: Sequence[Point] = (),
    metric: str = "",
) -> None:
    """Draw the training loss, thin as logged and bold as smoothed, and the validation metric.

    Args:
        path: PNG file to write.
        train: (step, loss) in the order of steps.
        validation: (step, value of `metric`); drawn on an axis of its own at the right.
        metric: its name.
    """
    figure = _figure(7, 4)
    axes = figure.add_subplot()
    axes.set_xlabel("step")
    axes.set_ylabel("training loss", color=BLUE)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines["top"].set_visible(False)
    if train:
        steps, losses = (np.array(column, dtype=float) for column in zip(*train, strict=True))
        marker = "o" if len(train) < 3 else ""
        axes.plot(steps, losses, color=BLUE, alpha=0.3, linewidth=1, marker=marker)
        axes.plot(steps, smooth(losses), color=BLUE, linewidth=2)
        real = losses[np.isfinite(losses)]
        highest = float(np.max(real, initial=0.0))
        axes.set_ylim(min(0.0, float(np.min(real, initial=0.0))), 1.05 * highest or 1.0)
    if validation:
        steps, values = (np.array(column, dtype=float) for column in zip(*validation, strict=True))
        right = axes.twinx()
        right.spines["top"].set_visible(False)
        right.set_ylabel(f"validation {metric}".strip(), color=ORANGE)
        right.plot(steps, values, color=ORANGE, linewidth=1.5, marker="o", markersize=5)
        best = int(np.argmax(values))
        right.annotate(
            f"best {values[best]:.3f}",
            (steps[best], values[best]),
            textcoords="offset points",
            xytext=(0, 8),
            ha="center",
            fontsize=8,
            color=ORANGE,
        )
        right.margins(y=0.2)
    axes.set_xlim(left=0)
    figure.savefig(path, bbox_inches="tight", pad_inches=0.1)


def confusion_matrix(path: str | Path, table: Mapping[str, Any]) -> None:
    """Draw a confusion matrix, rows the truth, coloured by the share of its row.

    Up to 20 classes every cell shows its count; up to 100 every class its name.

    Args:
        path: PNG file to write.
        table: `Scores.tables["confusion_matrix"]`: labels, and counts `[truth][predicted]`.
    """
    counts = np.array(table["counts"])
    names, families, replaced = _drawable(table["labels"])
    classes = len(names)
    cell = 0.42 if classes <= COUNTS_UP_TO else 0.2
    size = float(np.clip(2.6 + cell * classes, 4.2, 16))
    figure = _figure(size + 0.9, size)
    axes = figure.add_subplot()
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, rows, out=np.zeros(counts.shape), where=rows > 0)
    # the square root makes rare confusions visible beside the diagonal
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    every = 1 if classes <= NAMES_UP_TO else -(-classes // NAMES_UP_TO)
    ticks = range(0, classes, every)
    shown = [names[i] for i in ticks]
    points = 72 * (size - 2.6) / max(len(shown), 1)
    font: dict[str, Any] = {
        "fontfamily": families,
        "fontsize": float(np.clip(0.75 * points, 5, 9)),
    }
    upright = sum(map(_width, shown)) > 7 * size
    turned: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    if classes > COUNTS_UP_TO:
        turned = {"rotation": 90}
    axes.set_xticks(ticks, shown, **font, **(turned if upright else {}))
    axes.set_yticks(ticks, shown, **font)
    axes.set_xlabel("predicted")
    axes.set_ylabel("truth")
    axes.tick_params(length=2)
    if classes <= COUNTS_UP_TO:
        _write_counts(axes, counts, shares)
    bar = figure.colorbar(image, ax=axes, fraction=0.045, pad=0.02)
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)
    said = []
    if every > 1:
        said.append(f"one in {every} of the {classes} classes is named")
    if replaced:
        said.append("#n: class n in the order of eval.json; no installed font has its characters")
    if said:
        figure.supxlabel("; ".join(said), fontsize=7, color=GREY)
    figure.savefig(path, bbox_inches="tight", pad_inches=0.1)


def smooth(values: NDArray[np.float64], width: float | None = None) -> NDArray[np.float64]:
    """Return the running average under a Gaussian centred on each value: it does not lag behind.

    Args:
        values: `[steps]`; those that are not finite are passed over.
        width: standard deviation in values; a fortieth of the run by default.
    """
    deviation = max(width or len(values) / 40, 0.5)
    reach = min(int(4 * deviation) + 1, len(values))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    known = np.isfinite(values)
    window = slice(reach, reach + len(values))
    total = np.convolve(np.where(known, values, 0.0), kernel)[window]
    weight = np.convolve(known.astype(float), kernel)[window]
    return np.divide(total, weight, out=np.full(len(values), np.nan), where=weight > 0)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _write_counts(axes: Any, counts: NDArray[Any], shares: NDArray[np.float64]) -> None:
    digits = len(str(counts.max()))
    size = float(np.clip(34 / (digits + 1), 4, 10))
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.35 else "black" if count else GREY
        axes.text(column, row, str(count), ha="center", va="center", fontsize=size, color=colour)


def _width(name: str) -> int:
    """Return the width in columns: a CJK character is twice as wide as a letter."""
    return sum(2 if ord(character) > 0x2E7F else 1 for character in name)


def _drawable(labels: Sequence[str]) -> tuple[list[str], list[str], bool]:
    """Return the names to draw, the font families to draw them with, and whether any is a number.

    Long names are cut. `$` is escaped: matplotlib would read formulas between two of them.
    """
    families = [LATIN, *_cjk_families()]
    covered = [_characters(family) for family in families]
    names, replaced = [], False
    for i, label in enumerate(labels):
        name = label if len(label) <= LONGEST_NAME else f"{label[: LONGEST_NAME - 1]}…"
        name = " ".join(name.split())
        if name and all(any(ord(c) in known for known in covered) for c in name):
            names.append(name.replace("$", r"\$"))
        else:
            names.append(f"#{i}")
            replaced = True
    return names, families, replaced


@cache
def _cjk_families() -> tuple[str, ...]:
    """Return the best installed font with Chinese characters, if there is one."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return next(((family,) for family in CJK if family in installed), ())


@cache
def _characters(family: str) -> frozenset[int]:
    path = font_manager.findfont(font_manager.FontProperties(family=[family]))
    return frozenset(FT2Font(path).get_charmap())
