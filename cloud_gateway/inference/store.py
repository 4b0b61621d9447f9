"""The SQL of escalation counts."""

from collections.abc import Mapping

from msgspec import Struct
from sqlalchemy import Connection

from cloud_gateway.database import grow
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
    columns = Count.__struct_fields__
    grow(
        connection,
        device_escalations,
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
        added=columns,
    )
