"""Ingest on a real SQLite file: everything counts once, and an acknowledgement is true."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import zstandard
from msgspec import msgpack, structs
from sqlalchemy import Connection, func, select

from cloud_gateway import tables
from cloud_gateway.database import Database
from cloud_gateway.errors import DeadLettersFull, StorageUnavailable
from cloud_gateway.tables import (
    batch,
    dead_letter,
    device_answers,
    device_skips,
    fleet_answers,
    loss,
)
from cloud_gateway.telemetry.ingest import Ingest, Outcome
from sync.clock import Clock
from sync.runner import ThreadRunner
from sync.wire import codec, v1
from tests.records import answered, feedback, health, skipped


class Noon:
    """A clock that stands."""

    def monotonic(self) -> float:
        return 12.0

    def wall(self) -> float:
        return 43_200.0


class Told:
    """Counters that remember."""

    def __init__(self) -> None:
        self.batches: list[tuple[Outcome, int]] = []
        self.letters: list[str] = []
        self.skipped: list[tuple[str, str, int]] = []
        self.levels: list[str] = []

    def batch_heard(self, outcome: Outcome, records: int) -> None:
        self.batches.append((outcome, records))

    def dead_letter_kept(self, code: str) -> None:
        self.letters.append(code)

    def health_heard(self, level: str) -> None:
        self.levels.append(level)

    def inputs_skipped(self, source: str, reason: str, count: int) -> None:
        self.skipped.append((source, reason, count))


class Bench:
    """One ingest on one database, and questions to it."""

    def __init__(self, database: Database, clock: Clock, *, dead_letter_bytes: int) -> None:
        self.database = database
        self.told = Told()
        self.ingest = Ingest(database, clock, self.told, dead_letter_bytes=dead_letter_bytes)

    async def send(self, message: v1.Batch) -> v1.BatchAck:
        return await self.ingest.batch(message, codec.encode(message))

    async def lose(self, *losses: v1.Lost) -> v1.LossAck:
        report = v1.LossReport("d1", "i1", losses, at=1.0)
        return await self.ingest.losses(report, codec.encode(report))

    async def counted(self) -> tuple[int, int]:
        """Answers in the device's buckets and in the fleet's."""

        def ask(connection: Connection) -> tuple[int, int]:
            one = connection.execute(select(func.coalesce(func.sum(device_answers.c.n), 0)))
            all_ = connection.execute(select(func.coalesce(func.sum(fleet_answers.c.n), 0)))
            return int(one.scalar_one()), int(all_.scalar_one())

        return await self.database.read(ask)

    async def taken(self) -> list[tuple[int, int]]:
        return await self.database.read(
            lambda connection: [
                (row.lo, row.hi)
                for row in connection.execute(select(batch.c.lo, batch.c.hi).order_by(batch.c.lo))
            ]
        )

    async def lost(self) -> list[tuple[int, int, str]]:
        columns = (loss.c.lo, loss.c.hi, loss.c.reason)
        return await self.database.read(
            lambda connection: [
                (row.lo, row.hi, row.reason)
                for row in connection.execute(select(*columns).order_by(loss.c.lo))
            ]
        )

    async def letters(self) -> list[tuple[str, bytes]]:
        columns = (dead_letter.c.code, dead_letter.c.message)
        return await self.database.read(
            lambda connection: [
                (row.code, row.message)
                for row in connection.execute(select(*columns).order_by(dead_letter.c.id))
            ]
        )

    async def sql(self, statement: str) -> None:
        def run(connection: Connection) -> None:
            connection.exec_driver_sql(statement)

        await self.database.write(run)


def batch_of(lo: int, hi: int, *, label: str = "shirt", device: str = "d1") -> v1.Batch:
    records = [answered(label=label)] * (hi - lo + 1)
    return raw_batch(lo, hi, codec.pack_records(records), device=device)


def raw_batch(lo: int, hi: int, body: bytes, *, device: str = "d1") -> v1.Batch:
    return v1.Batch(device, "i1", boot=1, lo=lo, hi=hi, at=100.0, body=body)


@asynccontextmanager
async def bench(path: Path, *, dead_letter_bytes: int = 1 << 20) -> AsyncIterator[Bench]:
    writes, reads = ThreadRunner("writes"), ThreadRunner("reads")
    database = await Database.open(path / "g.db", write_runner=writes, read_runner=reads)
    try:
        yield Bench(database, Noon(), dead_letter_bytes=dead_letter_bytes)
    finally:
        await database.close()
        writes.close()
        reads.close()


def run(
    path: Path, check: Callable[[Bench], Awaitable[None]], *, dead_letter_bytes: int = 1 << 20
) -> None:
    async def main() -> None:
        async with bench(path, dead_letter_bytes=dead_letter_bytes) as made:
            await check(made)

    asyncio.run(main())


def test_the_same_batch_three_times_counts_once(tmp_path: Path) -> None:
    async def check(made: Bench) -> None:
        acks = [await made.send(batch_of(1, 5)) for _ in range(3)]
        assert [ack.outcome for ack in acks] == ["committed", "duplicate", "duplicate"]
        assert await made.counted() == (5, 5)
        # At the same moment, too: the three share one transaction.
        acks = list(await asyncio.gather(*(made.send(batch_of(6, 9)) for _ in range(3))))
        assert sorted(ack.outcome for ack in acks) == ["committed", "duplicate", "duplicate"]
        assert await made.counted() == (9, 9)
        assert await made.taken() == [(1, 5), (6, 9)]

    run(tmp_path, check)


def test_two_devices_count_apart_and_together(tmp_path: Path) -> None:
    async def check(made: Bench) -> None:
        await made.send(batch_of(1, 5))
        await made.send(batch_of(1, 5, device="d2"))
        assert await made.counted() == (10, 10)

    run(tmp_path, check)


def test_what_fails_between_range_and_counts_leaves_neither_and_no_acknowledgement(
    tmp_path: Path,
) -> None:
    async def check(made: Bench) -> None:
        await made.sql(
            "CREATE TRIGGER cut BEFORE INSERT ON fleet_answers "
            "BEGIN SELECT RAISE(ABORT, 'cut'); END"
        )
        with pytest.raises(StorageUnavailable, match="cut"):
            await made.send(batch_of(1, 5))
        assert await made.taken() == []
        assert await made.counted() == (0, 0)
        await made.sql("DROP TRIGGER cut")
        assert (await made.send(batch_of(1, 5))).outcome == "committed"
        assert await made.counted() == (5, 5)

    run(tmp_path, check)


def test_an_acknowledged_batch_is_visible_to_everybody(tmp_path: Path) -> None:
    async def check(made: Bench) -> None:
        for lo in range(1, 40, 4):
            await made.send(batch_of(lo, lo + 3))
            # A reader on another connection sees only what is committed.
            assert (await made.counted())[0] == lo + 3

    run(tmp_path, check)


@pytest.mark.parametrize(
    "second",
    [batch_of(1, 5, label="coat"), batch_of(1, 6), batch_of(3, 4), batch_of(0, 1), batch_of(5, 9)],
    ids=["same key", "longer", "inside", "reaching in", "reaching out"],
)
def test_a_range_that_clashes_is_kept_apart_and_never_counted(
    tmp_path: Path, second: v1.Batch
) -> None:
    async def check(made: Bench) -> None:
        await made.send(batch_of(1, 5))
        for _ in range(2):
            ack = await made.send(second)
            assert (ack.outcome, ack.reason) == ("dead_letter", "conflict")
        assert await made.counted() == (5, 5)
        assert await made.letters() == [("conflict", codec.encode(second))]
        assert made.told.batches[-1][0] == "conflict"

    run(tmp_path, check)


def bomb() -> bytes:
    return zstandard.ZstdCompressor().compress(bytes(codec.MAX_UNPACKED + 1))


def lying_bomb() -> bytes:
    """A frame that does not say how much it holds."""
    packer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return packer.compress(bytes(codec.MAX_UNPACKED + 1)) + packer.flush()


def packed(records: Sequence[object]) -> bytes:
    return zstandard.ZstdCompressor().compress(msgpack.encode(list(records)))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (bomb(), "message_too_large"),
        (lying_bomb(), "malformed_message"),
        (packed([["felt", "r", 1.0]]), "unknown_tag"),
        (packed([["answered", "r"]]), "malformed_message"),
        (packed([1, 2]), "malformed_message"),
        (b"not zstd", "malformed_message"),
        (b"", "malformed_message"),
        (codec.pack_records([answered()])[:-3], "malformed_message"),
        (codec.pack_records([answered(), answered()]), "wrong_count"),
        (codec.pack_records([answered(total_us=1 << 62)]), "out_of_bounds"),
    ],
    ids=[
        *("bomb", "lying bomb", "unknown tag", "short record", "no records", "no zstd", "empty"),
        *("cut off", "too many", "no duration"),
    ],
)
def test_what_cannot_be_read_is_kept_and_blocks_nothing(
    tmp_path: Path, body: bytes, code: str
) -> None:
    async def check(made: Bench) -> None:
        bad = raw_batch(1, 1, body)
        for _ in range(2):
            ack = await made.send(bad)
            assert (ack.outcome, ack.lo, ack.hi) == ("dead_letter", 1, 1)
        assert await made.letters() == [(code, codec.encode(bad))]
        assert made.told.letters[0] == code
        assert (await made.send(batch_of(2, 3))).outcome == "committed"
        assert await made.counted() == (2, 2)
        # It was delivered, though nobody could read it: the ledger must not miss it.
        assert await made.taken() == [(1, 1), (2, 3)]

    run(tmp_path, check)


@pytest.mark.parametrize(("lo", "hi"), [(5, 4), (-1, 3), (0, 1 << 63)])
def test_numbers_that_make_no_range_are_kept_as_a_dead_letter(
    tmp_path: Path, lo: int, hi: int
) -> None:
    async def check(made: Bench) -> None:
        ack = await made.send(raw_batch(lo, hi, codec.pack_records([answered()])))
        assert (ack.outcome, ack.lo, ack.hi) == ("dead_letter", lo, hi)
        assert [code for code, _ in await made.letters()] == ["bad_range"]
        assert await made.taken() == []

    run(tmp_path, check)


def test_times_and_counts_that_are_none_hold_nothing_up(tmp_path: Path) -> None:
    async def check(made: Bench) -> None:
        body = codec.pack_records([answered(at=float("nan"))])
        odd = structs.replace(raw_batch(1, 1, body), at=float("inf"), boot=1 << 63)
        assert (await made.send(odd)).outcome == "committed"
        assert await made.counted() == (1, 1)

    run(tmp_path, check)


def test_without_room_for_dead_letters_nothing_is_acknowledged(tmp_path: Path) -> None:
    async def check(made: Bench) -> None:
        with pytest.raises(DeadLettersFull, match="d1"):
            await made.send(raw_batch(1, 1, bytes(200)))
        assert await made.taken() == []
        assert (await made.send(batch_of(1, 1))).outcome == "committed"

    run(tmp_path, check, dead_letter_bytes=100)


def test_losses_are_noted_once(tmp_path: Path) -> None:
    async def check(made: Bench) -> None:
        told = (v1.Lost(1, 5, "budget"), v1.Lost(9, 9, "missed"))
        for _ in range(2):
            assert await made.lose(*told) == v1.LossAck("i1", told)
        assert await made.lost() == [(1, 5, "budget"), (9, 9, "missed")]
        await made.lose(v1.Lost(4, 7, "budget"))
        assert await made.lost() == [(1, 5, "budget"), (6, 7, "budget"), (9, 9, "missed")]

    run(tmp_path, check)


def test_a_record_is_delivered_or_lost_and_never_both(tmp_path: Path) -> None:
    async def check(made: Bench) -> None:
        # The acknowledgement was lost, and the device gave the range up.
        await made.send(batch_of(3, 4))
        await made.lose(v1.Lost(1, 9, "budget"))
        assert await made.lost() == [(1, 2, "budget"), (5, 9, "budget")]
        # A copy still on its way comes after the report.
        await made.send(batch_of(6, 7))
        assert await made.lost() == [(1, 2, "budget"), (5, 5, "budget"), (8, 9, "budget")]
        assert await made.counted() == (4, 4)

    run(tmp_path, check)


def test_a_loss_that_is_no_range_is_kept_and_the_others_count(tmp_path: Path) -> None:
    async def check(made: Bench) -> None:
        await made.lose(v1.Lost(5, 1, "budget"), v1.Lost(7, 8, "budget"))
        assert await made.lost() == [(7, 8, "budget")]
        assert [code for code, _ in await made.letters()] == ["bad_range"]

    run(tmp_path, check)


def test_inputs_left_out_are_counted_once_and_are_no_answers(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path) as made:
            records: list[v1.Record] = [
                answered(),
                skipped(count=3),
                skipped(count=4),
                skipped(reason="stopped", count=5),
                skipped(source="sonar", reason="bored", count=6),
            ]
            message = raw_batch(1, len(records), codec.pack_records(records))
            for outcome in ("committed", "duplicate"):
                assert (await made.send(message)).outcome == outcome
            columns = (device_skips.c.source, device_skips.c.reason, device_skips.c.n)
            rows = await made.database.read(
                lambda connection: sorted(map(tuple, connection.execute(select(*columns))))
            )
            assert rows == [
                ("directory", "rate_limited", 7),
                ("directory", "stopped", 5),
                ("other", "other", 6),
            ]
            assert sorted(made.told.skipped) == rows
            assert await made.counted() == (1, 1)

    asyncio.run(story())


def test_feedback_and_alarms_are_kept_once_each(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path) as made:
            broken = v1.Alarm("apparel", "c-1", "broken", "9 of 40 audits", 130.0)
            records: list[v1.Record] = [answered(), feedback(), broken]
            again: list[v1.Record] = [feedback(label="shirt"), broken]
            await made.send(raw_batch(1, 3, codec.pack_records(records)))
            await made.send(raw_batch(4, 5, codec.pack_records(again)))
            said = (tables.feedback.c.request_id, tables.feedback.c.label)
            turns = (tables.alarm.c.kind, tables.alarm.c.certificate, tables.alarm.c.why)
            assert await made.database.read(
                lambda connection: [tuple(row) for row in connection.execute(select(*said))]
            ) == [("r-1", "coat")]
            assert await made.database.read(
                lambda connection: [tuple(row) for row in connection.execute(select(*turns))]
            ) == [("broken", "c-1", "9 of 40 audits")]
            assert await made.counted() == (1, 1)

    asyncio.run(story())


def test_the_last_health_record_of_a_device_is_kept_whatever_it_claims(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path) as made:
            await made.send(raw_batch(1, 1, codec.pack_records([health()])))
            odd = health(level="hot", at=float("nan"), celsius=float("inf"))
            ack = await made.send(raw_batch(2, 2, codec.pack_records([odd])))
            assert ack.outcome == "committed"
            kept = (tables.device_health.c.level, tables.device_health.c.celsius)
            rows = (*kept, tables.device_health.c.at, tables.device_health.c.over)
            assert await made.database.read(
                lambda connection: [tuple(row) for row in connection.execute(select(*rows))]
            ) == [("hot", None, 43_200.0, "cpu, uplink")]
            assert made.told.levels == ["normal", "hot"]
            assert await made.counted() == (0, 0)

    asyncio.run(story())


@pytest.mark.parametrize("count", [0, -1, 1 << 50])
def test_a_count_of_inputs_that_is_none_is_kept_and_not_counted(tmp_path: Path, count: int) -> None:
    async def story() -> None:
        async with bench(tmp_path) as made:
            ack = await made.send(raw_batch(1, 1, codec.pack_records([skipped(count=count)])))
            assert ack.outcome == "dead_letter"
            assert made.told.letters == ["out_of_bounds"]

    asyncio.run(story())
