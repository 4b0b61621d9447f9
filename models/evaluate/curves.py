"""Curves of a cascade: how right it is, as more is escalated; how often wrong, as more is kept.

Rules:
1. A policy answers locally where score >= threshold. Rows of one score go together, so a curve has
   a point only where a threshold can stand; areas join these points by straight lines, which is
   what breaking ties by chance gives on average.
2. A row without a score (NaN) is never local: it is escalated first and kept last.
3. *Random* escalates without looking. *Oracle* knows where the edge is wrong, not whether the
   cloud would be right: the best a perfect confidence could do. *Ideal* knows both.

Shares are fractions of all rows, 0 to 1. Formulas: Jitkrittum et al. 2023 (deferral), Geifman and
El-Yaniv 2017 (risk-coverage).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Curve(NamedTuple):
    """Joined points, `x` ascending, both float64 [m]."""

    x: Floats
    y: Floats

    def area(self) -> float:
        """Under the straight lines between the points."""
        return float(np.trapezoid(self.y, self.x))

    def at(self, x: float) -> float:
        """Height at `x`, on the straight line between two points."""
        return float(np.interp(x, self.x, self.y))


class Peak(NamedTuple):
    """Where a curve is highest; the least escalation of equals."""

    escalated: float
    right: float


def ranked(scores: Floats) -> Floats:
    """`scores` with a missing score below every other."""
    return np.where(np.isnan(scores), -np.inf, scores)


def _cumulated(scores: Floats, values: Floats, *, descending: bool) -> tuple[Floats, Floats]:
    """Counts and sums of `values` after each group of equal scores, both beginning with 0."""
    order = ranked(scores)
    levels, group = np.unique(-order if descending else order, return_inverse=True)
    counts = np.bincount(group, minlength=len(levels))
    sums = np.bincount(group, weights=values, minlength=len(levels))
    zero = np.zeros(1)
    return np.concatenate([zero, np.cumsum(counts)]), np.concatenate([zero, np.cumsum(sums)])


def deferral(scores: Floats, edge_wrong: Flags, cloud_wrong: Flags) -> Curve:
    """Share of right answers against share escalated, least certain first."""
    gains = edge_wrong.astype(np.float64) - cloud_wrong
    counts, gained = _cumulated(scores, gains, descending=False)
    n = len(scores)
    return Curve(counts / n, 1 - float(edge_wrong.mean()) + gained / n)


def random_deferral(edge_wrong: Flags, cloud_wrong: Flags) -> Curve:
    """The straight line from edge alone to cloud alone."""
    return Curve(
        np.array([0.0, 1.0]),
        np.array([1 - float(edge_wrong.mean()), 1 - float(cloud_wrong.mean())]),
    )


def oracle_deferral(edge_wrong: Flags, cloud_wrong: Flags) -> Curve:
    """First what the edge gets wrong, in any order, then the rest in any order."""
    edge = 1 - float(edge_wrong.mean())
    mended = edge + float((edge_wrong & ~cloud_wrong).mean())
    return _without_doubles(
        [0.0, float(edge_wrong.mean()), 1.0], [edge, mended, 1 - float(cloud_wrong.mean())]
    )


def ideal_deferral(edge_wrong: Flags, cloud_wrong: Flags) -> Curve:
    """First where only the cloud is right, last where only the edge is."""
    edge = 1 - float(edge_wrong.mean())
    helped = float((edge_wrong & ~cloud_wrong).mean())
    hurt = float((cloud_wrong & ~edge_wrong).mean())
    return _without_doubles(
        [0.0, helped, 1 - hurt, 1.0],
        [edge, edge + helped, edge + helped, 1 - float(cloud_wrong.mean())],
    )


def _without_doubles(x: list[float], y: list[float]) -> Curve:
    kept = [0] + [i for i in range(1, len(x)) if x[i] > x[i - 1]]
    return Curve(np.array([x[i] for i in kept]), np.array([y[i] for i in kept]))


def deferral_gain(scores: Floats, edge_wrong: Flags, cloud_wrong: Flags) -> float | None:
    """(area - random) / (ideal - random): 0 is chance, 1 perfect, below 0 worse than chance.

    None where escalating does the same to every row: then no order is better than another.
    """
    chance = random_deferral(edge_wrong, cloud_wrong).area()
    best = ideal_deferral(edge_wrong, cloud_wrong).area()
    if best - chance < 1e-12:
        return None
    return (deferral(scores, edge_wrong, cloud_wrong).area() - chance) / (best - chance)


def peak(curve: Curve) -> Peak:
    """The highest point."""
    # A sum of ones and minus ones divided by n: equal heights may differ in the last bit.
    highest = float(curve.y.max())
    first = int(np.argmax(curve.y >= highest - 1e-12))
    return Peak(float(curve.x[first]), float(curve.y[first]))


def escalation_for(curve: Curve, right: float) -> float | None:
    """The least share to escalate for `right`, at a point a threshold can make; None if never."""
    enough = curve.y >= right - 1e-12
    return float(curve.x[int(np.argmax(enough))]) if enough.any() else None


def local_risk(scores: Floats, losses: Floats) -> Curve:
    """Mean loss of what is local, over *all* rows, against share escalated (ascending).

    `losses` float64 [n]: what answering the row locally costs (0 or 1; -1 where it gains).
    """
    counts, lost = _cumulated(scores, losses, descending=True)
    n = len(scores)
    return Curve((1 - counts / n)[::-1], (lost / n)[::-1])


def least_escalation(scores: Floats, losses: Floats, eps: float) -> float:
    """The least share to escalate at which the risk of the local answers is within `eps`.

    What a threshold could reach that knew the outcome of every row: the price of a certificate is
    measured from here. Rows without a score are always escalated, so it is never below their share.
    """
    curve = local_risk(scores, losses)
    possible = (curve.y <= eps + 1e-12) & (curve.x >= float(np.isnan(scores).mean()) - 1e-12)
    return float(curve.x[int(np.argmax(possible))])


def risk_coverage(scores: Floats, wrong: Flags) -> Curve:
    """Share wrong among the kept, against share kept, most certain first."""
    counts, errors = _cumulated(scores, wrong.astype(np.float64), descending=True)
    return Curve(counts[1:] / len(scores), errors[1:] / counts[1:])


def thinned(curve: Curve, points: int) -> Curve:
    """At most about `points` points, ends kept, spread evenly over `x`."""
    if len(curve.x) <= points:
        return curve
    wanted = np.linspace(curve.x[0], curve.x[-1], points)
    kept = np.unique(np.searchsorted(curve.x, wanted).clip(0, len(curve.x) - 1))
    return Curve(curve.x[kept], curve.y[kept])
