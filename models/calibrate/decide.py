"""The rule that turns a confidence into a decision. A core: no clock, no chance, no arrays.

1. A confidence at or above the threshold is answered locally.
2. No confidence (NaN, infinite or degenerate output) is hard, whatever the threshold.
3. No threshold (the promise could not be certified) makes every input hard.
4. A confidence outside [0, 1], NaN included, is no confidence: nothing malformed stays local.
"""

from typing import Literal, NamedTuple

Reason = Literal["confident", "below_threshold", "degenerate", "uncertified"]


class Verdict(NamedTuple):
    """Whether an input is hard, and why."""

    hard: bool
    reason: Reason


def judge(confidence: float | None, threshold: float | None) -> Verdict:
    """Hard or not, by the rules above."""
    if confidence is None or not 0.0 <= confidence <= 1.0:
        return Verdict(True, "degenerate")
    if threshold is None:
        return Verdict(True, "uncertified")
    if confidence >= threshold:
        return Verdict(False, "confident")
    return Verdict(True, "below_threshold")
