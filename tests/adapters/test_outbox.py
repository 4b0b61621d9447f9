"""The outbox at work: commits shared, delivery on virtual time, kill -9, and who may open it."""

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from sim.loop import VirtualClock, VirtualLoop
from sim.loop import run as run_virtual
from sync.backoff import Backoff
from sync.clock import SystemClock
from sync.errors import LinkDown, OutboxBusy, OutboxFull, OutboxUnavailable
from sync.outbox.delivery import Policy
from sync.outbox.run import Outbox, OutboxSettings
from sync.outbox.store import BATCH_RECORDS, Limits, Store
from sync.runner import InlineRunner, ThreadRunner
from sync.transport.memory import MemoryTransport
from sync.wire import codec, v1

DEVICE = "d1"
SETTINGS = OutboxSettings(
    limits=Limits(budget_bytes=256 << 10, escalation_bytes=64 << 10),
    policy=Policy(window=4, backoff=Backoff(base_s=1.0, cap_s=30.0)),
    linger_ms=200,
    reply_timeout_s=5.0,
)
Story = Callable[[VirtualLoop, Outbox], Coroutine[None, None, None]]


def revised(n: int, label: str = "coat") -> v1.Revised:
    return v1.Revised(f"r{n}", "app", "apparel", label, 0.9, "1.0", 0.0)


def question(n: int) -> v1.Escalation:
    tensor = v1.Tensor("x", "UINT8", (4,), b"abcd")
    return v1.Escalation(DEVICE, f"r{n}", "apparel", "1.0", 250, (tensor,))


def with_outbox(folder: Path, story: Story, settings: OutboxSettings = SETTINGS) -> None:
    async def told(loop: VirtualLoop) -> None:
        outbox = await open_virtual(folder, loop, settings)
        await story(loop, outbox)
        await outbox.close()

    run_virtual(told)


async def open_virtual(
    folder: Path, loop: VirtualLoop, settings: OutboxSettings = SETTINGS
) -> Outbox:
    return await Outbox.open(
        folder,
        clock=VirtualClock(loop),
        runner=InlineRunner(),
        settings=settings,
        chance=random.Random(3),
    )


class Gateway:
    """Takes batches and losses in, counts each number once, and fails as it is told."""

    def __init__(self) -> None:
        self.delivered: dict[int, v1.Record] = {}
        self.lost: dict[int, str] = {}
        self.heard: list[v1.Up] = []
        self.reply: Callable[[v1.Up], v1.Down | None] = self.take_in
        self.chance = random.Random(11)
        self.loses = 0.0

    async def carry(self, data: bytes) -> bytes:
        message = codec.decode_up(data)
        self.heard.append(message)
        reply = self.reply(message)
        if reply is None or self.chance.random() < self.loses:
            await asyncio.Event().wait()
        assert reply is not None
        return codec.encode(reply)

    def take_in(self, message: v1.Up) -> v1.Down:
        match message:
            case v1.Batch(incarnation=incarnation, lo=lo, hi=hi, body=body):
                records = codec.unpack_records(body)
                duplicate = lo in self.delivered
                for number, record in zip(range(lo, hi + 1), records, strict=True):
                    assert self.delivered.setdefault(number, record) == record
                return v1.BatchAck(incarnation, lo, hi, "duplicate" if duplicate else "committed")
            case v1.LossReport(incarnation=incarnation, losses=losses):
                for one in losses:
                    self.lost |= dict.fromkeys(range(one.lo, one.hi + 1), one.reason)
                return v1.LossAck(incarnation, losses)
            case _:
                raise AssertionError(message)


async def delivered(
    outbox: Outbox, gateway: Gateway, *, within_s: float = 3600.0, poll_s: float = 1.0
) -> None:
    """Deliver until nothing is left here."""
    transport = MemoryTransport(gateway.carry)
    await transport.open(lambda _: None)
    stop = asyncio.Event()
    task = asyncio.create_task(outbox.deliver(transport, stop, device=DEVICE))
    async with asyncio.timeout(within_s):
        while True:
            ledger = await outbox.ledger()
            if ledger.pending == ledger.lost == 0:
                break
            await asyncio.sleep(poll_s)
    stop.set()
    await task
    await transport.close()


