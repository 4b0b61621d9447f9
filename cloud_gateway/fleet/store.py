"""The SQL of the fleet: devices and their last heartbeats."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, delete, select, update

from cloud_gateway.claims import count_claimed, share_claimed, time_claimed
from cloud_gateway.database import put
from cloud_gateway.facts import RiskFacts
from cloud_gateway.tables import device, device_state, refusal, task_state
from sync.wire import v1
from sync.wire.topics import TENANT

MOST_WORDS = 1024
"""Characters kept of what a device says in its own words."""


class Enrolled(Struct, frozen=True):
    """A device that was added, and what its token hashes to."""

    name: str
    token_sha256: bytes
    broker_password: str
    added_at: float
    removed_at: float | None


class Heard(Struct, frozen=True):
    """A heartbeat and when it came, by the gateway's clock."""

    beat: v1.Beat
    at: float


def enrolled(connection: Connection) -> list[Enrolled]:
    """Every device that ever was, by name; those with `removed_at` are shut out."""
    rows = connection.execute(
        select(
            device.c.name,
            device.c.token_sha256,
            device.c.broker_password,
            device.c.added_at,
            device.c.removed_at,
        )
        .where(device.c.tenant == TENANT)
        .order_by(device.c.name)
    )
    return [Enrolled(*row) for row in rows]


def add(connection: Connection, new: Enrolled) -> None:
    """Add a device, or add it again after it was removed."""
    put(
        connection,
        device,
        tenant=TENANT,
        name=new.name,
        token_sha256=new.token_sha256,
        broker_password=new.broker_password,
        added_at=new.added_at,
        removed_at=new.removed_at,
    )


def remove(connection: Connection, name: str, at: float) -> None:
    connection.execute(
        update(device).where(device.c.tenant == TENANT, device.c.name == name).values(removed_at=at)
    )


def save_beat(connection: Connection, heard: Heard, *, said_before: v1.Beat | None) -> None:
    """Keep a device's latest word; what it says no longer is gone, as it is on the device."""
    beat = heard.beat
    put(
        connection,
        device_state,
        tenant=TENANT,
        device=beat.device,
        heard_at=heard.at,
        at=beat.at,
        incarnation=beat.incarnation,
        boot=beat.boot,
        link=beat.link,
        issued=beat.issued,
        pending=beat.pending,
        escalations_waiting=beat.escalations_waiting,
        agent_version=beat.agent_version,
    )
    if said_before is not None and said_before.tasks == beat.tasks:
        connection.execute(
            update(task_state)
            .where(task_state.c.tenant == TENANT, task_state.c.device == beat.device)
            .values(heard_at=heard.at)
        )
    else:
        _save_tasks(connection, beat.device, beat.tasks, heard.at)
    if said_before is None or said_before.refusals != beat.refusals:
        _save_refusals(connection, beat.device, beat.refusals, heard.at)


def _save_tasks(
    connection: Connection, name: str, tasks: Sequence[v1.TaskState], heard_at: float
) -> None:
    connection.execute(
        delete(task_state).where(task_state.c.tenant == TENANT, task_state.c.device == name)
    )
    for one in tasks:
        put(
            connection,
            task_state,
            tenant=TENANT,
            device=name,
            task=one.task,
            version=one.version,
            digest=one.digest,
            state=one.state,
            heard_at=heard_at,
            risk=None if one.risk is None else _risk_json(one.risk, heard_at),
        )


def _risk_json(risk: v1.TaskRisk, heard_at: float) -> str:
    facts = RiskFacts(
        mode=risk.mode,
        certificate=risk.certificate[:MOST_WORDS],
        promised=share_claimed(risk.promised),
        low=share_claimed(risk.low),
        high=share_claimed(risk.high),
        audits=count_claimed(risk.audits),
        alarm_at=None if risk.alarm_at is None else time_claimed(risk.alarm_at, heard_at),
        why=risk.why[:MOST_WORDS],
    )
    return msgspec.json.encode(facts).decode()


def _save_refusals(
    connection: Connection, name: str, refusals: Sequence[v1.Refusal], heard_at: float
) -> None:
    connection.execute(delete(refusal).where(refusal.c.tenant == TENANT, refusal.c.device == name))
    for one in refusals:
        put(
            connection,
            refusal,
            tenant=TENANT,
            device=name,
            task=one.task,
            version=one.version,
            code=one.code,
            reason=one.reason,
            at=one.at,
            heard_at=heard_at,
        )
