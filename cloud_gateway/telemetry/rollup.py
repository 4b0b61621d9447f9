"""Records to counts. Pure: the same records give the same counts, in any order.

1. An answer counts in the bucket of its own time `at`, however old or young that is. Only a time no
   bucket can hold (not a number, or beyond the year 9999) is replaced by the time of receipt.
2. `revised` counts late cloud answers; it never changes what was counted for the first answer.
3. Latency is `total_us`, as the device measured it.
4. What is neither an answer nor a revision has no bucket here (`skips` counts inputs left out).
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct

from cloud_gateway.claims import time_claimed
from cloud_gateway.telemetry import skips
from sync.wire.v1 import Answered, Record, Revised, Skipped

Route = Literal["edge", "cloud", "provisional", "revised"]
ROUTES: tuple[Route, ...] = ("edge", "cloud", "provisional", "revised")
BOUNDS_US: tuple[int, ...] = tuple(round(100 * 1.6**step) for step in range(23))
"""Upper bounds of the latency buckets, 100 us to 3.1 s; a last bucket takes all above."""

MAX_US = 1 << 42
"""A duration of 50 days; more than that is no duration."""


class Key(Struct, frozen=True, order=True):
    """Which bucket."""

    task: str
    route: Route
    start: int


class Counts(Struct):
    """What one bucket gains."""

    n: int = 0
    hard: int = 0
    latency_sum_us: int = 0
    latency_max_us: int = 0
    latency: list[int] = []

    def add(self, record: Answered) -> None:
        self.n += 1
        self.hard += record.hard
        self.latency_sum_us += record.total_us
        self.latency_max_us = max(self.latency_max_us, record.total_us)
        if not self.latency:
            self.latency = [0] * (len(BOUNDS_US) + 1)
        self.latency[bisect_left(BOUNDS_US, record.total_us)] += 1


def fault(record: Record) -> str | None:
    """Why a record cannot be counted, None for all that can."""
    if isinstance(record, Answered) and not 0 <= record.total_us <= MAX_US:
        return f"total_us {record.total_us} of request {record.request_id[:80]!r} is no duration"
    if isinstance(record, Skipped):
        return skips.fault(record)
    return None


def roll_up(records: Iterable[Record], *, step_s: int, received_at: float) -> dict[Key, Counts]:
    """What these records add to buckets `step_s` wide."""
    found: dict[Key, Counts] = {}
    for record in records:
        if not isinstance(record, Answered | Revised):
            continue
        key = Key(record.task, route_of(record), _start(record.at, received_at, step_s))
        counts = found.get(key)
        if counts is None:
            counts = found[key] = Counts()
        if isinstance(record, Revised):
            counts.n += 1
        else:
            counts.add(record)
    return found


def route_of(record: Answered | Revised) -> Route:
    """Where the answer came from; an edge answer that was not final is provisional."""
    if isinstance(record, Revised):
        return "revised"
    return record.route if record.final else "provisional"


def quantile_us(latency: Sequence[int], share: float) -> float | None:
    """The latency below which `share` of the answers lie, to the width of a bucket (a factor 1.6).

    None without answers; infinite when it lies in the last, open bucket.
    """
    total = sum(latency)
    if not total:
        return None
    below = 0.0
    wanted = share * total
    for bucket, n in enumerate(latency):
        if n and below + n >= wanted:
            if bucket == len(BOUNDS_US):
                return float("inf")
            low = BOUNDS_US[bucket - 1] if bucket else 0
            return low + (BOUNDS_US[bucket] - low) * (wanted - below) / n
        below += n
    raise AssertionError("shares lie between 0 and 1")


def _start(at: float, received_at: float, step_s: int) -> int:
    return int(time_claimed(at, received_at) // step_s) * step_s
