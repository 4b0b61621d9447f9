"""The SQL of ingest: ranges, counts, dead letters. Called inside `Database.write` and `read`."""

import hashlib
from collections import Counter

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Table, bindparam, delete, func, select

from cloud_gateway.claims import count_claimed, number_claimed, time_claimed
from cloud_gateway.database import grow, insert_new, put
from cloud_gateway.tables import (
    LATENCY_BUCKETS,
    alarm,
    batch,
    dead_letter,
    device_answers,
    device_health,
    device_skips,
    feedback,
    fleet_answers,
    loss,
)
from cloud_gateway.telemetry import skips
from cloud_gateway.telemetry.ranges import Range
from cloud_gateway.telemetry.rollup import Counts, Key
from sync.wire import v1
from sync.wire.topics import TENANT

MAX_TEXT = 1024
"""Of what a device writes in its own words, so many characters are kept."""
_LATENCY = tuple(f"l{bucket:02}" for bucket in range(LATENCY_BUCKETS))
_ADDED = ("n", "hard", "latency_sum_us", *_LATENCY)


def _of_series(table: Table) -> tuple[ColumnElement[bool], ...]:
    return (
        table.c.tenant == TENANT,
        table.c.device == bindparam("device"),
        table.c.incarnation == bindparam("incarnation"),
    )


# Built once: building a statement costs more than running it.
_LAST_START = (
    select(func.max(batch.c.lo))
    .where(*_of_series(batch), batch.c.lo <= bindparam("lo"))
    .scalar_subquery()
)
_OVERLAPPING = (
    select(batch.c.lo, batch.c.hi, batch.c.sha256, batch.c.counted)
    .where(
        *_of_series(batch),
        batch.c.lo <= bindparam("hi"),
        # Ranges do not overlap, so only the last one that begins before `lo` can reach in.
        batch.c.lo >= func.coalesce(_LAST_START, bindparam("lo")),
    )
    .order_by(batch.c.lo)
)
_LOSSES_OVER = (
    select(loss.c.lo, loss.c.hi, loss.c.reason, loss.c.at, loss.c.received_at)
    .where(*_of_series(loss), loss.c.lo <= bindparam("hi"), loss.c.hi >= bindparam("lo"))
    .order_by(loss.c.lo)
)


class Series(Struct, frozen=True):
    """Whose numbers: one incarnation of one device's outbox."""

    device: str
    incarnation: str


class KnownBatch(Struct, frozen=True):
    """A range that was taken in before."""

    range: Range
    sha256: bytes
    counted: bool


class NewBatch(Struct, frozen=True):
    """A range to take in."""

    series: Series
    range: Range
    boot: int
    at: float
    received_at: float
    sha256: bytes
    counted: bool
    body: bytes


class DeadLetter(Struct, frozen=True):
    """A message that could not be taken in, and why."""

    device: str
    code: str
    reason: str
    message: bytes
    received_at: float
    incarnation: str | None = None
    range: Range | None = None


class LostRange(Struct, frozen=True):
    """A range whose content is gone."""

    series: Series
    range: Range
    reason: str
    at: float
    received_at: float


def overlapping(connection: Connection, series: Series, wanted: Range) -> list[KnownBatch]:
    """Ranges taken in that share a number with `wanted`, in order."""
    rows = connection.execute(_OVERLAPPING, _wanted(series, wanted))
    known = [KnownBatch(Range(lo, hi), sha256, counted) for lo, hi, sha256, counted in rows]
    return [one for one in known if one.range.overlaps(wanted)]


def add_batch(connection: Connection, new: NewBatch) -> bool:
    """Take a range in; False when its key is there already."""
    return insert_new(
        connection,
        batch,
        tenant=TENANT,
        device=new.series.device,
        incarnation=new.series.incarnation,
        lo=new.range.lo,
        hi=new.range.hi,
        boot=new.boot,
        at=new.at,
        received_at=new.received_at,
        sha256=new.sha256,
        counted=new.counted,
        body=new.body if new.counted else None,
    )


def count_answers(connection: Connection, device: str, found: dict[Key, Counts]) -> None:
    """Add to the device's buckets."""
    _count(connection, device_answers, found, device=device)


def count_fleet(connection: Connection, found: dict[Key, Counts]) -> None:
    """Add to the fleet's buckets."""
    _count(connection, fleet_answers, found)


def count_skips(connection: Connection, device: str, found: Counter[skips.Key]) -> None:
    """Add to the device's buckets of inputs its sources left out."""
    rows = [
        {
            "tenant": TENANT,
            "device": device,
            "task": key.task,
            "source": key.source,
            "reason": key.reason,
            "start": key.start,
            "n": n,
        }
        for key, n in sorted(found.items())
    ]
    grow(connection, device_skips, rows, added=("n",))


