"""What sources left out, to counts. Pure: the same records give the same counts, in any order.

A device names source and reason itself, so both are cut to what a table and a label can bear.
"""

from collections import Counter
from collections.abc import Iterable

from msgspec import Struct

from cloud_gateway.claims import time_claimed
from sync.wire.v1 import Record, Skipped

MAX_COUNT = 1 << 40
"""Of one record: more inputs than that no source has seen in a row."""
SOURCES = frozenset({"directory", "mqtt", "camera", "stdin"})
REASONS = frozenset(
    "rate_limited near_duplicate backlog_full unreadable refused overloaded stopped gap"
    " out_of_order".split()
)
OTHER = "other"
"""A word of a newer device, or of one that makes words up."""


class Key(Struct, frozen=True, order=True):
    """Which bucket."""

    task: str
    source: str
    reason: str
    start: int


def roll_up(records: Iterable[Record], *, step_s: int, received_at: float) -> Counter[Key]:
    """How many inputs these records add to buckets `step_s` wide."""
    found: Counter[Key] = Counter()
    for record in records:
        if isinstance(record, Skipped):
            start = int(time_claimed(record.at, received_at) // step_s) * step_s
            source, reason = known(record)
            found[Key(record.task, source, reason, start)] += record.count
    return found


def known(record: Skipped) -> tuple[str, str]:
    """Source and reason, each `other` where this gateway does not know the word."""
    return (
        record.source if record.source in SOURCES else OTHER,
        record.reason if record.reason in REASONS else OTHER,
    )


def fault(record: Skipped) -> str | None:
    """Why a record cannot be counted, None for all that can."""
    if not 1 <= record.count <= MAX_COUNT:
        return f"count {record.count} of inputs skipped by {record.source[:80]!r} is no count"
    return None
