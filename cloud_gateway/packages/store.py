"""The SQL of releases: what was published, and which version each device should run."""

from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import Connection, delete, func, select

from cloud_gateway.database import insert_new, put
from cloud_gateway.tables import EVERY_DEVICE, blob, desired, release
from sync.wire.topics import TENANT


class Published(Struct, frozen=True):
    """A release as it was published; `signed` is the document to the byte."""

    task: str
    version: str
    number: int
    """Counts up with every publication of this gateway."""
    name: str
    edge_sha256: str
    cloud_sha256: str
    signed: bytes
    published_at: float


class Wish(Struct, frozen=True):
    """A version wanted for a task, on one device or on EVERY_DEVICE."""

    device: str
    task: str
    version: str
    set_at: float


def published(connection: Connection) -> list[Published]:
    """Every release, oldest first."""
    rows = connection.execute(
        select(*(release.c[name] for name in Published.__struct_fields__))
        .where(release.c.tenant == TENANT)
        .order_by(release.c.number)
    )
    return [Published(*row) for row in rows]


def wishes(connection: Connection) -> list[Wish]:
    rows = connection.execute(
        select(*(desired.c[name] for name in Wish.__struct_fields__)).where(
            desired.c.tenant == TENANT
        )
    )
    return [Wish(*row) for row in rows]


def next_number(connection: Connection) -> int:
    newest = connection.execute(select(func.max(release.c.number))).scalar()
    return 1 if newest is None else int(newest) + 1


def publish(connection: Connection, new: Published) -> bool:
    """Add a release; False when its task has this version."""
    values = {name: getattr(new, name) for name in Published.__struct_fields__}
    return insert_new(connection, release, tenant=TENANT, **values)


def wish(connection: Connection, new: Sequence[Wish]) -> None:
    """Set desired versions; one for every device takes the place of all single ones of its task."""
    for one in new:
        if one.device == EVERY_DEVICE:
            connection.execute(
                delete(desired).where(desired.c.tenant == TENANT, desired.c.task == one.task)
            )
        put(
            connection,
            desired,
            tenant=TENANT,
            device=one.device,
            task=one.task,
            version=one.version,
            set_at=one.set_at,
        )


def note_blob(connection: Connection, sha256: str, size: int, received_at: float) -> bool:
    """Note that an archive is on disk; False when it was noted before."""
    return insert_new(connection, blob, sha256=sha256, size=size, received_at=received_at)


def blob_size(connection: Connection, sha256: str) -> int | None:
    return connection.execute(select(blob.c.size).where(blob.c.sha256 == sha256)).scalar()
