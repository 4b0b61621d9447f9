"""The clock: records carry it, TLS and tokens rest on it, and small boards have no battery."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from edge_agent.commands.checks.finding import Finding, Patient, broken, ok, warning

EARLIEST = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
"""This program was written later than that."""
LATEST = datetime(2100, 1, 1, tzinfo=UTC).timestamp()
SLACK_S = 5.0
MOST_S = 300.0
"""What TLS and signed documents are commonly forgiven."""
_SET = "set the clock, and keep it set: timedatectl set-ntp true (or chronyd, ntpd)"


def clock(patient: Patient, heard_at: float | None, now: float | None = None) -> Iterator[Finding]:
    """Against reason, and against the gateway's `Date` where it answered (`heard_at`)."""
    now = time.time() if now is None else now
    told = _words(now)
    if not EARLIEST <= now < LATEST:
        yield broken("clock", f"stands at {told}: it was never set, or has jumped", _SET)
    elif heard_at is None:
        yield ok("clock", f"{told}; there was no gateway to compare it with")
    elif abs(now - heard_at) > MOST_S:
        yield broken("clock", f"{told}, the gateway says {_words(heard_at)}", _SET)
    elif abs(now - heard_at) > SLACK_S:
        yield warning("clock", f"{told}, {now - heard_at:+.0f} s off the gateway's", _SET)
    else:
        yield ok("clock", f"{told}, within {SLACK_S:.0f} s of the gateway's")


def _words(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        return f"{at:.0f} seconds since 1970"
