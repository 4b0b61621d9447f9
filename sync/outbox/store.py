"""The outbox as one thing: numbers, batches, lost ranges, open questions, revisions, one budget.

1. Every method is one transaction: it happened wholly or not at all, and once it has returned it is
   durable.
2. A number is given once, in the transaction that stores what it stands for. Each number from 1 to
   `next - 1` is at every moment in one place: a batch, a lost range, or acknowledged and gone.
3. The budget counts pages in use, not bytes of content. What is over it goes in this order: the
   oldest batches become lost ranges (`budget`), then the oldest questions are given up. Revisions
   are not dropped for space; when nothing else is left, `OutboxFull` pushes back.
4. Giving up a question issues one number and loses it at once (`escalation_...`): it stands for the
   revision that will never come, and the gateway hears of it as of any other loss.
5. A row whose checksum does not hold is lost (`damaged`), said so in the log, and blocks nothing.

Used from one thread. Time enters as an argument: seconds since 1970.
"""

import logging
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from sync.errors import OutboxDamaged, OutboxError, OutboxFull, OutboxUnavailable
from sync.outbox.database import PAGE, Opened, Opener, open_database, open_or_begin
from sync.outbox.delivery import Row
from sync.outbox.lost import LostRanges
from sync.outbox.questions import Questions, StoredEscalation
from sync.outbox.revisions import Revisions
from sync.wire import codec, v1

log = logging.getLogger(__name__)

BATCH_RECORDS = 200
BATCH_BYTES = 16 << 10


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """How much may wait, and for how long."""

    budget_bytes: int = 64 << 20
    escalation_bytes: int = 32 << 20
    revision_ttl_s: float = 24 * 3600.0
    revisions_per_client: int = 10_000

    def __post_init__(self) -> None:
        if self.budget_bytes < 256 << 10:
            raise ValueError("budget_bytes must be at least 262144")
        if not 0 <= self.escalation_bytes <= self.budget_bytes // 2:
            raise ValueError("escalation_bytes must be at most half of budget_bytes")


class Put(Struct, frozen=True):
    """One record and what belongs into its transaction."""

    record: v1.Record
    escalation: v1.Escalation | None = None
    settles: str | None = None
    revision_for: str | None = None


class StoredBatch(Struct, frozen=True):
    """One batch as it will be sent."""

    lo: int
    hi: int
    boot: int
    at: float
    body: bytes


class Ledger(Struct, frozen=True):
    """This side's part of `issued = delivered + lost + pending`.

    `lost` counts what the gateway has not acknowledged yet; the rest is in the gateway's books.
    """

    issued: int
    pending: int
    lost: int
    escalations_waiting: int
    revisions_waiting: int
    revisions_dropped: int