# -- putting in


def test_records_within_the_linger_share_one_commit_and_an_urgent_one_hurries_them(
    tmp_path: Path,
) -> None:
    async def story(loop: VirtualLoop, outbox: Outbox) -> None:
        began = loop.time()
        assert await asyncio.gather(*(outbox.put(revised(n)) for n in range(3))) == [1, 2, 3]
        assert loop.time() - began == pytest.approx(0.2)
        began = loop.time()
        calm = asyncio.create_task(outbox.put(revised(3)))
        await asyncio.sleep(0.05)
        assert await outbox.put(revised(4), escalation=question(4)) == 5
        assert await calm == 4
        assert loop.time() - began == pytest.approx(0.05)
        began = loop.time()
        assert await outbox.put(revised(4), settles="r4", revision_for="app") == 6
        assert loop.time() == began

    with_outbox(tmp_path, story)


def test_a_full_batch_does_not_wait(tmp_path: Path) -> None:
    async def story(loop: VirtualLoop, outbox: Outbox) -> None:
        await asyncio.gather(*(outbox.put(revised(n)) for n in range(BATCH_RECORDS)))
        assert loop.time() == 0.0

    with_outbox(tmp_path, story)


def test_what_cannot_be_stored_is_told_to_everybody_who_waits_and_the_next_is_stored(
    tmp_path: Path,
) -> None:
    async def story(loop: VirtualLoop, outbox: Outbox) -> None:
        bad = revised(1, label="\ud800")
        told = await asyncio.gather(outbox.put(revised(0)), outbox.put(bad), return_exceptions=True)
        assert [type(one) for one in told] == [UnicodeEncodeError] * 2
        assert await outbox.put(revised(2)) == 1

    with_outbox(tmp_path, story)


def test_a_caller_that_stopped_waiting_does_not_undo_its_record(tmp_path: Path) -> None:
    async def story(loop: VirtualLoop, outbox: Outbox) -> None:
        given_up = asyncio.create_task(outbox.put(revised(1)))
        await asyncio.sleep(0.01)
        given_up.cancel()
        assert await outbox.put(revised(2)) == 2

    with_outbox(tmp_path, story)


def test_close_stores_what_was_put_and_then_refuses(tmp_path: Path) -> None:
    async def told(loop: VirtualLoop) -> None:
        outbox = await open_virtual(tmp_path, loop)
        last = asyncio.create_task(outbox.put(revised(1)))
        await asyncio.sleep(0)
        await outbox.close()
        assert last.result() == 1
        with pytest.raises(OutboxUnavailable):
            await outbox.put(revised(2))
        again = await open_virtual(tmp_path, loop)
        assert (again.boot, (await again.ledger()).pending) == (2, 1)
        await again.close()

    run_virtual(told)


def test_the_second_to_open_a_folder_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    async def story(loop: VirtualLoop, outbox: Outbox) -> None:
        with pytest.raises(OutboxBusy, match=r"outbox\.lock"):
            await open_virtual(tmp_path, loop)

    with_outbox(tmp_path, story)
    with_outbox(tmp_path, lambda _loop, outbox: outbox.lose(1, "crash"))


@pytest.mark.parametrize("folder", ["taken", "file/outbox", "/proc/outbox"])
def test_a_lock_that_cannot_be_opened_says_what_to_do(tmp_path: Path, folder: str) -> None:
    (tmp_path / "taken" / "outbox.lock").mkdir(parents=True)
    (tmp_path / "file").touch()

    async def told(loop: VirtualLoop) -> None:
        with pytest.raises(
            OutboxUnavailable, match=r"outbox\.lock cannot be opened: .*data folder"
        ):
            await open_virtual(tmp_path / folder, loop)

    run_virtual(told)


