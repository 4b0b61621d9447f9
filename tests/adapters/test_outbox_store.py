"""The store on real SQLite, against a model: every number is somewhere, crashes included."""

import random
import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sync.errors import OutboxFull, OutboxUnavailable
from sync.outbox.database import open_database
from sync.outbox.delivery import Row
from sync.outbox.store import BATCH_RECORDS, Limits, Put, Store
from sync.wire import codec, v1
from tests.records import answered, revised

INC = "0123456789ab"
NOON = 1_790_000_000.0
SMALL = Limits(budget_bytes=256 << 10, escalation_bytes=64 << 10, revisions_per_client=20)

# Power cuts are met by other tests; here a file system in memory keeps the many commits cheap.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


def question(request_id: str, size: int = 8) -> v1.Escalation:
    tensor = v1.Tensor("x", "UINT8", (size,), bytes(size))
    return v1.Escalation("d1", request_id, "apparel", "1.0", 250, (tensor,))


def open_store(folder: Path, limits: Limits = SMALL, incarnation: str = INC) -> Store:
    return Store.open(folder / "outbox.db", new_incarnation=incarnation, limits=limits)


def records(store: Store, row: Row) -> list[v1.Record]:
    stored = store.batch(row)
    assert stored is not None
    return codec.unpack_records(stored.body)


# -- one put, one transaction


