"""The gateway's database: one writer, group commit, readers that cannot write.

1. All writes go through `write`, one transaction at a time in one thread, so SQLite sees one
   connection that writes and checkpoints (its WAL-reset bug, fixed only in 3.51.3, needs two).
2. Writes that come while a transaction runs share the next one: one fsync for all of them.
3. A job may run twice (the shared transaction failed, so each runs alone): it has no effect but in
   the database, and its result counts only after COMMIT.
4. `synchronous=FULL`: what `write` returned survives a power cut.
5. No error of SQLAlchemy or sqlite3 leaves this file, except those of a job's own mistakes.
"""

import asyncio
import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Insert,
    Table,
    case,
    create_engine,
    event,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import QueuePool, StaticPool

from cloud_gateway.errors import StorageUnavailable
from sync.runner import Runner

T = TypeVar("T")
SCHEMA = "0006"
"""The newest migration; a database that has it is opened without loading Alembic."""

_MIGRATIONS = Path(__file__).with_name("migrations")
_log = logging.getLogger(__name__)


class _Job(Generic[T]):
    """One unit of work and whoever waits for it."""

    def __init__(self, call: Callable[[Connection], T], done: asyncio.Future[T]) -> None:
        self._call = call
        self._done = done
        self._outcome: T | BaseException | None = None

    def run(self, connection: Connection) -> None:
        self._outcome = self._call(connection)

    def fail(self, error: BaseException) -> None:
        self._outcome = error

    def tell(self) -> None:
        if self._done.done():  # whoever asked has gone; the commit stands all the same
            return
        if isinstance(self._outcome, BaseException):
            self._done.set_exception(self._outcome)
        else:
            self._done.set_result(self._outcome)  # type: ignore[arg-type]  # set by run


