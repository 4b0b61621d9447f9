"""Open questions: hard cases the cloud still owes an answer to.

A question stands until it is settled by an answer or given up. Every method runs inside its
caller's transaction.
"""

import sqlite3
import zlib
from collections.abc import Sequence

from msgspec import Struct

from sync.errors import WireError
from sync.wire import codec, v1


class StoredEscalation(Struct, frozen=True):
    """A question that stands."""

    request_id: str
    client: str
    escalation: v1.Escalation
    stored_at: float
    attempts: int


class Questions:
    """The table `escalation`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._run = connection.execute

    def add(self, client: str, request_id: str, body: bytes, now: float) -> None:
        """Keep a question, as the codec encodes it."""
        self._run(
            "INSERT INTO escalation (request_id, client, stored_at, attempts, crc, body)"
            " VALUES (?, ?, ?, 0, ?, ?)",
            (request_id, client, now, zlib.crc32(body), body),
        )

    def stands(self, request_id: str) -> bool:
        return (
            self._run("SELECT 1 FROM escalation WHERE request_id = ?", (request_id,)).fetchone()
            is not None
        )

    def remove(self, request_id: str) -> bool:
        """Whether it stood until now."""
        return self._run("DELETE FROM escalation WHERE request_id = ?", (request_id,)).rowcount > 0

    def remove_oldest(self) -> bool:
        """False when there is none."""
        done = self._run("DELETE FROM escalation WHERE place = (SELECT min(place) FROM escalation)")
        return done.rowcount > 0

    def first(self, limit: int) -> tuple[list[StoredEscalation], list[str]]:
        """Those to ask next, least often tried and then oldest first; and ids of damaged ones."""
        stored: list[StoredEscalation] = []
        damaged: list[str] = []
        for request_id, client, stored_at, attempts, crc, body in self._run(
            "SELECT request_id, client, stored_at, attempts, crc, body FROM escalation"
            " ORDER BY attempts, place LIMIT ?",
            (limit,),
        ):
            escalation = _read(request_id, crc, body)
            if escalation is None:
                damaged.append(request_id)
            else:
                stored.append(StoredEscalation(request_id, client, escalation, stored_at, attempts))
        return stored, damaged

    def tried(self, request_ids: Sequence[str]) -> None:
        """Count one attempt for each."""
        self._connection.executemany(
            "UPDATE escalation SET attempts = attempts + 1 WHERE request_id = ?",
            [(one,) for one in request_ids],
        )

    def bytes(self) -> int:
        value: int = self._run("SELECT coalesce(sum(length(body)), 0) FROM escalation").fetchone()[
            0
        ]
        return value

    def count(self) -> int:
        value: int = self._run("SELECT count(*) FROM escalation").fetchone()[0]
        return value


def _read(request_id: str, crc: object, body: object) -> v1.Escalation | None:
    if not isinstance(body, bytes) or zlib.crc32(body) != crc:
        return None
    try:
        message = codec.decode_up(body)
    except WireError:
        return None
    if isinstance(message, v1.Escalation) and message.request_id == request_id:
        return message
    return None