def test_a_hard_record_and_its_question_come_back_after_a_restart(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert store.commit([Put(answered("r1"), escalation=question("r1"))], NOON) == [1]
    store.close()
    store = open_store(tmp_path, incarnation="another one")
    assert (store.incarnation, store.boot, store.damage) == (INC, 2, None)
    assert store.rows(9) == (Row(1, 1),)
    assert records(store, Row(1, 1)) == [answered("r1")]
    (stood,) = store.escalations(9)
    assert (stood.request_id, stood.client, stood.escalation, stood.stored_at, stood.attempts) == (
        "r1",
        "app",
        question("r1"),
        NOON,
        0,
    )


def test_a_settled_question_becomes_a_revision_once(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    asked = Put(answered("r1"), escalation=question("r1"))
    settled = Put(revised("r1"), settles="r1", revision_for="app")
    assert store.commit([asked, settled, settled], NOON) == [1, 2, 0]
    assert store.commit([settled, Put(answered("r2"))], NOON) == [0, 3]
    assert store.escalations(9) == ()
    assert store.revisions("app", 9, NOON) == (revised("r1"),)
    ledger = store.ledger()
    assert (ledger.issued, ledger.pending, ledger.revisions_waiting) == (3, 3, 1)


def test_a_question_asked_twice_stands_once(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([Put(answered("r1"), escalation=question("r1"))], NOON)
    store.owe("app", question("r1"), NOON)
    assert store.ledger().escalations_waiting == 1


def test_the_least_tried_question_comes_first(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for name in ("r1", "r2", "r3"):
        store.owe("app", question(name), NOON)
    store.tried(["r1", "r2"])
    store.tried(["r1"])
    assert [(one.request_id, one.attempts) for one in store.escalations(9)] == [
        ("r3", 0),
        ("r2", 1),
        ("r1", 2),
    ]
    assert len(store.escalations(2)) == 2


def test_what_is_given_up_stands_as_lost_under_its_reason(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([Put(answered("r1"), escalation=question("r1"))], NOON)
    assert store.abandon("r1", "refused")
    assert not store.abandon("r1", "refused")
    assert store.losses() == (v1.Lost(2, 2, "escalation_refused"),)


def test_a_failed_transaction_leaves_no_trace(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    unspeakable = answered("r2", label="\ud800")  # no UTF-8 for half a surrogate
    with pytest.raises(UnicodeEncodeError):
        store.commit(
            [Put(answered("r1"), escalation=question("r1", 70_000)), Put(unspeakable)], NOON
        )
    assert store.ledger().issued == 0
    assert store.escalations(9) == ()
    assert store.losses() == ()
    assert store.commit([Put(answered("r3"))], NOON) == [1]


def test_batches_are_bounded_in_records_and_bytes(tmp_path: Path) -> None:
    store = open_store(tmp_path, Limits())
    many = [Put(answered(f"r{n}")) for n in range(BATCH_RECORDS + 1)]
    assert store.commit(many, NOON) == list(range(1, BATCH_RECORDS + 2))
    first, *_, last = store.rows(99)
    assert first.lo == 1
    assert last.hi == BATCH_RECORDS + 1
    assert all(row.hi - row.lo < BATCH_RECORDS for row in store.rows(99))
    large = [Put(answered(f"r{n}", label="x" * 9000)) for n in range(2)]
    before = len(store.rows(99))
    store.commit(large, NOON)
    assert len(store.rows(99)) == before + 2


# -- lost ranges


def test_neighbouring_losses_are_one_range_and_leave_in_any_pieces(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.lose(3, "pipe_full")
    store.lose(2, "pipe_full")
    store.lose(1, "crash")
    store.lose(4, "pipe_full")
    whole = (v1.Lost(1, 5, "pipe_full"), v1.Lost(6, 6, "crash"), v1.Lost(7, 10, "pipe_full"))
    assert store.losses() == whole
    store.settle_losses([v1.Lost(4, 8, "whatever")])
    assert store.losses() == (v1.Lost(1, 3, "pipe_full"), v1.Lost(9, 10, "pipe_full"))
    store.settle_losses(whole)
    assert store.losses() == ()
    assert store.ledger().issued == 10


def test_losses_acknowledged_while_more_were_lost_leave_the_rest(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.lose(3, "pipe_full")
    reported = store.losses()
    store.lose(2, "pipe_full")
    store.settle_losses(reported)
    assert store.losses() == (v1.Lost(4, 5, "pipe_full"),)


def test_a_batch_dropped_while_it_was_under_way_is_not_lost_after_all(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([Put(answered("r1"))], NOON)
    (row,) = store.rows(1)
    fill(store, 400)
    assert store.rows(1)[0].lo > row.lo
    assert store.losses()[0].lo == row.lo
    store.settle(row)
    assert store.losses()[0].lo == row.hi + 1


# -- the budget


def fill(store: Store, kilobytes: int) -> None:
    chance = random.Random(1)
    for n in range(kilobytes // 8):
        noise = chance.randbytes(8 << 10).hex()
        store.commit([Put(answered(f"f{n}", label=noise))], NOON)


def test_over_the_budget_the_oldest_records_are_lost_and_the_file_stays_small(
    tmp_path: Path,
) -> None:
    store = open_store(tmp_path)
    fill(store, 2000)
    ledger = store.ledger()
    assert ledger.issued == 250
    assert ledger.pending + ledger.lost == ledger.issued
    (lost,) = store.losses()
    assert (lost.lo, lost.reason) == (1, "budget")
    assert store.rows(1)[0].lo == lost.hi + 1
    on_disk = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert on_disk < SMALL.budget_bytes * 9 // 8 + (1 << 20) + (64 << 10), "budget, WAL, shm"


def test_over_their_bound_the_oldest_questions_are_given_up(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for n in range(10):
        store.owe("app", question(f"r{n}", 15_000), NOON)
    assert [one.request_id for one in store.escalations(99)] == ["r6", "r7", "r8", "r9"]
    assert store.losses() == (v1.Lost(1, 6, "escalation_budget"),)


def test_a_question_that_can_never_fit_is_given_up_at_once(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.owe("app", question("small"), NOON)
    numbers = store.commit([Put(answered("r1"), escalation=question("r1", 70_000))], NOON)
    assert numbers == [2], "its revision is lost first, then its record is numbered"
    assert store.losses() == (v1.Lost(1, 1, "escalation_too_large"),)
    assert [one.request_id for one in store.escalations(9)] == ["small"]


def test_put_pushes_back_only_when_nothing_may_be_dropped(tmp_path: Path) -> None:
    store = open_store(tmp_path, Limits(budget_bytes=256 << 10, escalation_bytes=64 << 10))
    store.owe("app", question("r", 15_000), NOON)
    done = 0
    told = ""
    while not told:
        try:
            long = revised(f"r{done}", label="x" * 1400)
            store.commit([Put(long, revision_for="nobody comes")], NOON)
            done += 1
        except OutboxFull as error:
            told = str(error)
    assert "nothing in it may be dropped" in told
    ledger = store.ledger()
    assert ledger.revisions_waiting == done, "what was promised stands"
    assert ledger.escalations_waiting == 0, "all else was dropped first"
    assert ledger.issued == ledger.pending + ledger.lost == done + 1
    store.take("nobody comes", [f"r{n}" for n in range(done)])
    assert store.commit([Put(answered("again"))], NOON) == [done + 2]


def test_a_full_disk_is_a_named_error_and_loses_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([Put(answered("r1"))], NOON)
    store._connection.execute("PRAGMA max_page_count = 1")  # never below what is in use
    with pytest.raises(OutboxFull, match="nothing of this was stored"):
        fill(store, 2000)
    assert store.rows(1) == (Row(1, 1),)
    ledger = store.ledger()
    assert ledger.issued == ledger.pending + ledger.lost


# -- revisions


def test_revisions_wait_for_their_own_client_until_taken_or_a_day_old(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for name, client in (("r1", "a"), ("r2", "b"), ("r3", "a")):
        store.commit([Put(revised(name), revision_for=client)], NOON)
    assert [one.request_id for one in store.revisions("a", 9, NOON)] == ["r1", "r3"]
    assert len(store.revisions("a", 1, NOON)) == 1
    store.take("a", ["r1", "r2"])
    assert [one.request_id for one in store.revisions("a", 9, NOON)] == ["r3"]
    assert [one.request_id for one in store.revisions("b", 9, NOON)] == ["r2"]
    tomorrow = NOON + SMALL.revision_ttl_s
    assert store.revisions("a", 9, tomorrow) == ()
    store.commit([Put(revised("r4"), revision_for="c")], tomorrow)
    assert store.ledger().revisions_waiting == 1


def test_a_client_that_never_comes_loses_its_oldest_and_that_is_counted(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for n in range(25):
        store.commit([Put(revised(f"r{n}"), revision_for="a")], NOON)
    assert [one.request_id for one in store.revisions("a", 99, NOON)] == [
        f"r{n}" for n in range(5, 25)
    ]
    assert store.ledger().revisions_dropped == 5


# -- damage


def damage(folder: Path, offset: int) -> None:
    with (folder / "outbox.db").open("r+b") as file:
        file.seek(offset)
        file.write(b"\xa5" * 64)


@pytest.mark.parametrize("offset", [0, 100, 4096 + 8])
def test_a_damaged_database_is_set_aside_and_a_new_one_begins(tmp_path: Path, offset: int) -> None:
    store = open_store(tmp_path)
    store.commit([Put(answered("r1"), escalation=question("r1"))], NOON)
    store.close()
    damage(tmp_path, offset)
    store = open_store(tmp_path, incarnation="ba9876543210")
    assert store.incarnation == "ba9876543210"
    assert store.boot == 1
    assert store.damage is not None
    assert "outbox.db.quarantine-1" in store.damage
    assert (tmp_path / "outbox.db.quarantine-1").exists()
    assert store.commit([Put(answered("r2"))], NOON) == [1]
    store.close()
    damage(tmp_path, offset)
    assert open_store(tmp_path).damage is not None
    assert (tmp_path / "outbox.db.quarantine-2").exists()


def test_damage_in_a_page_nobody_has_read_yet_is_found_at_the_start(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([Put(revised("r1"), revision_for="app")], NOON)
    found = store._connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'revision'")
    (page,) = found.fetchone()
    store.close()
    damage(tmp_path, (page - 1) * 4096)
    assert open_store(tmp_path).damage is not None


def test_a_database_that_forgot_numbers_is_not_believed(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([Put(answered("r1"))], NOON)
    store.close()
    with sqlite3.connect(tmp_path / "outbox.db") as connection:
        connection.execute("UPDATE meta SET v = 1 WHERE k = 'next'")
    connection.close()
    assert open_store(tmp_path, incarnation="ba9876543210").incarnation == "ba9876543210"


def test_a_later_format_is_left_alone(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    with sqlite3.connect(tmp_path / "outbox.db") as connection:
        connection.execute("UPDATE meta SET v = 2 WHERE k = 'format'")
    connection.close()
    with pytest.raises(OutboxUnavailable, match="update the program"):
        open_store(tmp_path)
    assert not (tmp_path / "outbox.db.quarantine-1").exists()


def test_a_folder_that_cannot_be_written_is_a_named_error(tmp_path: Path) -> None:
    with pytest.raises(OutboxUnavailable, match="cannot be opened"):
        open_store(tmp_path / "absent")


@pytest.mark.parametrize(
    "flip",
    [
        "UPDATE batch SET body = zeroblob(length(body)) WHERE lo = 1",
        "UPDATE batch SET boot = boot + 1 WHERE lo = 1",
        "UPDATE batch SET at = at + 1 WHERE lo = 1",
        "UPDATE batch SET crc = crc + 1 WHERE lo = 1",
    ],
)
def test_a_damaged_row_is_lost_by_name_and_blocks_nothing(tmp_path: Path, flip: str) -> None:
    store = open_store(tmp_path)
    store.commit([Put(answered("r1"))], NOON)
    store.commit([Put(answered("r2"))], NOON)
    store._connection.execute(flip)
    assert store.batch(Row(1, 1)) is None
    assert store.losses() == (v1.Lost(1, 1, "damaged"),)
    assert store.rows(9) == (Row(2, 2),)


def test_a_damaged_question_is_given_up_and_a_damaged_revision_not_shown(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for name in ("r1", "r2"):
        store.owe("app", question(name), NOON)
        store.commit([Put(revised(name), revision_for="app")], NOON)
    store._connection.execute("UPDATE escalation SET crc = crc + 1 WHERE request_id = 'r1'")
    store._connection.execute("UPDATE revision SET crc = crc + 1 WHERE request_id = 'r1'")
    assert [one.request_id for one in store.escalations(9)] == ["r2"]
    assert store.losses() == (v1.Lost(3, 3, "escalation_damaged"),)
    assert [one.request_id for one in store.revisions("app", 9, NOON)] == ["r2"]


# -- the model


class Books(RuleBasedStateMachine):
    """A store, a gateway with its own books, and a link between them that repeats and loses."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY))
        self.chance = random.Random(7)
        self.issued: dict[int, v1.Record | None] = {}
        self.standing: set[str] = set()
        self.delivered: dict[int, v1.Record] = {}
        self.lost: set[int] = set()
        self.copies: list[tuple[Row, list[v1.Record]]] = []
        self.requests = 0
        self.open()

    def open(self) -> None:
        self.store = open_store(self.folder)
        assert self.store.damage is None

    def note(self, number: int, record: v1.Record | None) -> None:
        assert number not in self.issued, f"number {number} was given twice"
        self.issued[number] = record

    def note_lost(self) -> None:
        """Numbers the store issued for what was gone already."""
        for number in range(1, self.store.ledger().issued + 1):
            self.issued.setdefault(number, None)

    @rule(easy=st.integers(0, 40), hard=st.integers(0, 3), size=st.sampled_from([10, 2000]))
    def records_are_put(self, easy: int, hard: int, size: int) -> None:
        puts = []
        for n in range(easy + hard):
            self.requests += 1
            name = f"r{self.requests}"
            noise = self.chance.randbytes(size).hex()
            puts.append(
                Put(
                    answered(name, label=noise),
                    escalation=question(name, size * 5) if n >= easy else None,
                )
            )
            if n >= easy:
                self.standing.add(name)
        for put, number in zip(puts, self.store.commit(puts, NOON), strict=True):
            self.note(number, put.record)
        self.note_lost()

    @rule(data=st.data(), twice=st.booleans())
    def a_question_is_settled(self, data: st.DataObject, twice: bool) -> None:
        stood = [one.request_id for one in self.store.escalations(9)]
        if stood:
            name = data.draw(st.sampled_from(stood))
            put = Put(revised(name), settles=name, revision_for="app")
            number, *rest = self.store.commit([put] * (2 if twice else 1), NOON)
            assert rest == [0] * twice
            self.note(number, put.record)
            self.standing.discard(name)
            self.note_lost()

    @rule(data=st.data())
    def a_question_is_given_up(self, data: st.DataObject) -> None:
        stood = [one.request_id for one in self.store.escalations(9)]
        if stood:
            name = data.draw(st.sampled_from(stood))
            assert self.store.abandon(name, "refused")
            self.standing.discard(name)
            self.note_lost()

    @rule(count=st.integers(1, 5), reason=st.sampled_from(["pipe_full", "crash"]))
    def records_are_lost(self, count: int, reason: str) -> None:
        self.store.lose(count, reason)
        self.note_lost()

    @rule(data=st.data(), answered=st.booleans())
    def a_batch_is_sent(self, data: st.DataObject, answered: bool) -> None:
        rows = self.store.rows(4)
        if rows:
            row = data.draw(st.sampled_from(rows))
            copy = (row, records(self.store, row))
            self.copies.append(copy)
            self.arrives(*copy)
            if answered:
                self.store.settle(row)

    @rule(data=st.data())
    def an_old_copy_arrives_and_is_acknowledged(self, data: st.DataObject) -> None:
        if self.copies:
            row, content = data.draw(st.sampled_from(self.copies))
            self.arrives(row, content)
            self.store.settle(row)

    def arrives(self, row: Row, content: list[v1.Record]) -> None:
        """The gateway: a number it has is delivered, whatever it heard of its loss."""
        for number, record in zip(range(row.lo, row.hi + 1), content, strict=True):
            assert self.delivered.setdefault(number, record) == record
            self.lost.discard(number)

    @rule(answered=st.booleans(), between=st.integers(0, 3))
    def losses_are_reported(self, answered: bool, between: int) -> None:
        losses = self.store.losses()
        if between:
            self.store.lose(between, "pipe_full")
            self.note_lost()
        for one in losses:
            self.lost.update(set(range(one.lo, one.hi + 1)) - self.delivered.keys())
        if answered:
            self.store.settle_losses(losses)

    @rule()
    def it_crashes_and_comes_back(self) -> None:
        self.store._connection.close()  # nothing is said, nothing is saved
        self.open()

    @rule()
    def it_crashes_inside_a_commit(self) -> None:
        run = self.store._connection.execute
        run("BEGIN IMMEDIATE")
        run("UPDATE meta SET v = v + 1000 WHERE k = 'next'")
        run("DELETE FROM batch")
        self.it_crashes_and_comes_back()

    def numbers(self, query: str) -> list[int]:
        found = self.store._connection.execute(query)
        return [number for lo, hi in found for number in range(lo, hi + 1)]

    @invariant()
    def every_number_is_in_its_place(self) -> None:
        if not hasattr(self, "store"):
            return
        pending, owed = (
            self.numbers("SELECT lo, hi FROM batch"),
            self.numbers("SELECT lo, hi FROM lost"),
        )
        assert len(pending) == len(set(pending)), "a number is in two batches"
        assert len(owed) == len(set(owed)), "a number is in two lost ranges"
        assert not set(pending) & set(owed), "pending and lost at once"
        assert not set(pending) & self.lost, "reported lost, and still here"
        assert set(self.issued) == {
            *self.delivered,
            *self.lost,
            *pending,
            *owed,
        }, "issued = delivered + lost + pending"
        ledger = self.store.ledger()
        assert ledger.issued == len(self.issued) == max(self.issued, default=0)
        assert (ledger.pending, ledger.lost) == (len(pending), len(owed))

    @invariant()
    def what_was_delivered_is_what_was_put(self) -> None:
        if hasattr(self, "store"):
            for number, record in self.delivered.items():
                assert self.issued[number] == record

    @invariant()
    def no_question_stands_that_was_not_asked(self) -> None:
        if hasattr(self, "store"):
            assert {one.request_id for one in self.store.escalations(999)} <= self.standing

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        for row in self.store.rows(10_000):
            self.arrives(row, records(self.store, row))
            self.store.settle(row)
        for one in self.store.losses():
            self.lost.update(set(range(one.lo, one.hi + 1)) - self.delivered.keys())
            self.store.settle_losses([one])
        ledger = self.store.ledger()
        assert ledger.pending == ledger.lost == 0
        assert ledger.issued == len(self.delivered) + len(self.lost)
        assert not self.delivered.keys() & self.lost
        self.store.close()
        shutil.rmtree(self.folder)


TestBooks = Books.TestCase
TestBooks.settings = profile(max_examples=50, stateful_step_count=30)


def test_the_database_is_opened_to_survive_a_power_cut(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    run = store._connection.execute
    assert run("PRAGMA journal_mode").fetchone() == ("wal",)
    assert run("PRAGMA synchronous").fetchone() == (2,)
    assert open_database(tmp_path / "other.db").isolation_level is None