def test_a_damaged_file_is_reported_by_the_outbox_that_began_anew(tmp_path: Path) -> None:
    (tmp_path / "outbox.db").write_bytes(b"this is no database" * 1000)

    async def story(loop: VirtualLoop, outbox: Outbox) -> None:
        assert outbox.damage is not None
        assert "quarantine-1" in outbox.damage
        assert outbox.boot == 1
        assert len(outbox.incarnation) == 12

    with_outbox(tmp_path, story)


# -- delivery


def test_everything_put_is_delivered_once_and_let_go(tmp_path: Path) -> None:
    async def story(loop: VirtualLoop, outbox: Outbox) -> None:
        gateway = Gateway()
        for n in range(10):
            await outbox.put(revised(n))
        await outbox.lose(3, "pipe_full")
        await delivered(outbox, gateway)
        assert gateway.delivered == {n + 1: revised(n) for n in range(10)}
        assert gateway.lost == dict.fromkeys((11, 12, 13), "pipe_full")
        sent = [one for one in gateway.heard if isinstance(one, v1.Batch)]
        assert len(sent) == 10
        assert all((one.device, one.incarnation) == (DEVICE, outbox.incarnation) for one in sent)

    with_outbox(tmp_path, story)


def test_a_record_put_while_delivery_sleeps_wakes_it(tmp_path: Path) -> None:
    async def story(loop: VirtualLoop, outbox: Outbox) -> None:
        gateway = Gateway()
        transport = MemoryTransport(gateway.carry)
        await transport.open(lambda _: None)
        stop = asyncio.Event()
        task = asyncio.create_task(outbox.deliver(transport, stop, device=DEVICE))
        await asyncio.sleep(100.0)
        assert gateway.heard == []
        await outbox.put(revised(1))
        await asyncio.sleep(0.01)
        assert list(gateway.delivered) == [1]
        await outbox.lose(1, "crash")
        await asyncio.sleep(0.01)
        assert gateway.lost == {2: "crash"}
        stop.set()
        await task

    with_outbox(tmp_path, story)


def test_on_a_link_that_loses_a_third_of_all_answers_everything_arrives_once(
    tmp_path: Path,
) -> None:
    async def story(loop: VirtualLoop, outbox: Outbox) -> None:
        gateway = Gateway()
        gateway.loses = 0.33
        for n in range(40):
            await outbox.put(revised(n))
        await delivered(outbox, gateway)
        assert len(gateway.delivered) == 40
        assert len(gateway.heard) > 40

    with_outbox(tmp_path, story)


def test_a_dead_letter_and_a_refused_row_do_not_hold_up_the_rest(tmp_path: Path) -> None:
    async def story(loop: VirtualLoop, outbox: Outbox) -> None:
        gateway = Gateway()

        def picky(message: v1.Up) -> v1.Down:
            match message:
                case v1.Batch(incarnation=incarnation, lo=1, hi=hi):
                    return v1.BatchAck(incarnation, 1, hi, "dead_letter", "unknown_tag")
                case v1.Batch(lo=2) if loop.time() < 3000:
                    return v1.Refused("message_too_large", "no", permanent=True)
                case v1.Batch(lo=3) if loop.time() < 20:
                    return v1.Refused("overloaded", "later", permanent=False, retry_after_s=15.0)
                case _:
                    return gateway.take_in(message)

        gateway.reply = picky
        for n in range(6):
            await outbox.put(revised(n))
        await delivered(outbox, gateway, within_s=4000.0)
        assert sorted(gateway.delivered) == [2, 3, 4, 5, 6]
        twos = [one for one in gateway.heard if isinstance(one, v1.Batch) and one.lo == 2]
        assert len(twos) == 2, "parked for an hour, then asked once more"

    with_outbox(tmp_path, story)


