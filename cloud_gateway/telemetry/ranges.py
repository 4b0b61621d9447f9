"""Ranges of record numbers, both ends included. Pure."""

from collections.abc import Iterable
from typing import NamedTuple

from cloud_gateway.claims import MAX_INT


class Range(NamedTuple):
    """Numbers `lo` to `hi`, never empty."""

    lo: int
    hi: int

    def overlaps(self, other: "Range") -> bool:
        return self.lo <= other.hi and other.lo <= self.hi

    @property
    def size(self) -> int:
        return self.hi - self.lo + 1


def is_range(lo: int, hi: int) -> bool:
    """Whether two numbers somebody sent make a range that can be kept."""
    return 0 <= lo <= hi <= MAX_INT


def subtract(whole: Range, taken: Iterable[Range]) -> list[Range]:
    """What is left of `whole` without `taken`, in order."""
    left: list[Range] = []
    at = whole.lo
    for one in sorted(taken):
        if one.hi < at or one.lo > whole.hi:
            continue
        if one.lo > at:
            left.append(Range(at, one.lo - 1))
        at = one.hi + 1
    if at <= whole.hi:
        left.append(Range(at, whole.hi))
    return left
