"""The pictures of a report as SVG: intervals, quality against cost, learning curves.

Why:        drawn here line by line, they need no script and no font, are sharp on paper, and take
            the page's colours, light or dark.
Invariants: every text is escaped. A picture is 420 units wide, so that its letters can be read on
            a phone. Series are told apart by number and by form, not by colour alone.
Not here:   what stands around them (`page.py`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 420
SERIES = 8
"""Colours, named by the page's style `s0` … `s7`."""
ROW = 44
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 12, 44

Show = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Mark:
    """One point with its interval.

    Attributes:
        number: in the order of standings, from 1; what a picture shows in place of the name.
        x: position across; 0 and below stand at the smallest.
        square: drawn as a square, for baselines.
        joined: part of the line that is drawn.
    """

    number: int
    name: str
    x: float
    y: float
    low: float | None = None
    high: float | None = None
    square: bool = False
    joined: bool = False


def intervals(marks: Sequence[Mark], show: Show, title: str) -> str:
    """Draw one row for each mark: name, value, interval."""
    ends = [end for m in marks for end in (m.low, m.high, m.y) if end is not None]
    low, high = _widened(min(ends), max(ends))
    height = ROW * len(marks) + 26

    def across(value: float) -> float:
        return 12 + (WIDTH - 24) * (value - low) / (high - low)

    parts = []
    for tick in ticks(low, high):
        x = across(tick)
        parts.append(_line(x, 4, x, height - 20, "grid"))
        parts.append(_text(x, height - 6, show(tick), "middle", "small"))
    for row, mark in enumerate(marks):
        y = ROW * row + 32
        parts.append(_text(12, y - 12, f"{mark.number}  {mark.name}", "start"))
        parts.append(_text(WIDTH - 12, y - 12, show(mark.y), "end", "strong"))
        if mark.low is not None and mark.high is not None:
            parts.append(_line(across(mark.low), y, across(mark.high), y, "whisker"))
        parts.append(_dot(across(mark.y), y, 5, mark.square, "s0"))
    return _svg(height, parts, title)


def scatter(marks: Sequence[Mark], show_x: Show, show_y: Show, x_name: str, title: str) -> str:
    """Draw quality against a cost on a logarithmic axis, and join those marked so."""
    height = 300
    positive = [m.x for m in marks if m.x > 0] or [1.0]
    smallest = min(positive)
    left, right = _wider_log(smallest, max(positive))
    ends = [end for m in marks for end in (m.low, m.high, m.y) if end is not None]
    low, high = _widened(min(ends), max(ends))

    def across(value: float) -> float:
        share = math.log(max(value, smallest) / left) / math.log(right / left)
        return LEFT + (WIDTH - LEFT - RIGHT) * share

    def up(value: float) -> float:
        return TOP + (height - TOP - BOTTOM) * (high - value) / (high - low)

    parts = _axes(ticks(low, high), up, show_y, log_ticks(left, right), across, show_x, height)
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, height - 6, x_name, "middle", "small"))
    front = sorted((across(m.x), up(m.y)) for m in marks if m.joined)
    if len(front) > 1:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in front)
        parts.append(f'<polyline class="front" points="{points}"/>')
    for m in marks:
        x = across(m.x)
        if m.low is not None and m.high is not None:
            parts.append(_line(x, up(m.low), x, up(m.high), "faint"))
    parts += [_numbered(across(m.x), up(m.y), m) for m in reversed(marks)]
    return _svg(height, parts, title)


