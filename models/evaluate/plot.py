"""What a small picture is made of: axes, lines, marks, levels and bars (`drawing` draws it).

Colours are classes (`c-...`), which the page's style sheet fills in for light and dark. No line is
told from another by colour alone: each has its own dash or its label.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, in `unit`; with `log`, by powers of ten."""

    low: float
    high: float
    title: str
    unit: str = ""
    log: bool = False

    def place(self, value: float) -> float:
        """Where a value lies, 0 to 1."""
        if self.log:
            whole = math.log(self.high / self.low)
            return math.log(max(value, 1e-12) / self.low) / whole
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values, four to seven of them."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [factor * 10.0**power for power in powers for factor in (1, 3)]
        else:
            step = nice_step((self.high - self.low) / 5)
            first = math.ceil(self.low / step - 1e-9)
            last = math.floor(self.high / step + 1e-9)
            found = [number * step for number in range(first, last + 1)]
        return [tick for tick in found if -1e-9 <= self.place(tick) <= 1 + 1e-9]

    def tick_text(self, value: float) -> str:
        if self.log:
            return f"{value:,.0f}"
        step = nice_step((self.high - self.low) / 5)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        if step * 10**digits % 1 > 1e-6:
            digits += 1
        return f"{value + 0.0:.{digits}f}"


@dataclass(frozen=True)
class Line:
    """Joined points with a label at one of them."""

    name: str
    points: Sequence[Point]
    style: str
    step: bool = False


@dataclass(frozen=True)
class Mark:
    """One point that matters, with words beside it."""

    x: float
    y: float
    words: str
    style: str


@dataclass(frozen=True)
class Level:
    """A straight line across: at height `y`, or at `x` from bottom to top."""

    name: str
    style: str
    y: float | None = None
    x: float | None = None


@dataclass(frozen=True)
class Bar:
    """From `low` to `high` along x, from the bottom to `y`."""

    low: float
    high: float
    y: float
    style: str
    words: str = ""


@dataclass(frozen=True)
class Plot:
    """One picture; `about` says in words what it shows, for those who cannot see it."""

    about: str
    x: Axis
    y: Axis
    lines: Sequence[Line] = ()
    marks: Sequence[Mark] = ()
    levels: Sequence[Level] = ()
    bars: Sequence[Bar] = ()
    dots: Sequence[Line] = field(default=())
    """Lines whose points are shown, too."""


def nice_step(rough: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough - 1e-12)


def padded(
    values: Sequence[float], *, floor: float = -math.inf, ceiling: float = math.inf
) -> Point:
    """A range that holds `values` with a little air, never beyond floor or ceiling."""
    low, high = min(values), max(values)
    air = 0.06 * (high - low) or 1.0
    return max(low - air, floor), min(high + air, ceiling)
