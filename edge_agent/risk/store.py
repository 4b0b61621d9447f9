"""Audits, what waits for the cloud, and where each certificate stands: `<data>/risk.db`.

1. Every method is one transaction. An audit is marked as counted in the transaction that stores the
   monitor which counted it: no end of the process counts it twice or forgets it.
2. Writes are not flushed one by one: a power cut may take the last ones, kill -9 takes none.
3. What is kept is bounded: audits with their answers by number, inputs on their way by bytes.
   Whatever is dropped for room is a missing audit.
4. A database that cannot be read is set aside and begun anew: audits are evidence, not debts.
"""

import logging
import sqlite3
from pathlib import Path

import msgspec
from msgspec import Struct

from edge_agent.risk.monitor import Monitor
from edge_agent.risk.safe import Guard
from models.calibrate.certificate import Certificate
from sync.errors import WireError
from sync.wire import codec, v1

log = logging.getLogger(__name__)

CACHE_KIB = 256
"""Of pages held in memory."""
KEPT = 2_000
"""Audits of each package."""
FEEDBACK_KEPT = 20_000
PACKAGES_KEPT = 8
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS guard(key TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT",
    """CREATE TABLE IF NOT EXISTS audit(
        place INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, request_id TEXT NOT NULL,
        at REAL NOT NULL, label TEXT NOT NULL, score REAL, local INTEGER NOT NULL,
        outcome INTEGER, cloud TEXT, counted INTEGER NOT NULL DEFAULT 0, truth TEXT,
        UNIQUE (key, request_id)) STRICT""",
    """CREATE TABLE IF NOT EXISTS question(
        place INTEGER PRIMARY KEY, request_id TEXT NOT NULL, body BLOB NOT NULL) STRICT""",
    """CREATE TABLE IF NOT EXISTS feedback(
        place INTEGER PRIMARY KEY, request_id TEXT NOT NULL UNIQUE, right INTEGER) STRICT""",
)

_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

AGREED, DIFFERED, MISSING = 0, 1, 2
"""What `outcome` says; None while the cloud has not answered."""


class Key(Struct, frozen=True, order=True):
    """Whose audits: one package of one task under one signed certificate."""

    task: str
    digest: str
    certificate: str

    def text(self) -> str:
        return f"{self.task}/{self.digest}/{self.certificate}"


class Standing(Struct, frozen=True):
    """All that is kept of one certificate beside its audits."""

    guard: Guard
    monitor: Monitor
    own: Certificate | None = None
    """The certificate this device made for itself, in the place of the signed one."""


class Audit(Struct):
    """One audited request, as this device answered it by itself, and what came of it."""

    place: int
    request_id: str
    at: float
    label: str
    score: float | None
    local: bool
    """Answered here, for the certificate said it may be."""
    outcome: int | None = None
    cloud: str | None = None
    """The cloud's label."""
    counted: bool = False
    truth: str | None = None
    """The right label, where somebody said it."""


