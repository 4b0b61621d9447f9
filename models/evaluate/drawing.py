"""Draws a `Plot` as SVG text.

Rules:
1. A label is put where it covers neither a line nor another label, as near as can be to what it
   names: to its mark, or to where its line is far from all others.
2. Text is escaped here; what is given is never markup.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import pairwise

from models.evaluate.plot import Bar, Level, Line, Mark, Plot, Point

WIDTH, HEIGHT = 400, 270
LEFT, RIGHT, TOP, BOTTOM = 46, 20, 14, 40
LETTER, LINE = 6.4, 13.0
"""Of the 11-pixel text, roughly: how wide a letter is and how high a line."""

BESIDE = ((6.0, 12.0), (-0.5, -7.0), (-0.5, 16.0), (6.0, -5.0), (-1.0, -5.0), (-1.0, 12.0))
"""Where a label may begin, from a point of its line: pixels right, or its own widths left."""


def draw(plot: Plot) -> str:
    """The picture as an `<svg>` element, as wide as its place."""
    return _Drawing(plot).svg()


class _Drawing:
    def __init__(self, plot: Plot) -> None:
        self.plot = plot
        self.parts: list[str] = []
        self.taken: list[tuple[float, float, float, float]] = []
        self.paths = [self._dense(line) for line in (*plot.lines, *plot.dots)]
        self.across = [self._dense(self._as_line(level)) for level in plot.levels]

    def svg(self) -> str:
        plot = self.plot
        self._axes()
        for bar in plot.bars:
            self._bar(bar)
        for level in plot.levels:
            self._level(level)
        for line in (*plot.lines, *plot.dots):
            self._line(line)
        for line in plot.dots:
            self._dots(line)
        for mark in plot.marks:
            self._mark(mark)
        for number, line in enumerate((*plot.lines, *plot.dots)):
            if line.name and line.points:
                self._label(line, number)
        for number, level in enumerate(plot.levels):
            if level.name:
                self._level_label(level, number)
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(plot.about)}">'
            f"{''.join(self.parts)}</svg>"
        )

    def _x(self, value: float) -> float:
        return LEFT + self.plot.x.place(value) * (WIDTH - LEFT - RIGHT)

    def _y(self, value: float) -> float:
        return HEIGHT - BOTTOM - self.plot.y.place(value) * (HEIGHT - TOP - BOTTOM)

    def _axes(self) -> None:
        bottom = HEIGHT - BOTTOM
        for tick in self.plot.y.ticks():
            y = self._y(tick)
            self.parts.append(
                f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
                f'<text class="tick" x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">'
                f"{self.plot.y.tick_text(tick)}</text>"
            )
        for tick in self.plot.x.ticks():
            x = self._x(tick)
            self.parts.append(
                f'<path class="grid" d="M{x:.1f} {bottom}v4"/>'
                f'<text class="tick" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">'
                f"{self.plot.x.tick_text(tick)}</text>"
            )
        self.parts.append(f'<path class="axis" d="M{LEFT} {bottom}H{WIDTH - RIGHT}"/>')
        middle = (TOP + bottom) / 2
        self.parts.append(
            f'<text class="title" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}"'
            f' text-anchor="middle">{escape(self.plot.x.title)}</text>'
            f'<text class="title" x="11" y="{middle}" text-anchor="middle"'
            f' transform="rotate(-90 11 {middle})">{escape(self.plot.y.title)}</text>'
        )

    def _path(self, line: Line) -> str:
        placed = [(self._x(x), self._y(y)) for x, y in line.points]
        words = [f"M{placed[0][0]:.1f} {placed[0][1]:.1f}"]
        for x, y in placed[1:]:
            words.append(f"H{x:.1f}V{y:.1f}" if line.step else f"L{x:.1f} {y:.1f}")
        return "".join(words)

    def _line(self, line: Line) -> None:
        if len(line.points) > 1:
            self.parts.append(f'<path class="line {line.style}" d="{self._path(line)}"/>')

    def _dots(self, line: Line) -> None:
        for x, y in line.points:
            self.parts.append(
                f'<circle class="dot {line.style}" cx="{self._x(x):.1f}" cy="{self._y(y):.1f}"'
                f' r="3.2"><title>{self._where(x, y)}</title></circle>'
            )

    def _where(self, x: float, y: float) -> str:
        axes = self.plot
        return escape(
            f"{axes.x.title}: {x:,.4g} {axes.x.unit}, {axes.y.title}: {y:,.4g} {axes.y.unit}"
        )

    def _bar(self, bar: Bar) -> None:
        left, right, top = self._x(bar.low), self._x(bar.high), self._y(bar.y)
        self.parts.append(
            f'<rect class="bar {bar.style}" x="{left + 0.5:.1f}" y="{top:.1f}"'
            f' width="{max(right - left - 1, 0.5):.1f}" height="{HEIGHT - BOTTOM - top:.1f}">'
            f"<title>{escape(bar.words)}</title></rect>"
        )
        self.taken.append((left, top, right, HEIGHT - BOTTOM))

    def _level(self, level: Level) -> None:
        if level.y is not None:
            path = f"M{LEFT} {self._y(level.y):.1f}H{WIDTH - RIGHT}"
        else:
            path = f"M{self._x(level.x or 0.0):.1f} {TOP}V{HEIGHT - BOTTOM}"
        self.parts.append(f'<path class="line level {level.style}" d="{path}"/>')

    def _as_line(self, level: Level) -> Line:
        x, y = self.plot.x, self.plot.y
        if level.y is not None:
            return Line("", [(x.low, level.y), (x.high, level.y)], "")
        return Line("", [(level.x or 0.0, y.low), (level.x or 0.0, y.high)], "")

    def _level_label(self, level: Level, number: int) -> None:
        wide = len(level.name) * LETTER
        if level.y is not None:
            y = self._y(level.y)
            places = [
                (x, y + dy)
                for dy in (-6.0, 13.0)
                for x in _spread(LEFT + 3, WIDTH - RIGHT - wide - 3, last=True)
            ]
        else:
            x = self._x(level.x or 0.0)
            places = [
                (x + dx, y)
                for dx in (5.0, -wide - 5)
                for y in _spread(TOP + LINE, HEIGHT - BOTTOM - LINE, last=False)
            ]
        self._put(level.name, places, level.style, beside=number)

    def _mark(self, mark: Mark) -> None:
        x, y = self._x(mark.x), self._y(mark.y)
        self.parts.append(
            f'<circle class="mark {mark.style}" cx="{x:.1f}" cy="{y:.1f}" r="5">'
            f"<title>{escape(mark.words)}</title></circle>"
        )
        self.taken.append((x - 6, y - 6, x + 6, y + 6))
        wide = len(mark.words) * LETTER
        steps = [
            (dx, dy)
            for dx in (10.0, 0.0, 22.0, 40.0)
            for dy in (4.0, 18.0, -10.0, 32.0, -24.0, 48.0, -40.0)
        ]
        steps.sort(key=lambda step: step[0] + abs(step[1] - 4.0))
        places = [
            (x + dx if right else x - dx - wide, y + dy)
            for dx, dy in steps
            for right in (True, False)
        ]
        self._put(mark.words, places, f"strong {mark.style}")

    def _label(self, line: Line, number: int) -> None:
        wide = len(line.name) * LETTER
        dense = self.paths[number]
        others = [point for at, path in enumerate(self.paths) if at != number for point in path]
        ranked = sorted(dense, key=lambda point: -_nearest(point, others))
        spread = ranked[:: max(1, len(ranked) // 40)]
        beside = [(dx if dx > 0 else dx * wide - 6, dy) for dx, dy in BESIDE]
        places = [(x + dx, y + dy) for x, y in spread for dx, dy in beside]
        self._put(line.name, places, line.style)

    def _put(
        self,
        words: str,
        places: Sequence[Point],
        style: str,
        *,
        beside: int | None = None,
    ) -> None:
        """Words at the place that covers least; a level's own may lie close to it."""
        across = [path for at, path in enumerate(self.across) if at != beside]
        wide = len(words) * LETTER

        def cover(place: tuple[int, Point]) -> float:
            order, (x, y) = place
            box = (x, y - LINE + 3, x + wide, y + 3)
            drawn = (point for path in (*self.paths, *across) for point in path)
            lines = sum(_inside(point, box) for point in drawn)
            boxes = sum(_overlap(box, other) for other in self.taken)
            outside = max(0.0, LEFT - box[0]) + max(0.0, box[2] - (WIDTH - RIGHT))
            outside += max(0.0, TOP - 8 - box[1]) + max(0.0, box[3] - (HEIGHT - BOTTOM))
            return 3.0 * lines + 0.5 * boxes + 40.0 * outside + 0.02 * order

        x, y = min(enumerate(places), key=cover)[1]
        self.taken.append((x, y - LINE + 3, x + wide, y + 3))
        self.parts.append(
            f'<text class="label {style}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'
        )

    def _dense(self, line: Line) -> list[Point]:
        """Points along the drawn line, three pixels apart, for labels to keep away from."""
        placed = [(self._x(x), self._y(y)) for x, y in line.points]
        dense: list[Point] = placed[:1]
        for (x0, y0), (x1, y1) in pairwise(placed):
            count = max(1, round(math.hypot(x1 - x0, y1 - y0) / 3))
            dense += [
                (x0 + (x1 - x0) * i / count, y0 + (y1 - y0) * i / count)
                for i in range(1, count + 1)
            ]
        return dense


def _spread(low: float, high: float, *, last: bool) -> list[float]:
    """Seven places between, from the first, or from the last."""
    places = [low + (high - low) * number / 6 for number in range(7)]
    return places[::-1] if last else places


def _nearest(point: Point, others: Sequence[Point]) -> float:
    near = min((math.hypot(point[0] - x, point[1] - y) for x, y in others), default=60.0)
    return min(near, 60.0)


def _inside(point: Point, box: tuple[float, float, float, float]) -> bool:
    return box[0] - 2 <= point[0] <= box[2] + 2 and box[1] - 1 <= point[1] <= box[3] + 1


def _overlap(
    one: tuple[float, float, float, float], other: tuple[float, float, float, float]
) -> float:
    """Pixels both boxes cover."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return wide * high if wide > 0 and high > 0 else 0.0
