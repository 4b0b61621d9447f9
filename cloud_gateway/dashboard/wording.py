"""Numbers and times as the page says them. Pure; `static/page.js` says the same in the browser.

1. What is not known is "unknown", never a dash that could be a zero and never a zero.
2. An age has one unit and no decimals: it is read at a glance and grows while one looks.
"""

from datetime import UTC, datetime

UNKNOWN = "unknown"
CLOCK_SLACK_S = 2.0
_UNITS = ((1, 60, "s"), (60, 3600, "min"), (3600, 86400, "h"))


def age(at: float | None, now: float) -> str:
    """How long ago `at` was; a moment ahead of now is now."""
    if at is None:
        return UNKNOWN
    seconds = max(0.0, now - at)
    for size, until, unit in _UNITS:
        if seconds < until:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds // 86400)} d"


def count(number: int | None) -> str:
    return UNKNOWN if number is None else f"{number:,}"


def percent(share: float | None) -> str:
    """A share with the digits that mean something: 8.2 %, 31 %, 0 %."""
    if share is None:
        return UNKNOWN
    value = share * 100
    return f"{value:.1f} %" if 0 < value < 9.95 else f"{value:.0f} %"


def utc(at: float | None) -> str:
    """The moment in words that no time zone changes."""
    if at is None:
        return UNKNOWN
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, OSError, ValueError):  # a device may claim any number to be a time
        return UNKNOWN


def clock(ahead_s: float | None) -> str:
    """How a device's clock stands to ours; the way of its word here is not told from an error."""
    if ahead_s is None:
        return UNKNOWN
    if abs(ahead_s) < CLOCK_SLACK_S:
        return "in step"
    return f"{age(0.0, abs(ahead_s))} {'ahead' if ahead_s > 0 else 'behind'}"
