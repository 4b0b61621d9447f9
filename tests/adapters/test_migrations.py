"""A gateway's database of any earlier version is brought up to date when it is opened."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from cloud_gateway.database import SCHEMA, Database, migrate
from cloud_gateway.tables import metadata
from sync.runner import ThreadRunner

EARLIER = [f"{number:04}" for number in range(1, int(SCHEMA))]


def shape(file: Path) -> set[tuple[str, str, str]]:
    """Every column there is: its table, its name, its type."""
    with closing(sqlite3.connect(file)) as plain:
        names = [
            name for (name,) in plain.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        ]
        return {
            (name, column, kind)
            for name in names
            for (column, kind) in plain.execute(
                "SELECT name, type FROM pragma_table_info(?)", (name,)
            )
        }


def open_and_close(file: Path) -> None:
    async def opened() -> None:
        runner = ThreadRunner("database")
        database = await Database.open(file, write_runner=runner, read_runner=runner)
        await database.close()
        runner.close()

    asyncio.run(opened())


@pytest.mark.parametrize("earlier", EARLIER)
def test_a_database_of_an_earlier_version_becomes_what_a_new_one_is(
    tmp_path: Path, earlier: str
) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    engine = create_engine(f"sqlite:///{old}")
    with engine.begin() as connection:
        migrate(connection, earlier)
    engine.dispose()
    open_and_close(new)
    assert shape(old) < shape(new)
    open_and_close(old)
    assert shape(old) == shape(new)
    with closing(sqlite3.connect(old)) as plain:
        assert plain.execute("SELECT version_num FROM alembic_version").fetchall() == [(SCHEMA,)]


def test_the_migrations_make_the_tables_the_program_works_with(tmp_path: Path) -> None:
    open_and_close(tmp_path / "new.db")
    made = {(table, column) for table, column, _ in shape(tmp_path / "new.db")}
    declared = {
        (table.name, column.name) for table in metadata.sorted_tables for column in table.columns
    }
    assert declared == {each for each in made if each[0] != "alembic_version"}