def test_a_damaged_row_is_reported_lost_and_costs_the_others_no_time(tmp_path: Path) -> None:
    async def story(loop: VirtualLoop, outbox: Outbox) -> None:
        gateway = Gateway()
        await outbox.put(revised(1))
        outbox._store._connection.execute("UPDATE batch SET crc = crc + 1")
        began = loop.time()
        await delivered(outbox, gateway, poll_s=0.01)
        assert gateway.lost == {1: "damaged"}
        assert loop.time() - began < 0.1

    with_outbox(tmp_path, story)


def test_an_odd_reply_and_a_link_that_is_down_are_only_failures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(loop: VirtualLoop, outbox: Outbox) -> None:
        gateway = Gateway()

        def odd(message: v1.Up) -> v1.Down:
            if len(gateway.heard) == 1:
                return v1.BeatReply(0.0, ())
            if len(gateway.heard) == 2:
                raise LinkDown("no carrier")
            return gateway.take_in(message)

        gateway.reply = odd
        await outbox.put(revised(1))
        await delivered(outbox, gateway)
        assert list(gateway.delivered) == [1]

    with_outbox(tmp_path, story)
    assert "outbox.delivery_fault" not in caplog.text


def test_delivery_outlives_a_fault_of_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(loop: VirtualLoop, outbox: Outbox) -> None:
        gateway = Gateway()

        def faulty(message: v1.Up) -> v1.Down:
            if len(gateway.heard) == 1:
                raise ZeroDivisionError
            return gateway.take_in(message)

        gateway.reply = faulty
        await outbox.put(revised(1))
        await delivered(outbox, gateway)
        assert list(gateway.delivered) == [1]

    with_outbox(tmp_path, story)
    assert "outbox.delivery_fault" in caplog.text


def test_over_the_budget_in_a_long_outage_the_ledger_still_adds_up(tmp_path: Path) -> None:
    async def story(loop: VirtualLoop, outbox: Outbox) -> None:
        gateway = Gateway()
        gateway.reply = lambda _: None
        transport = MemoryTransport(gateway.carry)
        await transport.open(lambda _: None)
        stop = asyncio.Event()
        task = asyncio.create_task(outbox.deliver(transport, stop, device=DEVICE))
        chance = random.Random(1)
        for n in range(150):
            await outbox.put(revised(n, label=chance.randbytes(4000).hex()))
        stop.set()
        await task
        assert (await outbox.ledger()).lost > 50
        gateway.reply = gateway.take_in
        await delivered(outbox, gateway)
        assert set(gateway.delivered) | set(gateway.lost) == set(range(1, 151))
        assert not set(gateway.delivered) & set(gateway.lost)

    with_outbox(tmp_path, story)


def test_a_restart_between_sending_and_the_answer_sends_once_more(tmp_path: Path) -> None:
    gateway = Gateway()

    async def first(loop: VirtualLoop, outbox: Outbox) -> None:
        def taken_and_silent(message: v1.Up) -> None:
            gateway.take_in(message)

        gateway.reply = taken_and_silent
        await outbox.put(revised(1))
        transport = MemoryTransport(gateway.carry)
        await transport.open(lambda _: None)
        stop = asyncio.Event()
        task = asyncio.create_task(outbox.deliver(transport, stop, device=DEVICE))
        await asyncio.sleep(1.0)
        stop.set()
        await task

    async def second(loop: VirtualLoop, outbox: Outbox) -> None:
        gateway.reply = gateway.take_in
        await delivered(outbox, gateway)

    with_outbox(tmp_path, first)
    with_outbox(tmp_path, second)
    assert list(gateway.delivered) == [1]
    assert [one.boot for one in gateway.heard if isinstance(one, v1.Batch)] == [1, 1]


# -- threads and processes


