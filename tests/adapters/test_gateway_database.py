"""The gateway's database: migrations, group commit, and what is left when it cannot write."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, select

from cloud_gateway import database as database_module
from cloud_gateway.database import SCHEMA, Database, insert_new, put
from cloud_gateway.errors import StorageUnavailable
from cloud_gateway.tables import blob, metadata
from sync.runner import InlineRunner, ThreadRunner


@asynccontextmanager
async def opened(path: Path | None) -> AsyncIterator[Database]:
    writes = InlineRunner() if path is None else ThreadRunner("writes")
    reads = writes if path is None else ThreadRunner("reads", threads=2)
    database = await Database.open(path, write_runner=writes, read_runner=reads)
    try:
        yield database
    finally:
        await database.close()
        writes.close()
        reads.close()


class Add:
    """A job that counts how often it was run."""

    def __init__(self, sha256: str) -> None:
        self.sha256 = sha256
        self.runs = 0

    def __call__(self, connection: Connection) -> bool:
        self.runs += 1
        return insert_new(connection, blob, sha256=self.sha256, size=1, received_at=0.0)


def count(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(blob)).scalar_one()


def test_migrations_make_exactly_the_tables_the_code_knows(tmp_path: Path) -> None:
    async def check() -> None:
        async with opened(tmp_path / "g.db") as database:

            def difference(connection: Connection) -> list[object]:
                return list(compare_metadata(MigrationContext.configure(connection), metadata))

            assert await database.write(difference) == []

    asyncio.run(check())
    folder = Path(database_module.__file__).with_name("migrations")
    config = Config()
    config.set_main_option("script_location", str(folder))
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA]


@pytest.mark.parametrize("where", ["file", "memory"])
def test_what_is_written_is_read_and_survives_reopening(tmp_path: Path, where: str) -> None:
    path = tmp_path / "a folder %20" / "g.db" if where == "file" else None
    if path:
        path.parent.mkdir()

    async def check() -> None:
        async with opened(path) as database:
            assert await database.write(Add("a"))
            assert not await database.write(Add("a"))
            assert await database.read(count) == 1
        if path:
            async with opened(path) as database:
                assert await database.read(count) == 1

    asyncio.run(check())


def test_the_writer_syncs_fully_and_readers_cannot_write(tmp_path: Path) -> None:
    async def check() -> None:
        async with opened(tmp_path / "g.db") as database:

            def pragmas(connection: Connection) -> tuple[str, int]:
                journal = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
                return journal, connection.exec_driver_sql("PRAGMA synchronous").scalar_one()

            assert await database.write(pragmas) == ("wal", 2)
            with pytest.raises(StorageUnavailable):
                await database.read(Add("a"))

    asyncio.run(check())


def test_writes_that_come_together_share_a_commit_and_one_bad_job_spoils_no_other(
    tmp_path: Path,
) -> None:
    def broken(connection: Connection) -> bool:
        Add("half")(connection)
        raise KeyError("a mistake of this job")

    async def check() -> None:
        async with opened(tmp_path / "g.db") as database:
            jobs = [Add(f"n{number}") for number in range(5)]
            results = await asyncio.gather(
                database.write(jobs[0]),
                database.write(broken),
                *(database.write(job) for job in jobs[1:]),
                return_exceptions=True,
            )
            assert [type(result) for result in results] == [bool, KeyError, *[bool] * 4]
            # The shared transaction failed at the second job, so each then ran alone.
            assert [job.runs for job in jobs] == [2, 1, 1, 1, 1]
            assert await database.read(count) == 5
            assert database.healthy

    asyncio.run(check())


def test_a_full_database_says_so_and_works_again_when_there_is_room(tmp_path: Path) -> None:
    async def check() -> None:
        async with opened(tmp_path / "g.db") as database:

            def limit(pages: int) -> None:
                with database._writer.connect() as connection:
                    connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

            def big(connection: Connection) -> None:
                for number in range(100):
                    put(connection, blob, sha256=f"{number}" * 500, size=1, received_at=0.0)

            limit(1)  # SQLite clips it to the pages in use
            with pytest.raises(StorageUnavailable, match="full"):
                await database.write(big)
            assert not database.healthy
            assert await database.read(count) == 0
            limit(1 << 30)
            await database.write(big)
            assert database.healthy

    asyncio.run(check())


def test_a_folder_that_is_not_there_is_a_named_error(tmp_path: Path) -> None:
    async def check() -> None:
        async with opened(tmp_path / "absent" / "g.db"):
            pytest.fail("opened")

    with pytest.raises(StorageUnavailable, match="cannot"):
        asyncio.run(check())


def test_what_was_written_before_close_is_on_disk(tmp_path: Path) -> None:
    async def check() -> None:
        async with opened(tmp_path / "g.db") as database:
            asked = asyncio.gather(*(database.write(Add(f"{n}")) for n in range(20)))
            await asyncio.sleep(0)
        await asked

    asyncio.run(check())
    with sqlite3.connect(tmp_path / "g.db") as connection:
        assert connection.execute("SELECT count(*) FROM blob").fetchone() == (20,)
    connection.close()


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_whether_a_row_is_new_is_asked_of_the_driver_itself(dialect: str) -> None:
    # SQLAlchemy forgets an INSERT's count otherwise: on psycopg no row would ever be new.
    options = database_module._inserting(dialect, blob).get_execution_options()
    assert options["preserve_rowcount"] is True