def curves(
    series: Sequence[Sequence[Mark]], show_x: Show, show_y: Show, x_name: str, title: str
) -> str:
    """Draw one line for each series, with an interval at each point."""
    height = 320
    every = [mark for line in series for mark in line]
    left, right = _wider_log(min(m.x for m in every), max(m.x for m in every))
    ends = [end for m in every for end in (m.low, m.high, m.y) if end is not None]
    low, high = _widened(min(ends), max(ends))

    def across(value: float) -> float:
        share = math.log(value / left) / math.log(right / left)
        return LEFT + (WIDTH - LEFT - RIGHT - 20) * share

    def up(value: float) -> float:
        return TOP + (height - TOP - BOTTOM) * (high - value) / (high - low)

    places: list[float] = []
    for place in sorted({m.x for m in every}):
        if not places or across(place) - across(places[-1]) > 32:  # room for its number
            places.append(place)
    parts = _axes(ticks(low, high), up, show_y, places, across, show_x, height)
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, height - 6, x_name, "middle", "small"))
    for i, line in enumerate(series):
        colour = f"s{(line[0].number - 1) % SERIES}"
        dash = " dashed" if line[0].number > SERIES else ""
        aside = 1.5 * (i - (len(series) - 1) / 2)  # intervals stand beside each other
        points = " ".join(f"{across(m.x) + aside:.1f},{up(m.y):.1f}" for m in line)
        parts.append(f'<polyline class="curve {colour}{dash}" points="{points}"/>')
        for m in line:
            x = across(m.x) + aside
            if m.low is not None and m.high is not None:
                parts.append(_line(x, up(m.low), x, up(m.high), f"curve thin {colour}"))
    lasts = sorted(
        ((up(line[-1].y), across(line[-1].x), line[-1]) for line in series), key=lambda at: at[0]
    )
    heights = spread([y for y, _, _ in lasts], 19, TOP + 8, height - BOTTOM)
    for (y, x, mark), label in zip(lasts, heights, strict=True):
        parts.append(_line(x, y, WIDTH - 22, label, "faint"))
        parts.append(_numbered(WIDTH - 13, label, mark))
    return _svg(height, parts, title)


def spread(heights: Sequence[float], apart: float, top: float, bottom: float) -> list[float]:
    """Return rising heights moved no more than needed to stand `apart`, from `top` on.

    Where there is no room down to `bottom`, they stand closer.
    """
    if not heights:
        return []
    apart = min(apart, (bottom - top) / max(len(heights) - 1, 1))
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + apart if placed else top))
    for i in range(len(placed) - 1, -1, -1):
        limit = bottom if i == len(placed) - 1 else placed[i + 1] - apart
        placed[i] = min(placed[i], limit)
    return placed


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round values between two ends: steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return values of 1, 2 and 5 times powers of ten between two ends, thinned out."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [k * 10.0**p for p in powers for k in factors if low <= k * 10.0**p <= high]
        if len(found) <= most:
            break
    return _thinned(found, most) or [low, high]


def _thinned(values: Sequence[float], most: int = 6) -> list[float]:
    every = -(-len(values) // most) if values else 1
    return list(values[::every])


def _widened(low: float, high: float) -> tuple[float, float]:
    """Return ends with some room beyond; never equal ones."""
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    return low - room, high + room


def _wider_log(low: float, high: float) -> tuple[float, float]:
    factor = max((high / low) ** 0.08, 1.15)
    return low / factor, high * factor


def _axes(
    rows: Sequence[float],
    up: Callable[[float], float],
    show_y: Show,
    columns: Sequence[float],
    across: Callable[[float], float],
    show_x: Show,
    height: int,
) -> list[str]:
    parts = []
    for value in rows:
        y = up(value)
        parts.append(_line(LEFT, y, WIDTH - RIGHT, y, "grid"))
        parts.append(_text(LEFT - 6, y + 4, show_y(value), "end", "small"))
    for value in columns:
        x = across(value)
        parts.append(_line(x, TOP, x, height - BOTTOM, "grid"))
        parts.append(_text(x, height - BOTTOM + 16, show_x(value), "middle", "small"))
    return parts


def _numbered(x: float, y: float, mark: Mark) -> str:
    colour = f"s{(mark.number - 1) % SERIES}"
    return (
        f"<g><title>{escape(mark.name)}</title>{_dot(x, y, 9, mark.square, colour)}"
        f"{_text(x, y + 4, str(mark.number), 'middle', 'inside')}</g>"
    )


def _dot(x: float, y: float, radius: float, square: bool, style: str) -> str:
    if square:
        corner = f'x="{x - radius:.1f}" y="{y - radius:.1f}"'
        return f'<rect class="dot {style}" {corner} width="{2 * radius}" height="{2 * radius}"/>'
    return f'<circle class="dot {style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>'


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str, style: str = "") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{style}" {place}>{escape(text)}</text>'


def _svg(height: float, parts: Sequence[str], title: str) -> str:
    label = escape(title, quote=True)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )
