"""The pictures of an evaluation's page, each drawn from one section."""

from __future__ import annotations

from html import escape
from itertools import pairwise

from models.evaluate.drawing import draw
from models.evaluate.plot import Axis, Bar, Level, Line, Mark, Plot, Point, padded
from models.evaluate.sections import (
    Accuracy,
    Audit,
    Bins,
    Certified,
    Confidence,
    Measure,
    Part,
    Points,
)

BARS = 24
MOST_PARTS = 20
"""Groups in one picture; of more of them it has the worst, and the table below has all."""
ESCALATED = "escalated to the cloud, %"


def accuracy_chart(accuracy: Accuracy, measure: Measure) -> str:
    """Right against escalated, between chance and the ideal."""
    right = "right, %" if measure == "accuracy" else "as the cloud, %"
    curves = [
        Line("ideal", _pairs(accuracy.ideal), "c-ideal"),
        Line("oracle", _pairs(accuracy.oracle), "c-oracle"),
        Line("by chance", _pairs(accuracy.random), "c-random"),
        Line("this cascade", _pairs(accuracy.system), "c-system"),
    ]
    heights = [y for line in curves for _, y in line.points]
    words = f"{accuracy.escalated_percent:.1f} % sent: {accuracy.system_percent:.1f} % right"
    return draw(
        Plot(
            "Share of right answers against the share of inputs escalated",
            Axis(0, 100, ESCALATED, "%"),
            Axis(*padded(heights, ceiling=100.0), right, "%"),
            lines=curves,
            marks=[
                Mark(
                    accuracy.escalated_percent,
                    accuracy.system_percent,
                    words,
                    "c-system",
                )
            ],
            levels=[Level("cloud alone", "c-cloud", y=accuracy.cloud_percent)],
        )
    )


def coverage_chart(confidence: Confidence, accuracy: Accuracy) -> str:
    """Wrong among the kept against kept."""
    curve = confidence.risk_coverage
    points = list(zip(curve.kept_percent, curve.wrong_percent, strict=True))
    kept = 100 - accuracy.escalated_percent
    marks = []
    if accuracy.local_percent is not None:
        wrong = 100 - accuracy.local_percent
        words = f"threshold: {wrong:.1f} % wrong"
        marks = [Mark(kept, wrong, words, "c-edge")]
    highest = max([y for _, y in points] + [mark.y for mark in marks])
    return draw(
        Plot(
            "Share of wrong answers among those kept on the device, against the share kept",
            Axis(0, 100, "kept on the device, most certain first, %", "%"),
            Axis(0, max(1.12 * highest, 0.5), "wrong among the kept, %", "%"),
            lines=[Line("", points, "c-edge")],
            marks=marks,
        )
    )


