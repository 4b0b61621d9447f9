"""Numbers others claim, made fit for the database without judging them. Pure.

The database holds no NaN in a column that must have a value, and no integer beyond 64 bits. A
device that claims one harms nobody else by it: its word is replaced by what we know ourselves.
"""

import math

_LAST_SECOND = 253_402_300_799.0
"""The end of the year 9999, and as far the other way: beyond lies no date anybody can write."""

MAX_INT = (1 << 63) - 1


def time_claimed(at: float, received_at: float) -> float:
    """The sender's time when it is one at all, else ours."""
    return at if -_LAST_SECOND <= at <= _LAST_SECOND else received_at  # false for NaN, too


def count_claimed(number: int) -> int:
    """The sender's count within what can be stored."""
    return min(max(number, 0), MAX_INT)


def number_claimed(number: float) -> float | None:
    """The sender's number where it is one; None for NaN and the infinities."""
    return number if math.isfinite(number) else None


def share_claimed(share: float) -> float:
    """The sender's share within 0 and 1; the worst where it is none."""
    return min(max(share, 0.0), 1.0) if share == share else 1.0