def test_with_a_real_thread_nothing_is_different(tmp_path: Path) -> None:
    async def story() -> None:
        runner = ThreadRunner("outbox")
        outbox = await Outbox.open(tmp_path, clock=SystemClock(), runner=runner, settings=SETTINGS)
        gateway = Gateway()
        puts = [asyncio.create_task(outbox.put(revised(n))) for n in range(500)]
        await delivered(outbox, gateway, within_s=30.0, poll_s=0.02)
        assert sorted(await asyncio.gather(*puts)) == list(range(1, 501))
        await delivered(outbox, gateway, within_s=30.0, poll_s=0.02)
        assert sorted(gateway.delivered) == list(range(1, 501))
        await outbox.close()
        runner.close()

    asyncio.run(story())


CHILD = """
import sys
from pathlib import Path
from sync.outbox.store import Limits, Put, Store
from sync.wire import v1

store = Store.open(Path(sys.argv[1]), new_incarnation=sys.argv[2], limits=Limits())
print("open", store.incarnation, store.damage, flush=True)
n = 0
while True:
    n += 1
    name = f"{store.boot}-{n}"
    tensor = v1.Tensor("x", "UINT8", (1000,), bytes(1000))
    asked = v1.Escalation("d1", name, "apparel", "1.0", 250, (tensor,))
    first = Put(v1.Revised(name, "app", "apparel", "x" * 100, 0.5, "1.0", 0.0), escalation=asked)
    then = Put(v1.Revised(name, "app", "apparel", "y", 0.5, "1.0", 0.0),
               settles=name, revision_for="app")
    puts = [first] if n % 3 else [first, then]
    numbers = store.commit(puts, 1.0)
    if n % 7 == 0:
        store.settle(store.rows(1)[0])
    print(name, *numbers, flush=True)
"""


@pytest.mark.e2e
def test_kill_9_while_writing_loses_nothing_it_had_told_of(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    chance = random.Random(2)
    told: dict[int, str] = {}
    incarnation = ""
    for life in range(6):
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", CHILD, str(path), f"{life:012x}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        assert child.stdout.readline().split()[0] == "open"
        time.sleep(chance.uniform(0.02, 0.25))
        child.send_signal(signal.SIGKILL)
        said = child.stdout.read().split("\n")[:-1]
        child.wait()
        child.stdout.close()
        for line in said:
            name, *numbers = line.split()
            for number in numbers:
                assert int(number) not in told, "a number was given twice"
                told[int(number)] = name
        store = Store.open(path, new_incarnation="f" * 12, limits=Limits())
        assert store.damage is None
        assert incarnation in ("", store.incarnation)
        incarnation = store.incarnation
        have = {
            number: record.request_id
            for row in store.rows(100_000)
            if (stored := store.batch(row)) is not None
            for number, record in zip(
                range(row.lo, row.hi + 1), codec.unpack_records(stored.body), strict=True
            )
            if isinstance(record, v1.Answered | v1.Revised)
        }
        oldest = min(have)
        assert {n: name for n, name in told.items() if n >= oldest} == {
            n: name for n, name in have.items() if n in told
        }, "what was told of is there, with its own content"
        ledger = store.ledger()
        assert ledger.issued == max(have)
        assert ledger.pending == ledger.issued - oldest + 1
        asked_twice = {one.request_id for one in store.escalations(100_000)}
        revisions = {one.request_id for one in store.revisions("app", 100_000, 1.0)}
        assert not asked_twice & revisions, "settled, and still standing"
        store.close()
    assert len(told) > 50


def test_a_budget_full_of_promises_pushes_back_through_put(tmp_path: Path) -> None:
    async def story(loop: VirtualLoop, outbox: Outbox) -> None:
        stored = 0
        told: OutboxFull | None = None
        while told is None:
            promise = revised(stored, label="x" * 2000)
            try:
                await outbox.put(promise, revision_for=f"client {stored}")
                stored += 1
            except OutboxFull as error:
                told = error
        assert (await outbox.ledger()).revisions_waiting == stored
        await outbox.take("client 0", ["r0"])
        assert await outbox.put(revised(stored), revision_for="client 0") == stored + 1

    with_outbox(tmp_path, story)