def keep_feedback(connection: Connection, device: str, said: v1.Feedback, now: float) -> None:
    """The first word for a request id stays."""
    insert_new(
        connection,
        feedback,
        tenant=TENANT,
        device=device,
        request_id=said.request_id[:MAX_TEXT],
        client=said.client[:MAX_TEXT],
        task=said.task[:MAX_TEXT],
        label=said.label[:MAX_TEXT],
        at=time_claimed(said.at, now),
        received_at=now,
    )


def keep_alarm(connection: Connection, device: str, said: v1.Alarm, now: float) -> None:
    """Once, however often it comes."""
    insert_new(
        connection,
        alarm,
        tenant=TENANT,
        device=device,
        task=said.task[:MAX_TEXT],
        kind=said.kind,
        at=time_claimed(said.at, now),
        certificate=said.certificate[:MAX_TEXT],
        why=said.why[:MAX_TEXT],
        received_at=now,
    )


def keep_health(connection: Connection, device: str, said: v1.Health, now: float) -> None:
    """The last word of each device stays."""
    put(
        connection,
        device_health,
        tenant=TENANT,
        device=device,
        at=time_claimed(said.at, now),
        received_at=now,
        level=said.level,
        why=said.why[:MAX_TEXT],
        cpu_share=number_claimed(said.cpu_share) or 0.0,
        supervisor_bytes=count_claimed(said.supervisor_bytes),
        worker_bytes=count_claimed(said.worker_bytes),
        workers=count_claimed(said.workers),
        disk_bytes=count_claimed(said.disk_bytes),
        disk_free_bytes=count_claimed(said.disk_free_bytes),
        uplink_bytes=count_claimed(said.uplink_bytes),
        flash_bytes=count_claimed(said.flash_bytes),
        celsius=None if said.celsius is None else number_claimed(said.celsius),
        over=", ".join(said.over)[:MAX_TEXT],
    )


def losses_over(connection: Connection, series: Series, wanted: Range) -> list[LostRange]:
    """Lost ranges that share a number with `wanted`, in order."""
    rows = connection.execute(_LOSSES_OVER, _wanted(series, wanted))
    return [
        LostRange(series, Range(lo, hi), why, at, received) for lo, hi, why, at, received in rows
    ]


def add_loss(connection: Connection, lost: LostRange) -> None:
    """Note a range as lost; whoever calls has made sure that it overlaps nothing."""
    insert_new(
        connection,
        loss,
        tenant=TENANT,
        device=lost.series.device,
        incarnation=lost.series.incarnation,
        lo=lost.range.lo,
        hi=lost.range.hi,
        reason=lost.reason,
        at=lost.at,
        received_at=lost.received_at,
    )


def drop_loss(connection: Connection, lost: LostRange) -> None:
    """Forget a lost range: it, or a part of it, came after all."""
    connection.execute(
        delete(loss).where(
            loss.c.tenant == TENANT,
            loss.c.device == lost.series.device,
            loss.c.incarnation == lost.series.incarnation,
            loss.c.lo == lost.range.lo,
        )
    )


def add_dead_letter(connection: Connection, letter: DeadLetter, *, limit_bytes: int) -> bool:
    """Keep a message, once; False when the device's dead letters fill `limit_bytes` already."""
    kept = connection.execute(
        select(func.coalesce(func.sum(func.length(dead_letter.c.message)), 0)).where(
            dead_letter.c.tenant == TENANT, dead_letter.c.device == letter.device
        )
    ).scalar_one()
    if kept + len(letter.message) > limit_bytes:
        return False
    insert_new(
        connection,
        dead_letter,
        tenant=TENANT,
        device=letter.device,
        code=letter.code,
        reason=letter.reason,
        incarnation=letter.incarnation,
        lo=letter.range.lo if letter.range else None,
        hi=letter.range.hi if letter.range else None,
        received_at=letter.received_at,
        sha256=hashlib.sha256(letter.message).digest(),
        message=letter.message,
    )
    return True


def _wanted(series: Series, wanted: Range) -> dict[str, object]:
    return {
        "device": series.device,
        "incarnation": series.incarnation,
        "lo": wanted.lo,
        "hi": wanted.hi,
    }


def _count(connection: Connection, table: Table, found: dict[Key, Counts], **who: str) -> None:
    rows = [
        {
            "tenant": TENANT,
            **who,
            "task": key.task,
            "route": key.route,
            "start": key.start,
            "n": counts.n,
            "hard": counts.hard,
            "latency_sum_us": counts.latency_sum_us,
            "latency_max_us": counts.latency_max_us,
            **dict(zip(_LATENCY, counts.latency or [0] * LATENCY_BUCKETS, strict=True)),
        }
        for key, counts in sorted(found.items())
    ]
    grow(connection, table, rows, added=_ADDED, largest=("latency_max_us",))
