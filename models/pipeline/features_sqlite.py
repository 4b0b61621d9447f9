"""Features from a table of an SQLite file on the device, which somebody else writes.

1. The file is opened read only, and again when another file took its name.
2. Columns are looked up in the table before they are asked for; no text of a key or a package
   becomes SQL.
3. A read ends at its timeout, whether it waits for a writer or looks through a table without index.
   The key column should be unique: of several rows the newest is taken where the table tells, else
   any.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from models.errors import FeatureSourceOut
from models.pipeline.features import Key, Row
from sync.clock import Clock

_INSTRUCTIONS_PER_GLANCE = 2000


class SqliteFeatures:
    """One table; `updated` names a column with the seconds since 1970 at which a row was true."""

    def __init__(
        self, file: Path, clock: Clock, *, table: str, key: str, updated: str | None = None
    ) -> None:
        self._file = file
        self._clock = clock
        self._table = table
        self._key = key
        self._updated = updated
        self._lock = threading.Lock()
        self._open: _Open | None = None

    def read(self, key: Key, names: tuple[str, ...], timeout_s: float) -> Row | None:
        """The row of a key. Raises `FeatureSourceOut`."""
        until = self._clock.monotonic() + timeout_s
        with self._alone(timeout_s), self._translated():
            try:
                found = self._current(timeout_s).find(key, names, self._clock, until)
            except (OverflowError, UnicodeEncodeError):
                return None  # no column holds such a key
        if found is None:
            return None
        *given, updated = found
        values: list[float | None] = []
        for name, value in zip(names, given, strict=True):
            if not isinstance(value, int | float | None):
                raise FeatureSourceOut(f"{self._where()}: column {name!r} holds no number")
            values.append(value)
        if not isinstance(updated, int | float):
            return Row(tuple(values))
        return Row(tuple(values), max(0.0, self._clock.wall() - updated))

    def close(self) -> None:
        with self._lock:
            self._forget()

    @contextmanager
    def _alone(self, timeout_s: float) -> Iterator[None]:
        if not self._lock.acquire(timeout=timeout_s):
            raise FeatureSourceOut(f"{self._where()} is read by others all the time")
        try:
            yield
        finally:
            self._lock.release()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            self._forget()
            raise FeatureSourceOut(f"{self._where()}: {error}") from error

    def _current(self, timeout_s: float) -> "_Open":
        there = self._file.stat()
        inode = (there.st_dev, there.st_ino)
        if self._open is not None and self._open.inode != inode:
            self._forget()
        if self._open is None:
            self._open = _Open(
                self._file, inode, (self._table, self._key, self._updated), timeout_s
            )
        return self._open

    def _forget(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def _where(self) -> str:
        return f"features in {self._file.name}, table {self._table!r}"


class _Open:
    """The table of one open file."""

    def __init__(
        self,
        file: Path,
        inode: tuple[int, int],
        names: tuple[str, str, str | None],
        timeout_s: float,
    ) -> None:
        self.inode = inode
        self._table, self._key, self._updated = names
        self._connection = sqlite3.connect(
            f"file:{quote(str(file))}?mode=ro",
            uri=True,
            timeout=timeout_s,
            isolation_level=None,
            check_same_thread=False,  # the caller holds a lock
        )
        try:
            told = self._connection.execute(
                "SELECT name FROM pragma_table_info(?)", (self._table,)
            ).fetchall()
            self._columns = {name for (name,) in told}
            self._select: dict[tuple[str, ...], str] = {}
        except sqlite3.Error:
            self._connection.close()
            raise

    def find(
        self, key: Key, names: tuple[str, ...], clock: Clock, until: float
    ) -> tuple[object, ...] | None:
        """The values and then when they were true, None where nothing tells."""
        select = self._select.get(names)
        if select is None:
            select = self._select[names] = self._written(names)
        self._connection.set_progress_handler(
            lambda: clock.monotonic() > until, _INSTRUCTIONS_PER_GLANCE
        )
        found: tuple[object, ...] | None = self._connection.execute(select, (key,)).fetchone()
        return found

    def close(self) -> None:
        self._connection.close()

    def _written(self, names: tuple[str, ...]) -> str:
        asked = [*names, self._key, *((self._updated,) if self._updated else ())]
        lacking = [name for name in asked if name not in self._columns]
        if lacking:
            raise sqlite3.OperationalError(
                f"there is no column {lacking[0]!r} in it" if self._columns else "it is not there"
            )
        updated = _quoted(self._updated) if self._updated else "NULL"
        newest = f" ORDER BY {updated} DESC" if self._updated else ""
        # Every name is one of the table's own columns (rule 2), and quoted.
        return (
            f"SELECT {', '.join(map(_quoted, names))}, {updated} "  # noqa: S608
            f"FROM {_quoted(self._table)} WHERE {_quoted(self._key)} = ?{newest} LIMIT 1"
        )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
