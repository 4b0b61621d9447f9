"""The SQL of the fleet's pictures: each function one question, asked inside `Database.read`.

1. Every statement finds its rows by primary key, so its cost follows the devices and the window,
   not the history. The one exception is a device's own page, which adds up that device's batches.
2. A clock far ahead of ours counts in no window: its answers would be "recent" for ever.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from msgspec.structs import replace
from sqlalchemy import ColumnElement, Connection, Table, and_, case, func, select, true

from cloud_gateway.facts import (
    Answers,
    HealthFacts,
    Ledger,
    LostRange,
    RefusalFacts,
    RiskFacts,
    TaskFacts,
)
from cloud_gateway.tables import (
    DEVICE_STEP_S,
    EVERY_DEVICE,
    LATENCY_BUCKETS,
    batch,
    desired,
    device,
    device_answers,
    device_health,
    device_state,
    fleet_answers,
    loss,
    refusal,
    task_state,
)
from sync.wire.topics import TENANT

WINDOW_S = 300
ROUTES = ("edge", "cloud", "provisional")
_LATENCY = tuple(f"l{bucket:02}" for bucket in range(LATENCY_BUCKETS))


class Enrolled(NamedTuple):
    name: str
    added_at: float


class Said(NamedTuple):
    """A device's last beat, and when the last batch of the same outbox came."""

    device: str
    heard_at: float
    at: float
    link: str
    issued: int
    pending: int
    escalations_waiting: int
    agent_version: str
    records_at: float | None


class Histogram(NamedTuple):
    n: int
    max_us: int
    latency: tuple[int, ...]


def window_since(at: float) -> int:
    """Where the window of the counts begins: on a whole bucket, at least WINDOW_S ago. Pure."""
    return int(at - WINDOW_S) // DEVICE_STEP_S * DEVICE_STEP_S


def enrolled(connection: Connection) -> list[Enrolled]:
    """Every device that may speak, by name."""
    rows = connection.execute(
        select(device.c.name, device.c.added_at)
        .where(device.c.tenant == TENANT, device.c.removed_at.is_(None))
        .order_by(device.c.name)
    )
    return [Enrolled(*row) for row in rows]


def last_words(connection: Connection) -> dict[str, Said]:
    last_batch = (
        select(batch.c.received_at)
        .where(
            batch.c.tenant == TENANT,
            batch.c.device == device_state.c.device,
            batch.c.incarnation == device_state.c.incarnation,
        )
        .order_by(batch.c.lo.desc())
        .limit(1)
        .scalar_subquery()
    )
    said = device_state.c
    rows = connection.execute(
        select(
            said.device,
            said.heard_at,
            said.at,
            said.link,
            said.issued,
            said.pending,
            said.escalations_waiting,
            said.agent_version,
            last_batch,
        ).where(said.tenant == TENANT)
    )
    return {row[0]: Said(*row) for row in rows}


def tasks(connection: Connection, names: Iterable[str]) -> dict[str, tuple[TaskFacts, ...]]:
    """What each device runs and should run. A wish for the device goes before one for all."""
    wanted: dict[str, dict[str, str]] = defaultdict(dict)
    for name, task, version in connection.execute(
        select(desired.c.device, desired.c.task, desired.c.version).where(
            desired.c.tenant == TENANT
        )
    ):
        wanted[name][task] = version
    for_all = wanted.pop(EVERY_DEVICE, {})
    loaded: dict[str, dict[str, TaskFacts]] = defaultdict(dict)
    said = task_state.c
    columns = (said.device, said.task, said.version, said.digest, said.state, said.heard_at)
    for name, task, version, digest, state, heard_at, risk in connection.execute(
        select(*columns, said.risk).where(said.tenant == TENANT)
    ):
        loaded[name][task] = TaskFacts(task, version, digest, state, heard_at, None, _risk(risk))
    found: dict[str, tuple[TaskFacts, ...]] = {}
    for name in names:
        mine, wish = loaded.get(name, {}), {**for_all, **wanted.get(name, {})}
        found[name] = tuple(
            _task(mine.get(task), task, wish.get(task))
            for task in sorted(mine.keys() | wish.keys())
        )
    return found


def _task(loaded: TaskFacts | None, task: str, wish: str | None) -> TaskFacts:
    if loaded is None:
        return TaskFacts(task, None, None, None, None, wish)
    return replace(loaded, desired=wish)


def _risk(said: str | None) -> RiskFacts | None:
    return None if said is None else msgspec.json.decode(said, type=RiskFacts)


