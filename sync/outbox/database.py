"""The outbox's file: how it is opened, what it promises, and what becomes of a damaged one.

1. WAL with synchronous FULL: what was committed survives a power cut. One connection in one thread
   owns every write and every checkpoint (before 3.51.3 SQLite can corrupt a WAL that two check).
2. The file is bounded in pages, so that a full disk is met as our own limit first.
3. A database that cannot be trusted is never repaired in place and never deleted: it is renamed to
   `.quarantine-<n>` and a new one begins under a new incarnation, so that no number is used twice.
4. A database of a later format is not damaged, only not ours to read: it is left as it is.
"""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from sync.errors import OutboxDamaged, OutboxUnavailable

FORMAT = 1
PAGE = 4096
CACHE_KIB = 512
"""Of pages held in memory. The 2 MiB of SQLite itself fill slowly, which looks like a leak."""
LEAST_ROOM = 64 << 10
"""SQLite needs its shared memory, a piece of WAL and a page or two to open a database."""
Opener = Callable[[Path], sqlite3.Connection]

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS meta(k TEXT PRIMARY KEY, v ANY NOT NULL) STRICT, WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS batch(
        lo INTEGER PRIMARY KEY, hi INTEGER NOT NULL, boot INTEGER NOT NULL, at REAL NOT NULL,
        crc INTEGER NOT NULL, body BLOB NOT NULL) STRICT""",
    """CREATE TABLE IF NOT EXISTS lost(
        lo INTEGER PRIMARY KEY, hi INTEGER NOT NULL, reason TEXT NOT NULL) STRICT""",
    """CREATE TABLE IF NOT EXISTS escalation(
        place INTEGER PRIMARY KEY, request_id TEXT NOT NULL UNIQUE, client TEXT NOT NULL,
        stored_at REAL NOT NULL, attempts INTEGER NOT NULL, crc INTEGER NOT NULL,
        body BLOB NOT NULL) STRICT""",
    """CREATE TABLE IF NOT EXISTS revision(
        place INTEGER PRIMARY KEY, client TEXT NOT NULL, request_id TEXT NOT NULL,
        expires REAL NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL,
        UNIQUE (client, request_id)) STRICT""",
    "CREATE INDEX IF NOT EXISTS revision_expires ON revision(expires)",
    "CREATE INDEX IF NOT EXISTS revision_place ON revision(client, place)",
)
# A flipped bit in the schema is found when the file is opened, not when a column is first missed.
_COLUMNS = (
    "SELECT lo, hi, boot, at, crc, body FROM batch LIMIT 0",
    "SELECT lo, hi, reason FROM lost LIMIT 0",
    "SELECT place, request_id, client, stored_at, attempts, crc, body FROM escalation LIMIT 0",
    "SELECT place, client, request_id, expires, crc, body FROM revision LIMIT 0",
)
_NOT_THE_DATA = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOMEM,
}
"""What may keep a good database from being opened."""


class Opened(Struct, frozen=True):
    """A database ready for use, and who it is."""

    connection: sqlite3.Connection
    incarnation: str
    boot: int
    next: int
    damage: str | None
    """Why a quarantined predecessor could not be trusted, and where it lies now."""


def open_database(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode: every transaction here is an explicit one."""
    return sqlite3.connect(path, isolation_level=None, timeout=5.0)


def open_or_begin(path: Path, *, opener: Opener, new_incarnation: str, max_bytes: int) -> Opened:
    """Open the database of this path for one more boot, or begin one under `new_incarnation`."""
    damage: str | None = None
    try:
        return _open(path, opener, new_incarnation, max_bytes, damage)
    except (sqlite3.DatabaseError, OutboxDamaged) as error:
        if isinstance(error, sqlite3.Error) and error.sqlite_errorcode & 0xFF in _NOT_THE_DATA:
            raise OutboxUnavailable(f"{path} cannot be opened: {error}{_advice(path)}") from error
        damage = f"{error}; kept as {_quarantine(path)}"
    return _open(path, opener, new_incarnation, max_bytes, damage)


def _advice(path: Path) -> str:
    """What to do where the disk is the reason: SQLite calls a full one an I/O error."""
    try:
        found = os.statvfs(path.parent)
    except OSError:
        return "; its folder cannot be used"
    if found.f_flag & os.ST_RDONLY:
        return "; the file system is read-only: repair it, or mount it to be written"
    if found.f_bavail * found.f_frsize < LEAST_ROOM:
        return "; the disk is full: make room, nothing that was stored is lost"
    return "; the disk may be failing, or the file be another user's"


def _open(
    path: Path, opener: Opener, new_incarnation: str, max_bytes: int, damage: str | None
) -> Opened:
    connection = opener(path)
    try:
        run = connection.execute
        run(f"PRAGMA page_size = {PAGE}")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA wal_autocheckpoint = 256")
        run("PRAGMA journal_size_limit = 1048576")
        run(f"PRAGMA cache_size = -{CACHE_KIB}")
        run(f"PRAGMA max_page_count = {max_bytes // PAGE}")
        (verdict,) = run("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise OutboxDamaged(f"{path.name}: {verdict}")
        run("BEGIN IMMEDIATE")
        for statement in (*_SCHEMA, *_COLUMNS):
            run(statement)
        opened = _begin_boot(connection, path, new_incarnation, damage)
        run("COMMIT")
    except BaseException:
        connection.close()
        raise
    return opened


def _begin_boot(
    connection: sqlite3.Connection, path: Path, new_incarnation: str, damage: str | None
) -> Opened:
    run = connection.execute
    found: dict[str, object] = dict(run("SELECT k, v FROM meta").fetchall())
    if not found:
        found = {"format": FORMAT, "incarnation": new_incarnation, "boot": 0, "next": 1}
    match found:
        case {"format": int(version)} if version != FORMAT:
            raise OutboxUnavailable(
                f"{path} has format {version} and this program reads {FORMAT}; update the program"
            )
        case {"incarnation": str(incarnation), "boot": int(boot), "next": int(next_number)}:
            pass
        case _:
            raise OutboxDamaged(f"{path.name} does not say who it is")
    (highest,) = run(
        "SELECT max(hi) FROM (SELECT hi FROM batch UNION ALL SELECT hi FROM lost)"
    ).fetchone()
    if highest is not None and highest >= next_number:
        raise OutboxDamaged(f"{path.name} holds number {highest}, and {next_number} is the next")
    found["boot"] = boot + 1
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(found.items()))
    return Opened(connection, incarnation, boot + 1, next_number, damage)


def _quarantine(path: Path) -> str:
    number = 1
    while path.with_name(f"{path.name}.quarantine-{number}").exists():
        number += 1
    kept = path.with_name(f"{path.name}.quarantine-{number}")
    # The file goes first: SQLite discards a WAL that has no file, but would open a file without its
    # WAL, and that is an older state which has forgotten numbers it gave away.
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(kept.with_name(kept.name + suffix))
    return kept.name
