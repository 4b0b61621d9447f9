"""Features looked up for devices over HTTP, and for cloud pipelines in this process.

1. A key is a text here. A device that asks by a whole number finds the row of its digits.
2. A feature a row does not have is null, a key a table does not have is no row; a table nobody fed
   is `unknown_table`, so that a misspelt name does not look like an unknown customer.
3. A pipeline reads in its model's own thread, straight from the database: one row by its key.
"""

from collections.abc import Sequence

from cloud_gateway.database import Database
from cloud_gateway.errors import BadRequest, StorageUnavailable, UnknownTable
from cloud_gateway.features import store
from cloud_gateway.features.store import Kept, TableFacts
from cloud_gateway.shapes import FeatureRow
from models.errors import FeatureSourceOut
from models.pipeline.features import Key, Row
from sync.clock import Clock

MOST_NAMES = 256
LONGEST_KEY = 256


class FeatureTables:
    """All tables of this gateway. Every coroutine raises `StorageUnavailable`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def put(self, table: str, rows: Sequence[FeatureRow]) -> None:
        """Add or replace rows, all or none; one without a time is true now. Raises `BadRequest`."""
        now = self._clock.wall()
        kept = [_checked(row, now) for row in rows]
        await self._database.write(lambda connection: store.keep(connection, table, kept))

    async def remove(self, table: str) -> None:
        """Raises `UnknownTable`."""
        if not await self._database.write(lambda connection: store.remove(connection, table)):
            raise _unknown(table)

    async def listing(self) -> list[TableFacts]:
        return await self._database.read(store.listing)

    async def look_up(self, table: str, key: Key, names: tuple[str, ...]) -> Row | None:
        """The row of a key. Raises `UnknownTable`, `BadRequest`."""
        if len(names) > MOST_NAMES:
            raise BadRequest(f"{len(names)} features were asked for, over {MOST_NAMES}; ask twice")
        found = await self._database.read(
            lambda connection: store.look_up(connection, table, str(key))
        )
        if not found.there:
            raise _unknown(table)
        return self._row(found.row, names)

    def source(self, table: str) -> "StoredFeatures":
        """A table as pipelines ask it; it may be fed later."""
        return StoredFeatures(self, table)

    def look_up_now(self, table: str, key: Key, names: tuple[str, ...]) -> Row | None:
        """The same from a model's own thread. Raises `FeatureSourceOut`."""
        try:
            found = self._database.read_now(
                lambda connection: store.look_up(connection, table, str(key))
            )
        except StorageUnavailable as error:
            raise FeatureSourceOut(str(error)) from error
        if not found.there:
            raise FeatureSourceOut(str(_unknown(table)))
        return self._row(found.row, names)

    def _row(self, kept: Kept | None, names: tuple[str, ...]) -> Row | None:
        if kept is None:
            return None
        values = tuple(kept.features.get(name) for name in names)
        return Row(values, max(0.0, self._clock.wall() - kept.at))


class StoredFeatures:
    """One table as a `FeatureSource`."""

    def __init__(self, tables: FeatureTables, table: str) -> None:
        self._tables = tables
        self._table = table

    def read(self, key: Key, names: tuple[str, ...], timeout_s: float) -> Row | None:
        """The row of a key, found by its primary key. Raises `FeatureSourceOut`."""
        return self._tables.look_up_now(self._table, key, names)


def _checked(row: FeatureRow, now: float) -> Kept:
    key = str(row.key)
    if not 0 < len(key) <= LONGEST_KEY or "\0" in key:
        raise BadRequest(
            f"key {key[:40]!r} has {len(key)} characters; send one of 1 to {LONGEST_KEY}, and "
            "without a zero among them"
        )
    if len(row.features) > MOST_NAMES:
        raise BadRequest(
            f"row {key[:40]!r} has {len(row.features)} features, over {MOST_NAMES}; use two tables"
        )
    return Kept(key, row.features, now if row.at is None else row.at)


def _unknown(table: str) -> UnknownTable:
    return UnknownTable(
        f"there is no table {table[:80]!r} of features; feed it with "
        "`longstop-gateway features put`, or correct the name"
    )
