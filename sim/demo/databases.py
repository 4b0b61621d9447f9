"""Reads both databases after the programs have stopped, with SQL of its own.

It uses none of the code that wrote them but the codec of the packed records, so that a mistake in
the outbox or in ingest cannot hide itself here.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sim.demo.judge import Ledger
from sync.wire import codec, v1


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        yield connection


def ledger(device: str, outbox: Path, gateway: Path) -> Ledger:
    """One device's ledger: issued and pending from its outbox, the rest from the gateway."""
    with _reading(outbox) as own:
        issued = _number(own, "SELECT CAST(v AS INTEGER) - 1 FROM meta WHERE k = 'next'")
        pending = _number(own, "SELECT coalesce(sum(hi - lo + 1), 0) FROM batch")
        pending += _number(own, "SELECT coalesce(sum(hi - lo + 1), 0) FROM lost")
    with _reading(gateway) as cloud:
        span = "SELECT coalesce(sum(hi - lo + 1), 0) FROM {} WHERE device = ?"
        delivered = _number(cloud, span.format("batch"), device)
        lost = _number(cloud, span.format("loss"), device)
        counted = _number(
            cloud,
            "SELECT coalesce(sum(n), 0) FROM device_answers"
            " WHERE route <> 'revised' AND device = ?",
            device,
        )
        bodies = cloud.execute("SELECT body FROM batch WHERE device = ?", (device,)).fetchall()
    records = [record for (body,) in bodies for record in codec.unpack_records(body)]
    return Ledger(
        issued=issued,
        delivered=delivered,
        lost=lost,
        pending=pending,
        answered_ids=[r.request_id for r in records if isinstance(r, v1.Answered)],
        answers_counted=counted,
    )


def refusals(gateway: Path, version: str) -> dict[str, str]:
    """Which devices told the gateway that they would not install a version, and why."""
    with _reading(gateway) as cloud:
        rows = cloud.execute(
            "SELECT device, code, reason FROM refusal WHERE version = ?", (version,)
        ).fetchall()
    return {device: f"{code}: {reason}" for device, code, reason in rows}


def _number(connection: sqlite3.Connection, query: str, *arguments: str) -> int:
    value: int = connection.execute(query, arguments).fetchone()[0]
    return value
