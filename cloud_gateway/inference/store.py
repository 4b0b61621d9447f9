"""The SQL of escalation counts."""

from collections.abc import Mapping

from msgspec import Struct
from sqlalchemy import Connection

from cloud_gateway.database import upsert
from cloud_gateway.tables import DEVICE_STEP_S, device_escalations
from sync.wire.topics import TENANT


class Bucket(Struct, frozen=True):
    """Escalations of one device for one task in one minute."""

    device: str
    task: str
    start: int


class Count(Struct):
    """What was done with them."""

    answered: int = 0
    refused: int = 0
    run_us: int = 0


def bucket(device: str, task: str, at: float) -> Bucket:
    return Bucket(device, task, int(at // DEVICE_STEP_S) * DEVICE_STEP_S)


def add(connection: Connection, counts: Mapping[Bucket, Count]) -> None:
    """Add to what is counted already."""
    statement = upsert(connection, device_escalations)
    columns = Count.__struct_fields__
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[column.name for column in device_escalations.primary_key],
            set_={name: device_escalations.c[name] + statement.excluded[name] for name in columns},
        ),
        [
            {
                "tenant": TENANT,
                "device": key.device,
                "task": key.task,
                "start": key.start,
                **{name: getattr(count, name) for name in columns},
            }
            for key, count in counts.items()
        ],
    )