class Store:
    """One database, open. Used from one thread at a time."""

    def __init__(self, path: Path | None) -> None:
        """Open this file, or nothing but memory. Raises `sqlite3.Error`, OSError."""
        self._path = path
        try:
            self._run = self._open().execute
        except sqlite3.DatabaseError as error:
            if path is None or error.sqlite_errorcode not in _DAMAGE:
                raise
            log.error("risk.begun_anew path=%s why=%s", path, error)
            for suffix in ("", "-wal", "-shm"):
                part = path.with_name(path.name + suffix)
                if part.exists():
                    part.replace(part.with_name(f"{part.name}.damaged"))
            self._run = self._open().execute

    def _open(self) -> sqlite3.Connection:
        self._connection = connection = sqlite3.connect(
            self._path or ":memory:", isolation_level=None, timeout=5.0, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA journal_size_limit = 1048576")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        for statement in _SCHEMA:
            connection.execute(statement)
        return connection

    def close(self) -> None:
        self._connection.close()

    # -- certificates

    def standings(self) -> dict[str, Standing]:
        """Where each certificate stood, by its key; the oldest beyond a few are forgotten."""
        found: dict[str, Standing] = {}
        rows = self._run("SELECT key, body FROM guard ORDER BY rowid DESC").fetchall()
        for number, (key, body) in enumerate(rows):
            try:
                if number >= PACKAGES_KEPT:
                    raise ValueError("too many")
                found[key] = msgspec.json.decode(body, type=Standing)
            except (msgspec.DecodeError, ValueError) as error:
                log.warning("risk.forgotten key=%s why=%s", key, error)
                self._run("DELETE FROM guard WHERE key = ?", (key,))
                self._run("DELETE FROM audit WHERE key = ?", (key,))
        return found

    def keep(self, key: Key, standing: Standing, counted: tuple[int, ...] = ()) -> None:
        """Where it stands now, these audits among the counted ones."""
        with self._connection:
            self._run("BEGIN IMMEDIATE")
            self._run(
                "INSERT OR REPLACE INTO guard VALUES (?, ?)",
                (key.text(), msgspec.json.encode(standing)),
            )
            self._connection.executemany(
                "UPDATE audit SET counted = 1 WHERE place = ?", [(one,) for one in counted]
            )

    # -- audits

    def audits(self, key: Key) -> list[Audit]:
        """All that are kept, in the order they were decided."""
        rows = self._run(
            "SELECT place, request_id, at, label, score, local, outcome, cloud, counted, truth"
            " FROM audit WHERE key = ? ORDER BY place",
            (key.text(),),
        )
        return [
            Audit(place, request_id, at, label, score, bool(local), outcome, cloud, bool(c), truth)
            for place, request_id, at, label, score, local, outcome, cloud, c, truth in rows
        ]

    def add(self, key: Key, audit: Audit) -> None:
        """One more, at its place; the oldest beyond the bound go."""
        with self._connection:
            self._run("BEGIN IMMEDIATE")
            self._run(
                "INSERT OR IGNORE INTO audit (place, key, request_id, at, label, score, local)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    audit.place,
                    key.text(),
                    audit.request_id,
                    audit.at,
                    audit.label,
                    audit.score,
                    audit.local,
                ),
            )
            self._run(
                "DELETE FROM audit WHERE place IN (SELECT place FROM audit"
                " WHERE key = ? ORDER BY place DESC LIMIT 100 OFFSET ?)",
                (key.text(), KEPT),
            )

    def resolve(self, place: int, outcome: int, cloud: str | None) -> None:
        """What the cloud said, or that it never will."""
        with self._connection:
            self._run("BEGIN IMMEDIATE")
            self._run(
                "UPDATE audit SET outcome = ?, cloud = ? WHERE place = ?", (outcome, cloud, place)
            )
            self._run("DELETE FROM question WHERE place = ?", (place,))

    def truth(self, place: int, label: str) -> None:
        """What somebody said the right answer was."""
        self._run("UPDATE audit SET truth = ? WHERE place = ?", (label, place))

    def last_place(self) -> int:
        """The highest place ever given."""
        found = self._run("SELECT seq FROM sqlite_sequence WHERE name = 'audit'").fetchone()
        return 0 if found is None else int(found[0])

    # -- inputs on their way

    def keep_question(self, place: int, question: v1.Escalation) -> None:
        self._run(
            "INSERT OR REPLACE INTO question VALUES (?, ?, ?)",
            (place, question.request_id, codec.encode(question)),
        )

    def questions(self) -> list[tuple[int, int]]:
        """Place and bytes of each, in order."""
        return list(self._run("SELECT place, length(body) FROM question ORDER BY place"))

    def question(self, place: int) -> v1.Escalation | None:
        """None when it is gone or cannot be read."""
        found = self._run("SELECT body FROM question WHERE place = ?", (place,)).fetchone()
        if found is None:
            return None
        try:
            message = codec.decode_up(found[0])
        except WireError as error:
            log.error("risk.question_unreadable place=%d why=%s", place, error)
            return None
        return message if isinstance(message, v1.Escalation) else None

    # -- what people say

    def knows_feedback(self, request_id: str) -> bool:
        return (
            self._run("SELECT 1 FROM feedback WHERE request_id = ?", (request_id,)).fetchone()
            is not None
        )

    def add_feedback(self, request_id: str, *, right: bool | None) -> None:
        """`right`: whether the device had answered so; None where it no longer knows."""
        self._run(
            "INSERT OR IGNORE INTO feedback (request_id, right) VALUES (?, ?)", (request_id, right)
        )
        self._run(
            "DELETE FROM feedback WHERE place <= (SELECT max(place) FROM feedback) - ?",
            (FEEDBACK_KEPT,),
        )

    def feedback(self) -> tuple[int, int]:
        """How many were right, of how many that could be compared."""
        found = self._run("SELECT coalesce(sum(right), 0), count(right) FROM feedback").fetchone()
        return int(found[0]), int(found[1])
