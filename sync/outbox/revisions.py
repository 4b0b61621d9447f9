"""Revisions: answers that came after a provisional one, kept per client until it has taken them.

Promised to somebody, so never dropped for space: a client that does not come loses its oldest
beyond a number, counted, and all of them after a day. Every method runs inside its caller's
transaction.
"""

import logging
import sqlite3
import zlib
from collections.abc import Sequence

from sync.errors import WireError
from sync.wire import codec, v1

log = logging.getLogger(__name__)


class Revisions:
    """The table `revision`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._run = connection.execute

    def add(self, client: str, request_id: str, body: bytes, expires: float) -> None:
        """Keep a revision, as the codec encodes the record."""
        self._run(
            "INSERT OR REPLACE INTO revision (client, request_id, expires, crc, body)"
            " VALUES (?, ?, ?, ?, ?)",
            (client, request_id, expires, _crc(client, body), body),
        )

    def expire(self, now: float) -> None:
        self._run("DELETE FROM revision WHERE expires <= ?", (now,))

    def trim(self, client: str, most: int) -> int:
        """Drop a client's oldest beyond this many; how many that were."""
        (count,) = self._run("SELECT count(*) FROM revision WHERE client = ?", (client,)).fetchone()
        excess: int = max(count - most, 0)
        if excess:
            self._run(
                "DELETE FROM revision WHERE place IN"
                " (SELECT place FROM revision WHERE client = ? ORDER BY place LIMIT ?)",
                (client, excess),
            )
        return excess

    def waiting(self, client: str, limit: int, now: float) -> tuple[v1.Revised, ...]:
        """What waits for this client, oldest first."""
        waiting = []
        for request_id, crc, body in self._run(
            "SELECT request_id, crc, body FROM revision WHERE client = ? AND expires > ?"
            " ORDER BY place LIMIT ?",
            (client, now, limit),
        ):
            revised = _read(client, crc, body)
            if revised is None:
                # It stays until it expires: deleting is no business of a reader.
                log.error("outbox.revision_damaged client=%s request_id=%s", client, request_id)
            else:
                waiting.append(revised)
        return tuple(waiting)

    def take(self, client: str, request_ids: Sequence[str]) -> None:
        self._connection.executemany(
            "DELETE FROM revision WHERE client = ? AND request_id = ?",
            [(client, one) for one in request_ids],
        )

    def newest_expiry(self) -> float | None:
        """When the youngest ends."""
        found: float | None = self._run("SELECT max(expires) FROM revision").fetchone()[0]
        return found

    def count(self) -> int:
        value: int = self._run("SELECT count(*) FROM revision").fetchone()[0]
        return value


def _crc(client: str, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(client.encode()))


def _read(client: str, crc: object, body: object) -> v1.Revised | None:
    if not isinstance(body, bytes) or _crc(client, body) != crc:
        return None
    try:
        record = codec.decode_record(body)
    except WireError:
        return None
    return record if isinstance(record, v1.Revised) else None
