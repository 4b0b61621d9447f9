"""The SQL of features: rows by table and key. A table is there as long as it has a row."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, delete, func, select

from cloud_gateway.database import put
from cloud_gateway.tables import feature
from sync.wire.topics import TENANT


class Kept(Struct, frozen=True):
    """One row."""

    key: str
    features: dict[str, float | None]
    at: float
    """When it was true, in seconds since 1970."""


class Found(Struct, frozen=True):
    """What there is for a key."""

    row: Kept | None
    there: bool
    """Whether the table has any row."""


class TableFacts(Struct, frozen=True):
    """One table, from afar."""

    table: str
    rows: int
    newest_at: float


def keep(connection: Connection, table: str, rows: Sequence[Kept]) -> None:
    """Add rows, or replace those that are there under their keys."""
    for row in rows:
        put(
            connection,
            feature,
            tenant=TENANT,
            collection=table,
            key=row.key,
            features=msgspec.json.encode(row.features).decode(),
            at=row.at,
        )


def look_up(connection: Connection, table: str, key: str) -> Found:
    """The row of a key. PostgreSQL takes no text with a zero in it, so none is asked for."""
    row = None if "\0" in key else _find(connection, table, key)
    return Found(row, _is_there(connection, table))


def _find(connection: Connection, table: str, key: str) -> Kept | None:
    found = connection.execute(
        select(feature.c.features, feature.c.at).where(
            feature.c.tenant == TENANT, feature.c.collection == table, feature.c.key == key
        )
    ).first()
    if found is None:
        return None
    return Kept(key, msgspec.json.decode(found[0], type=dict[str, float | None]), found[1])


def _is_there(connection: Connection, table: str) -> bool:
    query = select(feature.c.key).where(feature.c.tenant == TENANT, feature.c.collection == table)
    return connection.execute(query.limit(1)).first() is not None


def remove(connection: Connection, table: str) -> int:
    """How many rows went with it."""
    done = connection.execute(
        delete(feature).where(feature.c.tenant == TENANT, feature.c.collection == table)
    )
    return done.rowcount


def listing(connection: Connection) -> list[TableFacts]:
    """Every table, by name."""
    rows = connection.execute(
        select(feature.c.collection, func.count(), func.max(feature.c.at))
        .where(feature.c.tenant == TENANT)
        .group_by(feature.c.collection)
        .order_by(feature.c.collection)
    )
    return [TableFacts(*row) for row in rows]