class Store:
    """One outbox database, open."""

    def __init__(self, opened: Opened, limits: Limits) -> None:
        self.incarnation = opened.incarnation
        self.boot = opened.boot
        self.damage = opened.damage
        self._limits = limits
        self._next = opened.next
        self._connection = opened.connection
        self._run = opened.connection.execute
        self._lost = LostRanges(opened.connection)
        self._questions = Questions(opened.connection)
        self._revisions = Revisions(opened.connection)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        new_incarnation: str,
        limits: Limits,
        opener: Opener = open_database,
    ) -> "Store":
        """Open or begin the database. Raises `OutboxUnavailable`."""
        opened = open_or_begin(
            path,
            opener=opener,
            new_incarnation=new_incarnation,
            # Above the budget there is room for the transaction that drops what is over it.
            max_bytes=limits.budget_bytes + limits.budget_bytes // 8,
        )
        if opened.damage is not None:
            log.error("outbox.quarantined incarnation=%s why=%r", opened.incarnation, opened.damage)
        return cls(opened, limits)

    def close(self) -> None:
        self._connection.close()

    # -- giving numbers

    def commit(self, puts: Sequence[Put], now: float, *, age: float | None = None) -> list[int]:
        """Number these records in order and store all that belongs to them. Raises `OutboxFull`.

        A put that settles a question which no longer stands changes nothing and gets 0: whoever
        settled it first has issued the revision. `age` is what revisions grow old by, `now` where
        nothing else is said.
        """
        with self._transaction():
            issued: list[v1.Record] = []
            counts: list[bool] = []
            for put in puts:
                counts.append(put.settles is None or self._questions.remove(put.settles))
                if not counts[-1]:
                    continue
                issued.append(put.record)
                if put.escalation is not None and isinstance(put.record, v1.Answered | v1.Revised):
                    self._keep_question(put.record.client, put.escalation, now)
                if put.revision_for is not None and isinstance(put.record, v1.Revised):
                    self._keep_revision(put.revision_for, put.record, now if age is None else age)
            numbers = iter(self._number(issued, now))
            return [next(numbers) if counted else 0 for counted in counts]

    def owe(self, client: str, escalation: v1.Escalation, now: float) -> None:
        """Keep a question whose record has its number already. Raises `OutboxFull`."""
        with self._transaction():
            self._keep_question(client, escalation, now)

    def lose(self, count: int, reason: str) -> None:
        """Issue numbers for records that are gone already."""
        with self._transaction():
            self._issue_lost(count, reason)

    # -- delivery

    def rows(self, limit: int) -> tuple[Row, ...]:
        """The oldest batches."""
        with _translation():
            found = self._run("SELECT lo, hi FROM batch ORDER BY lo LIMIT ?", (limit,))
            return tuple(Row(lo, hi) for lo, hi in found)

    def losses(self) -> tuple[v1.Lost, ...]:
        """The lost ranges to report next."""
        with _translation():
            return self._lost.report()

    def batch(self, row: Row) -> StoredBatch | None:
        """The batch of a row; None when it is gone, or damaged and now lost."""
        with _translation():
            found = self._run(
                "SELECT lo, hi, boot, at, crc, body FROM batch WHERE lo = ?", (row.lo,)
            ).fetchone()
        if found is None:
            return None
        match found:
            case (int(lo), int(hi), int(boot), float(at), int(crc), bytes(body)) if (
                hi == row.hi and crc == self._crc(lo, hi, boot, at, body)
            ):
                return StoredBatch(lo, hi, boot, at, body)
        log.error("outbox.batch_damaged lo=%d hi=%d", row.lo, row.hi)
        with self._transaction():
            self._run("DELETE FROM batch WHERE lo = ?", (row.lo,))
            self._lost.add(row.lo, row.hi, "damaged")
        return None

    def settle(self, row: Row) -> None:
        """The gateway has this batch: delete it; were it lost meanwhile, it is lost no more."""
        with self._transaction():
            self._run("DELETE FROM batch WHERE lo = ? AND hi = ?", (row.lo, row.hi))
            self._lost.remove(row.lo, row.hi)

    def settle_losses(self, losses: Sequence[v1.Lost]) -> None:
        """The gateway has these ranges; what was lost next to them since stays."""
        with self._transaction():
            for one in losses:
                self._lost.remove(one.lo, one.hi)

    # -- questions and revisions

    def escalations(self, limit: int) -> tuple[StoredEscalation, ...]:
        """Questions that stand: the least often tried first, then the oldest."""
        with _translation():
            stored, damaged = self._questions.first(limit)
        for request_id in damaged:
            log.error("outbox.escalation_damaged request_id=%s", request_id)
            self.abandon(request_id, "damaged")
        return tuple(stored)

    def tried(self, request_ids: Sequence[str]) -> None:
        """Count one attempt for each of these questions."""
        with self._transaction():
            self._questions.tried(request_ids)

    def abandon(self, request_id: str, reason: str) -> bool:
        """Give up a question (rule 4); false when it does not stand."""
        with self._transaction():
            stood = self._questions.remove(request_id)
            if stood:
                self._issue_lost(1, f"escalation_{reason}")
            return stood

    def revisions(self, client: str, limit: int, now: float) -> tuple[v1.Revised, ...]:
        """What waits for this client, oldest first."""
        with _translation():
            return self._revisions.waiting(client, limit, now)

    def age_at(self, now: float) -> float:
        """What revisions are to be aged by when the clock says `now` and they were kept before.

        A clock that has been set meanwhile is not believed: while it was away the device has aged
        by half of what a revision may at most, so that no jump ends them all.
        """
        with _translation():
            newest = self._revisions.newest_expiry()
        if newest is None:
            return now
        kept = newest - self._limits.revision_ttl_s
        return min(max(now, kept), kept + self._limits.revision_ttl_s / 2)

    def take(self, client: str, request_ids: Sequence[str]) -> None:
        """This client has these revisions."""
        with self._transaction():
            self._revisions.take(client, request_ids)

    def ledger(self) -> Ledger:
        with _translation():
            return Ledger(
                issued=self._next - 1,
                pending=self._integer("SELECT coalesce(sum(hi - lo + 1), 0) FROM batch"),
                lost=self._lost.count(),
                escalations_waiting=self._questions.count(),
                revisions_waiting=self._revisions.count(),
                revisions_dropped=self._integer(
                    "SELECT coalesce(max(v), 0) FROM meta WHERE k = 'revisions_dropped'"
                ),
            )

    # -- inside a transaction

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        kept = self._next
        with _translation():
            try:
                self._run("BEGIN IMMEDIATE")
                yield
                self._run("COMMIT")
            except BaseException:
                self._next = kept
                # SQLite ends the transaction itself after some errors, a full disk among them.
                if self._connection.in_transaction:
                    self._run("ROLLBACK")
                raise

    def _number(self, records: Sequence[v1.Record], now: float) -> list[int]:
        numbers: list[int] = []
        for chunk in _chunks(records):
            body = codec.pack_records(chunk)
            self._make_room(len(body))
            lo, hi = self._next, self._next + len(chunk) - 1
            self._run(
                "INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?)",
                (lo, hi, self.boot, now, self._crc(lo, hi, self.boot, now, body), body),
            )
            self._advance_past(hi)
            numbers.extend(range(lo, hi + 1))
        return numbers

    def _issue_lost(self, count: int, reason: str) -> None:
        lo, hi = self._next, self._next + count - 1
        self._advance_past(hi)
        self._lost.add(lo, hi, reason)

    def _advance_past(self, hi: int) -> None:
        self._next = hi + 1
        self._run("UPDATE meta SET v = ? WHERE k = 'next'", (self._next,))

    def _keep_question(self, client: str, escalation: v1.Escalation, now: float) -> None:
        if self._questions.stands(escalation.request_id):
            return
        body = codec.encode(escalation)
        room = self._limits.escalation_bytes - len(body)
        if room < 0 or len(body) > codec.MAX_MESSAGE:
            self._issue_lost(1, "escalation_too_large")
            return
        while self._questions.bytes() > room:
            self._give_up_oldest_question()
        self._make_room(len(body))
        self._questions.add(client, escalation.request_id, body, now)

    def _keep_revision(self, client: str, record: v1.Revised, now: float) -> None:
        self._revisions.expire(now)
        body = codec.encode_record(record)
        self._make_room(len(body))
        expires = now + self._limits.revision_ttl_s
        self._revisions.add(client, record.request_id, body, expires)
        dropped = self._revisions.trim(client, self._limits.revisions_per_client)
        if dropped:
            self._run(
                "INSERT INTO meta VALUES ('revisions_dropped', ?1)"
                " ON CONFLICT DO UPDATE SET v = v + ?1",
                (dropped,),
            )

    # -- the budget

    def _make_room(self, coming: int) -> None:
        """Drop, in the order of rule 3, until this many more bytes fit."""
        # The page it starts on, its overflow pages, and a few for the trees' own growth.
        need = (coming // PAGE + 4) * PAGE
        while self._used() + need > self._limits.budget_bytes:
            if not (self._lose_oldest_batch() or self._give_up_oldest_question()):
                raise OutboxFull(
                    f"the outbox's budget of {self._limits.budget_bytes} bytes is spent and nothing"
                    " in it may be dropped; let clients fetch their revisions or raise the budget"
                )

    def _used(self) -> int:
        pages = self._integer("PRAGMA page_count") - self._integer("PRAGMA freelist_count")
        return pages * PAGE

    def _lose_oldest_batch(self) -> bool:
        found = self._run("SELECT lo, hi FROM batch ORDER BY lo LIMIT 1").fetchone()
        if found is None:
            return False
        self._run("DELETE FROM batch WHERE lo = ?", (found[0],))
        self._lost.add(found[0], found[1], "budget")
        return True

    def _give_up_oldest_question(self) -> bool:
        if not self._questions.remove_oldest():
            return False
        self._issue_lost(1, "escalation_budget")
        return True

    def _integer(self, query: str) -> int:
        value: int = self._run(query).fetchone()[0]
        return value

    def _crc(self, lo: int, hi: int, boot: int, at: float, body: bytes) -> int:
        header = f"{self.incarnation} {lo} {hi} {boot} {at!r} ".encode()
        return zlib.crc32(body, zlib.crc32(header))


def _chunks(records: Sequence[v1.Record]) -> Iterator[list[v1.Record]]:
    """Batches of bounded count and size."""
    chunk: list[v1.Record] = []
    size = 0
    for record in records:
        length = len(codec.encode_record(record))
        if chunk and (len(chunk) == BATCH_RECORDS or size + length > BATCH_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(record)
        size += length
    if chunk:
        yield chunk


@contextmanager
def _translation() -> Iterator[None]:
    """The last place where errors of SQLite exist."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _translated(error) from error


def _translated(error: sqlite3.DatabaseError) -> OutboxError:
    match error.sqlite_errorcode & 0xFF:
        case sqlite3.SQLITE_FULL:
            return OutboxFull(f"no room for the outbox: {error}; nothing of this was stored")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return OutboxDamaged(f"the outbox is damaged: {error}; restart to begin a new one")
        case _:
            return OutboxUnavailable(f"the outbox cannot be used now: {error}")
