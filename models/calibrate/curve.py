"""The certified risk at any threshold: a step function, looked up without numpy.

Rules:
1. `bounds[i]` is an upper bound on the risk of every threshold in [thresholds[i],
   thresholds[i + 1]), the last one up to 1. All bounds hold together with chance 1 - delta, so
   whoever moves the threshold may choose it after looking (`band` makes them).
2. Below the first threshold nothing is known: the bound is 1.
3. A threshold of None, or one above 1, answers nothing locally: the risk is 0.
"""

import itertools
from bisect import bisect_right
from typing import Annotated

from msgspec import Meta, Struct

Points = Annotated[tuple[float, ...], Meta(max_length=1024)]
"""Curves are made of 128 at most; whoever reads one takes a few more."""


class Curve(Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds by threshold; thresholds ascend, strictly, within [0, 1]."""

    thresholds: Points
    bounds: Points

    def __post_init__(self) -> None:
        lows = self.thresholds
        if not lows or len(lows) != len(self.bounds):
            raise ValueError("a curve needs one bound for each of its thresholds, and one at least")
        if not (lows[0] >= 0.0 and lows[-1] <= 1.0):
            raise ValueError("a curve's thresholds lie in [0, 1]")
        if any(not low < high for low, high in itertools.pairwise(lows)):
            raise ValueError("a curve's thresholds ascend, each once")
        if not all(0.0 <= bound <= 1.0 for bound in self.bounds):
            raise ValueError("a curve's bounds lie in [0, 1]")

    def risk_at(self, threshold: float | None) -> float:
        """The certified risk of answering locally from `threshold` on."""
        if threshold is None or threshold > 1.0:
            return 0.0
        place = bisect_right(self.thresholds, threshold) - 1
        return self.bounds[place] if place >= 0 else 1.0

    def threshold_for(self, risk: float) -> float | None:
        """The lowest threshold whose certified risk is at most `risk`; None when there is none."""
        for threshold, bound in zip(self.thresholds, self.bounds, strict=True):
            if bound <= risk:
                return threshold
        return None


class Gain(Struct, frozen=True, forbid_unknown_fields=True):
    """g(s): what escalating an input of score s gains, in right answers; it falls as s rises.

    `scores[i]` begins a block, `gains[i]` is its mean gain, `weights[i]` what the samples in it
    weigh together (their number, where nobody gave weights). `gain` makes it.
    """

    scores: Points
    gains: Points
    weights: Points

    def __post_init__(self) -> None:
        if not self.scores or not len(self.scores) == len(self.gains) == len(self.weights):
            raise ValueError("a gain curve needs one gain and one weight for each of its scores")
        if any(not low < high for low, high in zip(self.scores, self.scores[1:], strict=False)):
            raise ValueError("a gain curve's scores ascend, each once")
        if any(low < high for low, high in zip(self.gains, self.gains[1:], strict=False)):
            raise ValueError("a gain curve's gains never rise with the score")
        if not all(weight > 0 for weight in self.weights):
            raise ValueError("a gain curve's weights are positive")

    def at(self, score: float | None) -> float:
        """The gain of escalating an input of this score; without a score, as of the lowest."""
        if score is None:
            return self.gains[0]
        return self.gains[max(bisect_right(self.scores, score) - 1, 0)]