def refusals(
    connection: Connection, tasks: dict[str, tuple[TaskFacts, ...]]
) -> dict[str, tuple[RefusalFacts, ...]]:
    found: dict[str, list[RefusalFacts]] = defaultdict(list)
    said = refusal.c
    for name, task, version, code, reason, at in connection.execute(
        select(said.device, said.task, said.version, said.code, said.reason, said.at)
        .where(said.tenant == TENANT)
        .order_by(said.at.desc())
    ):
        standing = any(
            one.task == task and one.behind and one.desired == version
            for one in tasks.get(name, ())
        )
        found[name].append(RefusalFacts(task, version, code, reason, at, standing))
    return {name: tuple(refusals) for name, refusals in found.items()}


def answers(connection: Connection, at: float) -> dict[str, Answers]:
    """Counts of the window by device."""
    counted = device_answers.c

    def of(route: str) -> ColumnElement[int]:
        return func.coalesce(func.sum(case((counted.route == route, counted.n), else_=0)), 0)

    # LEFT JOIN: left to choose, SQLite walks the whole history and looks each row's task up.
    rows = connection.execute(
        select(
            task_state.c.device,
            *(of(route) for route in ROUTES),
            func.coalesce(func.sum(counted.hard), 0),
        )
        .select_from(
            task_state.outerjoin(
                device_answers,
                and_(
                    counted.tenant == task_state.c.tenant,
                    counted.device == task_state.c.device,
                    counted.task == task_state.c.task,
                    counted.route.in_(ROUTES),
                    counted.start >= window_since(at),
                    counted.start <= at + DEVICE_STEP_S,
                ),
            )
        )
        .where(task_state.c.tenant == TENANT)
        .group_by(task_state.c.device)
    )
    return {name: Answers(*(int(count) for count in counts)) for name, *counts in rows}


def histograms(
    connection: Connection, since: int, step: int, *, task: str, name: str
) -> dict[int, dict[str, Histogram]]:
    table: Table = device_answers if name else fleet_answers
    counted = table.c
    known = select(task_state.c.task).where(task_state.c.tenant == TENANT).distinct()
    if name:
        known = known.where(task_state.c.device == name)
    slot = (counted.start - counted.start % step).label("slot")
    rows = connection.execute(
        select(
            slot,
            counted.route,
            func.sum(counted.n),
            func.max(counted.latency_max_us),
            *(func.sum(counted[bound]) for bound in _LATENCY),
        )
        .where(
            counted.tenant == TENANT,
            counted.device == name if name else true(),
            counted.task == task if task else counted.task.in_(known),
            counted.route.in_(ROUTES),
            counted.start >= since,
        )
        .group_by(slot, counted.route)
    )
    found: dict[int, dict[str, Histogram]] = defaultdict(dict)
    for start, route, n, max_us, *latency in rows:
        found[int(start)][route] = Histogram(int(n), int(max_us), tuple(int(x) for x in latency))
    return found


def ledger(connection: Connection, name: str, at: float) -> Ledger | None:
    said = device_state.c
    row = connection.execute(
        select(said.incarnation, said.boot, said.issued, said.pending, said.heard_at).where(
            said.tenant == TENANT, said.device == name
        )
    ).one_or_none()
    if row is None:
        return None
    incarnation, boot, issued, pending, said_at = row
    taken = connection.execute(
        select(batch.c.counted, func.sum(batch.c.hi - batch.c.lo + 1))
        .where(
            batch.c.tenant == TENANT,
            batch.c.device == name,
            batch.c.incarnation == incarnation,
        )
        .group_by(batch.c.counted)
    )
    by_counted = {bool(counted): int(n) for counted, n in taken}
    lost = connection.execute(
        select(func.sum(loss.c.hi - loss.c.lo + 1)).where(
            loss.c.tenant == TENANT, loss.c.device == name, loss.c.incarnation == incarnation
        )
    ).scalar()
    return Ledger(
        incarnation=incarnation,
        boot=boot,
        issued=issued,
        pending=pending,
        said_at=said_at,
        delivered=sum(by_counted.values()),
        undecoded=by_counted.get(False, 0),
        lost=int(lost or 0),
        read_at=at,
    )


def losses(connection: Connection, name: str) -> tuple[LostRange, ...]:
    count = func.sum(loss.c.hi - loss.c.lo + 1)
    rows = connection.execute(
        select(loss.c.reason, count, func.max(loss.c.received_at))
        .where(loss.c.tenant == TENANT, loss.c.device == name)
        .group_by(loss.c.reason)
        .order_by(count.desc())
    )
    return tuple(LostRange(reason, int(n), newest) for reason, n, newest in rows)


def health(connection: Connection, name: str) -> HealthFacts | None:
    """What the device last said of itself; None where it has not."""
    said = device_health.c
    row = connection.execute(
        select(*(said[field] for field in HealthFacts.__struct_fields__)).where(
            said.tenant == TENANT, said.device == name
        )
    ).one_or_none()
    return None if row is None else HealthFacts(*row)
