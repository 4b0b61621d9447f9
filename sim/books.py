"""One device's records as both databases hold them, read from outside with SQL of its own.

It uses none of the code that wrote them but the codec of packed records, so that a mistake in the
outbox or in ingest cannot hide itself here. The simulator's invariants and the demo's account both
read by this.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sync.wire import codec, v1

Ranges = list[tuple[int, int]]


@dataclass(frozen=True)
class DeviceFiles:
    """One device's records as both databases hold them."""

    issued: int
    pending: Ranges
    delivered: Ranges
    lost: Ranges
    waiting: frozenset[str]
    """Request ids whose question stands in the outbox."""
    records: Sequence[v1.Record]
    """All that reached the gateway, and all still pending."""
    counted: int
    """Answers in the gateway's aggregates."""


def size(ranges: Ranges) -> int:
    """How many numbers these ranges hold."""
    return sum(hi - lo + 1 for lo, hi in ranges)


def read_files(device: str, outbox: Path, gateway: Path, *, bodies: bool) -> DeviceFiles:
    """Read one device's side and the gateway's side of its records."""
    with _reading(outbox) as own:
        ((issued,),) = own.execute("SELECT v - 1 FROM meta WHERE k = 'next'")
        pending: Ranges = own.execute("SELECT lo, hi FROM batch").fetchall()
        unreported: Ranges = own.execute("SELECT lo, hi FROM lost").fetchall()
        waiting = frozenset(row[0] for row in own.execute("SELECT request_id FROM escalation"))
        packed = own.execute("SELECT body FROM batch").fetchall() if bodies else []
    with _reading(gateway) as cloud:
        mine = (device,)
        delivered: Ranges = cloud.execute(
            "SELECT lo, hi FROM batch WHERE device = ?", mine
        ).fetchall()
        lost: Ranges = cloud.execute("SELECT lo, hi FROM loss WHERE device = ?", mine).fetchall()
        ((counted,),) = cloud.execute(
            "SELECT coalesce(sum(n), 0) FROM device_answers"
            " WHERE route <> 'revised' AND device = ?",
            mine,
        )
        if bodies:
            packed += cloud.execute("SELECT body FROM batch WHERE device = ?", mine).fetchall()
    return DeviceFiles(
        issued=issued,
        pending=pending,
        delivered=delivered,
        lost=[*lost, *unreported],
        waiting=waiting,
        records=[record for (body,) in packed for record in codec.unpack_records(body)],
        counted=counted,
    )


def refusals(gateway: Path, version: str) -> dict[str, str]:
    """Which devices told the gateway that they would not install a version, and why."""
    with _reading(gateway) as cloud:
        rows = cloud.execute(
            "SELECT device, code, reason FROM refusal WHERE version = ?", (version,)
        ).fetchall()
    return {device: f"{code}: {reason}" for device, code, reason in rows}


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        yield connection