def reliability_chart(before: Bins, after: Bins) -> str:
    """Confidence against right, as the model says it and after the temperature."""
    first, second = (
        list(zip(bins.confidence_percent, bins.right_percent, strict=True))
        for bins in (before, after)
    )
    low = min(value for point in (*first, *second) for value in point)
    # All of them right and sure of it: still a picture with two sides.
    low = min(max(0.0, 10 * (low // 10)), 90.0)
    return draw(
        Plot(
            "Share right against confidence, before and after temperature scaling",
            Axis(low, 100, "confidence, %", "%"),
            Axis(low, 100, "right, %", "%"),
            lines=[Line("perfect", [(low, low), (100, 100)], "c-random")],
            dots=[Line("before scaling", first, "c-before"), Line("after", second, "c-system")],
        )
    )


def bounds_chart(certified: Certified, escalated_percent: float) -> str:
    """Certified risk of any threshold beside what it was here."""
    bounds = certified.bounds
    if bounds is None:
        return ""
    limit = 4 * certified.eps_percent
    shown = [
        (escalated, bound, risk)
        for escalated, bound, risk in zip(
            bounds.escalated_percent, bounds.bound_percent, bounds.risk_percent, strict=True
        )
        if bound <= limit
    ]
    if not shown:
        return ""
    certified_line = sorted((escalated, bound) for escalated, bound, _ in shown)
    happened = sorted((escalated, risk) for escalated, _, risk in shown)
    heights = [y for _, y in (*certified_line, *happened)] + [certified.eps_percent, 0.0]
    widest = max(x for x, _ in (*certified_line, (escalated_percent, 0.0)))
    return draw(
        Plot(
            "Certified upper bound of the risk, and the risk on these data, by share escalated",
            Axis(0, max(widest, 1.0), ESCALATED, "%"),
            Axis(min(0.0, *heights), 1.08 * max(heights), "risk, %", "%"),
            lines=[
                Line("certified for every threshold", certified_line, "c-cloud"),
                Line("on these data", happened, "c-system"),
            ],
            levels=[
                Level(f"promised {certified.eps_percent:g} %", "c-limit", y=certified.eps_percent)
            ],
            marks=[Mark(escalated_percent, certified.risk_percent, "threshold", "c-system")],
        )
    )


def audit_chart(audit: Audit, eps_percent: float) -> str:
    """How the calibrations' true risks are spread; what exceeds the promise is hatched."""
    risks = audit.risk_percent
    low, high = min(0.0, risks[0]), max(risks[-1], 1.15 * eps_percent)
    # A bar ends exactly at the promise, so that none is half on either side.
    wide = (high - low) / BARS
    first = -int((eps_percent - low) / wide) - 1
    edges = [eps_percent + wide * number for number in range(first, BARS + first + 3)]
    bars = []
    for left, right in pairwise(edges):
        share = sum(left < risk <= right + 1e-12 for risk in risks) * 100 / len(risks)
        if share and right > low:
            over = left >= eps_percent - 1e-12
            words = f"{share:.0f} % of the calibrations: risk {left:.2f} to {right:.2f} %"
            bars.append(Bar(left, right, share, "c-limit" if over else "c-edge", words))
    return draw(
        Plot(
            "How many calibrations end with which true risk",
            Axis(edges[0], max(edges[-1], high), "true risk of a calibration, %", "%"),
            Axis(0, 1.15 * max([bar.y for bar in bars], default=1.0), "of calibrations, %", "%"),
            bars=bars,
            levels=[Level(f"promised {eps_percent:g} %", "c-limit", x=eps_percent)],
        )
    )


def labels_chart(audit: Audit) -> str:
    """What more labels would save."""
    points: list[Point] = [
        (float(point.n_count), point.escalated_percent) for point in audit.by_labels
    ]
    here = next(point for point in audit.by_labels if point.n_count == audit.n_count)
    lowest, highest = points[0][0], points[-1][0]
    most = max(y for _, y in points)
    return draw(
        Plot(
            "Share escalated under the same promise, by the number of labels to calibrate with",
            Axis(lowest, highest, "labels to calibrate with", log=True),
            Axis(0, min(100.0, max(1.1 * most, 1.0)), ESCALATED, "%"),
            dots=[Line("", points, "c-edge")],
            marks=[Mark(here.n_count, here.escalated_percent, f"{here.n_count:,} now", "c-edge")],
            levels=[Level("with hindsight", "c-oracle", y=audit.oracle_escalated_percent)],
        )
    )


def parts_chart(parts: tuple[Part, ...], system_percent: float) -> str:
    """One row for each part: its accuracy with its interval, device and cloud beside it."""
    if len(parts) > MOST_PARTS:
        by_accuracy = sorted(parts, key=lambda part: (part.system_percent, part.name))
        parts = tuple(by_accuracy[:MOST_PARTS])
    name_wide = min(165, max(40, max(len(part.name) for part in parts) * 7.4 + 10))
    wide, row, top = 400, 24, 8
    low = min(
        min(part.system_range.low_percent, part.edge_percent, part.cloud_percent) for part in parts
    )
    low = max(0.0, low - 2)
    high_place = top + row * len(parts)

    def place(value: float) -> float:
        return name_wide + (value - low) / (100 - low) * (wide - name_wide - 14)

    axis = Axis(low, 100, "")
    out = []
    for tick in axis.ticks():
        x = place(tick)
        out.append(
            f'<path class="grid" d="M{x:.1f} {top}V{high_place}"/><text class="tick" x="{x:.1f}"'
            f' y="{high_place + 14}" text-anchor="middle">{axis.tick_text(tick)}</text>'
        )
    across = place(system_percent)
    out.append(f'<path class="line level c-random" d="M{across:.1f} {top}V{high_place}"/>')
    for number, part in enumerate(parts):
        y = top + row * (number + 0.5)
        name = part.name if len(part.name) <= 22 else f"{part.name[:21]}…"
        bounds = part.system_range
        told = (
            f"{part.name}: {part.system_percent:.1f} % right"
            f" ({bounds.low_percent:.1f} to {bounds.high_percent:.1f}),"
            f" device {part.edge_percent:.1f}, cloud {part.cloud_percent:.1f},"
            f" {part.rows_count:,} rows"
        )
        out.append(
            f'<g><title>{escape(told)}</title><text class="name" x="{name_wide - 8}" y="{y + 4}"'
            f' text-anchor="end">{escape(name)}</text>'
            f'<path class="whisker" d="M{place(bounds.low_percent):.1f} {y}'
            f'H{place(bounds.high_percent):.1f}"/>'
            f'<path class="line c-edge tickmark" d="M{place(part.edge_percent):.1f} {y - 6}v12"/>'
            f'<path class="line c-cloud tickmark" d="M{place(part.cloud_percent):.1f} {y - 6}v12"/>'
            f'<circle class="mark c-system" cx="{place(part.system_percent):.1f}" cy="{y}" r="4"/>'
            "</g>"
        )
    height = high_place + 34
    out.append(
        f'<text class="title" x="{(name_wide + wide) / 2}" y="{height - 4}"'
        f' text-anchor="middle">right, %</text>'
    )
    return (
        f'<svg viewBox="0 0 {wide} {height}" role="img" aria-label="Share right, part by part">'
        f"{''.join(out)}</svg>"
    )


def _pairs(points: Points) -> list[Point]:
    return list(zip(points.escalated_percent, points.right_percent, strict=True))
