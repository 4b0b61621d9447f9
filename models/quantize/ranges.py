"""From the values an activation takes to the range its 256 codes cover. Pure.

Rules:
1. `minmax` covers every value that was seen.
2. `percentile` leaves (100 - p) / 2 percent out at either end, to the width of a bin.
3. `entropy` cuts magnitudes at the threshold whose 8-bit histogram says most of the full one: the
   least Kullback-Leibler divergence (Migacz, "8-bit inference with TensorRT", GTC 2017, S7310).
4. No method gives a range beyond what was seen, and every range holds 0: padding and ReLU need it.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

BINS = 2048
_CODES = 256
_STRIDE = 8
"""Bins between two thresholds that `entropy` tries: a 256th of the range."""
_TRACE = 1e-4

Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.floating]


class Range(NamedTuple):
    """What one activation's codes cover."""

    low: float
    high: float


class Histogram(NamedTuple):
    """How often values fell into equal bins from `low` to `high`."""

    low: float
    high: float
    counts: Counts

    def edge(self, index: int) -> float:
        """Lower edge of a bin; of `BINS` the upper edge of the last."""
        return self.low + (self.high - self.low) * index / len(self.counts)


def seen(ranges: Range | None, values: Values) -> Range:
    """The extremes of what was seen before and of `values`, of any shape."""
    if not values.size:
        return ranges or Range(0.0, 0.0)
    low, high = float(values.min()), float(values.max())
    return Range(min(low, ranges.low), max(high, ranges.high)) if ranges else Range(low, high)


def with_zero(extremes: Range) -> Range:
    """The range that also holds 0."""
    return Range(min(extremes.low, 0.0), max(extremes.high, 0.0))


def count(values: Values, low: float, high: float) -> Counts:
    """Histogram counts int64 [BINS] of values of any shape within [low, high]."""
    if not high > low:
        return np.zeros(BINS, np.int64)
    scaled = (values.ravel().astype(np.float64) - low) * (BINS / (high - low))
    return np.bincount(np.clip(scaled.astype(np.int64), 0, BINS - 1), minlength=BINS)


def count_magnitudes(values: Values, high: float) -> Counts:
    """Histogram counts int64 [BINS] of |x| within [0, high], for `by_entropy`.

    0 has a code of its own on every grid, so how often a ReLU gave it says nothing of a cut.
    """
    return count(np.abs(values[values != 0]), 0.0, high)


def by_percentile(histogram: Histogram, percentile: float) -> Range:
    """The range that leaves (100 - percentile) / 2 percent out at either end."""
    total = histogram.counts.sum()
    if not total:
        return with_zero(Range(histogram.low, histogram.high))
    out = total * (100 - percentile) / 200
    below = np.cumsum(histogram.counts)
    above = np.cumsum(histogram.counts[::-1])
    first = int(np.searchsorted(below, out, side="right"))
    last = len(below) - int(np.searchsorted(above, out, side="right"))
    return with_zero(Range(histogram.edge(first), histogram.edge(max(last, first + 1))))


def by_entropy(magnitudes: Histogram, extremes: Range) -> Range:
    """The range cut at the magnitude that loses least; see `count_magnitudes`."""
    one_sided = extremes.low >= 0 or extremes.high <= 0
    levels = _CODES if one_sided else _CODES // 2
    cut = magnitudes.edge(entropy_threshold(magnitudes.counts, levels))
    if not cut > 0:
        return with_zero(extremes)
    return with_zero(Range(max(extremes.low, -cut), min(extremes.high, cut)))


def entropy_threshold(counts: Counts, levels: int) -> int:
    """Number of the first bins that, in `levels` codes, diverge least from `counts`.

    For each candidate i the reference is the first i bins with all beyond added to the last; the
    candidate spreads each code's total evenly over the bins of it that are not empty.
    """
    best, least = len(counts), np.inf
    beyond = counts[::-1].cumsum()[::-1]
    for end in range(levels, len(counts) + 1, _STRIDE):
        inside = counts[:end].astype(np.float64)
        reference = inside.copy()
        reference[-1] += beyond[end] if end < len(counts) else 0
        code = np.arange(end) * levels // end
        filled = reference > 0
        totals = np.bincount(code, weights=inside, minlength=levels)
        bins = np.bincount(code, weights=filled, minlength=levels)
        spread = np.where(filled, totals[code] / np.maximum(bins[code], 1), 0.0)
        divergence = _divergence(reference, spread)
        if divergence < least:
            best, least = end, divergence
    return best


def _divergence(reference: Values, candidate: Values) -> float:
    """Kullback-Leibler divergence of two histograms, the candidate's holes filled with a trace.

    Without the trace a single value beyond a gap would make every cut infinitely bad, and those
    are what a cut is for.
    """
    if not reference.sum() or not candidate.sum():
        return float("inf")
    p = reference / reference.sum()
    q = (candidate / candidate.sum() + _TRACE / len(candidate)) / (1 + _TRACE)
    here = p > 0
    return float((p[here] * np.log(p[here] / q[here])).sum())