class Database:
    """Made by `at`, ready after `migrate`; every coroutine belongs to one event loop."""

    def __init__(
        self, writer: Engine, reader: Engine, write_runner: Runner, read_runner: Runner
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._write_runner = write_runner
        self._read_runner = read_runner
        # A database in memory has one connection; others have one for each reader.
        self._turn = threading.Lock() if reader is writer else contextlib.nullcontext()
        self._waiting: list[_Job[Any]] = []
        self._draining: asyncio.Task[None] | None = None
        self.healthy = True
        """Whether the last commit went through."""

    @classmethod
    def at(cls, path: Path | None, *, write_runner: Runner, read_runner: Runner) -> "Database":
        """The database at `path`, or one in memory; nothing is touched yet.

        A database in memory has a single connection: both runners must be the same then.
        """
        writer = _sqlite(path)
        reader = writer if path is None else _sqlite_read_only(path)
        return cls(writer, reader, write_runner, read_runner)

    @classmethod
    async def open(
        cls, path: Path | None, *, write_runner: Runner, read_runner: Runner
    ) -> "Database":
        """The same, migrated. Raises `StorageUnavailable`."""
        database = cls.at(path, write_runner=write_runner, read_runner=read_runner)
        await database.migrate()
        return database

    async def migrate(self) -> None:
        """Bring the tables to this version. Raises `StorageUnavailable`."""
        await self._write_runner.submit(
            lambda: _translated(lambda: _migrate(self._writer), "be opened")
        )

    async def write(self, job: Callable[[Connection], T]) -> T:
        """Run `job` in a transaction; returns after its COMMIT. Raises `StorageUnavailable`."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Job(job, done))
        if self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self._drain())
        return await done

    async def read(self, job: Callable[[Connection], T]) -> T:
        """Run `job` on one snapshot of what is committed. Raises `StorageUnavailable`."""

        return await self._read_runner.submit(lambda: self.read_now(job))

    def read_now(self, job: Callable[[Connection], T]) -> T:
        """The same in the caller's own thread, whichever that is. Raises `StorageUnavailable`."""

        def call() -> T:
            with self._turn, self._reader.begin() as connection:
                return job(connection)

        return _translated(call, "read")

    async def close(self) -> None:
        """Finish what was asked for, then let go of the files."""
        while self._draining is not None:
            await self._draining

        def dispose() -> None:
            self._reader.dispose()
            self._writer.dispose()

        await self._write_runner.submit(dispose)

    async def _drain(self) -> None:
        try:
            while self._waiting:
                jobs, self._waiting = self._waiting, []
                try:
                    await self._write_runner.submit(lambda jobs=jobs: self._commit(jobs))  # type: ignore[misc]
                except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it is
                    for job in jobs:
                        job.fail(error)
                for job in jobs:
                    job.tell()
        finally:
            self._draining = None

    def _commit(self, jobs: list[_Job[Any]]) -> None:
        """All jobs in one transaction; should it fail, each in one of its own."""
        if len(jobs) > 1:
            with contextlib.suppress(Exception):  # told below, by the job whose fault it is
                self._transaction(jobs)
                return
        for job in jobs:
            try:
                self._transaction([job])
            except Exception as error:  # noqa: BLE001 - handed to whoever awaits the job
                job.fail(error)

    def _transaction(self, jobs: list[_Job[Any]]) -> None:
        def call() -> None:
            with self._turn, self._writer.begin() as connection:
                for job in jobs:
                    job.run(connection)

        try:
            _translated(call, "write")
        except StorageUnavailable as error:
            if self.healthy:
                _log.error("database.unavailable reason=%s", error)
            self.healthy = False
            raise
        if not self.healthy:
            _log.warning("database.available")
        self.healthy = True


def insert_new(connection: Connection, table: Table, **values: object) -> bool:
    """INSERT ... ON CONFLICT DO NOTHING; whether the row is new."""
    return connection.execute(_inserting(connection.dialect.name, table), values).rowcount == 1


def put(connection: Connection, table: Table, **values: object) -> None:
    """INSERT, or replace every other column of the row with this primary key."""
    connection.execute(_replacing(connection.dialect.name, table, frozenset(values)), values)


def grow(
    connection: Connection,
    table: Table,
    rows: Sequence[Mapping[str, object]],
    *,
    added: tuple[str, ...],
    largest: tuple[str, ...] = (),
) -> None:
    """INSERT rows; where the key is there, add these columns and keep the larger of those."""
    if rows:
        connection.execute(_growing(connection.dialect.name, table, added, largest), rows)


# Building a statement costs ten times what running it does, so each is built once.
@cache
def _inserting(dialect: str, table: Table) -> Insert:
    # Without the option some drivers' counts are lost: psycopg's come as -1.
    statement = _insert(dialect, table).on_conflict_do_nothing()
    return statement.execution_options(preserve_rowcount=True)


@cache
def _replacing(dialect: str, table: Table, names: frozenset[str]) -> Insert:
    statement = _insert(dialect, table)
    keys = [column.name for column in table.primary_key]
    rest = {name: statement.excluded[name] for name in sorted(names) if name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=rest)


@cache
def _growing(
    dialect: str, table: Table, added: tuple[str, ...], largest: tuple[str, ...]
) -> Insert:
    statement = _insert(dialect, table)
    old, new = table.c, statement.excluded
    grown: dict[str, ColumnElement[Any]] = {name: old[name] + new[name] for name in added}
    for name in largest:
        grown[name] = case((old[name] > new[name], old[name]), else_=new[name])
    keys = [column.name for column in table.primary_key]
    return statement.on_conflict_do_update(index_elements=keys, set_=grown)


def _insert(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that knows ON CONFLICT, in this dialect."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def _translated(call: Callable[[], T], doing: str) -> T:
    try:
        return call()
    except (OperationalError, DBAPIError, OSError) as error:
        said = error.orig if isinstance(error, DBAPIError) else error
        raise StorageUnavailable(
            f"the gateway's database cannot {doing} now ({said}); nothing was acknowledged, "
            "free space or repair the data folder, senders try again by themselves"
        ) from error


def _sqlite(path: Path | None) -> Engine:
    url = "sqlite://" if path is None else "sqlite:///" + quote(str(path))

    def connect() -> sqlite3.Connection:
        target = ":memory:" if path is None else str(path)
        connection = sqlite3.connect(target, check_same_thread=False, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA busy_timeout=5000")
        connection.execute("PRAGMA journal_size_limit=16777216")
        return connection

    # IMMEDIATE: a transaction that will write takes the lock first and cannot fail half way on it.
    return _engine(url, connect, StaticPool, "BEGIN IMMEDIATE")


def _sqlite_read_only(path: Path) -> Engine:
    def connect() -> sqlite3.Connection:
        return sqlite3.connect(
            f"file:{quote(str(path))}?mode=ro",
            uri=True,
            check_same_thread=False,
            isolation_level=None,
            timeout=5.0,
        )

    return _engine("sqlite://", connect, QueuePool, "BEGIN")


def _engine(
    url: str,
    connect: Callable[[], sqlite3.Connection],
    pool: type[StaticPool | QueuePool],
    begin: str,
) -> Engine:
    engine = create_engine(url, creator=connect, poolclass=pool)

    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "begin", start)
    return engine


def _migrate(engine: Engine) -> None:
    with engine.begin() as connection:
        if _schema(connection) != SCHEMA:
            migrate(connection, "head")


def migrate(connection: Connection, revision: str) -> None:
    """Bring a database to this revision; SCHEMA is the newest."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _schema(connection: Connection) -> str | None:
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)
