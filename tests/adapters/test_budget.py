"""The budget at work: its file, its link, and what is really sent."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from edge_agent.cloud import budget as budgets
from edge_agent.cloud.budget import (
    BILLION,
    ENVELOPE,
    MOST_SENDS,
    Budget,
    BudgetSettings,
    Tariff,
    read,
    tariff,
    write,
)
from edge_agent.cloud.ledger import HOUR_S, Page
from edge_agent.cloud.link import CloudLink, DeviceReport, LinkSettings
from edge_agent.cloud.price import Weighed
from sim.loop import VirtualClock, VirtualLoop, run
from sync.errors import LinkDown
from sync.outbox.run import Outbox, OutboxSettings
from sync.runner import InlineRunner
from sync.wire import v1
from tests.records import answered

SIZE = 1000
EACH = ENVELOPE + SIZE


def question(name: str, size: int = SIZE) -> v1.Escalation:
    tensor = v1.Tensor("x", "UINT8", (size,), bytes(size))
    return v1.Escalation("d1", name, "sides", "1", 300, (tensor,))


class Ways:
    """A gateway that answers everything at once, and counts what it was sent."""

    name = "memory"
    connected = True

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.down = False

    async def open(self, on_notice: Callable[[v1.Notice], None]) -> None:
        """Nothing to open."""

    async def exchange(self, message: v1.Up, *, timeout_s: float) -> v1.Down:
        await asyncio.sleep(0.01)
        match message:
            case v1.Escalation():
                self.asked.append(message.request_id)
                if self.down:
                    raise LinkDown("as the test wishes")
                return v1.Escalated(message.request_id, message.task, "left", 0.9, "1", 1)
            case v1.Batch():
                return v1.BatchAck(message.incarnation, message.lo, message.hi, "committed")
            case v1.LossReport():
                return v1.LossAck(message.incarnation, message.losses)
            case v1.Beat():
                return v1.BeatReply(1.0, ())

    async def close(self) -> None:
        """Nothing to close."""


class World:
    """A device's link with a budget, on virtual time."""

    def __init__(self, folder: Path, loop: VirtualLoop, limit: int) -> None:
        self.folder = folder
        self.clock = VirtualClock(loop)
        self.ways = Ways()
        self.limit = limit
        self.resent = 0
        self.changes = 0
        self.budget: Budget
        self.link: CloudLink
        self.outbox: Outbox

    async def start(self, boot: str = "boot-1") -> None:
        self.budget = Budget(
            Tariff("bytes", self.limit, ENVELOPE, 1.0),
            self.folder / budgets.FILE,
            clock=self.clock,
            runner=InlineRunner(),
            boot=boot,
            resent=lambda: self.resent,
            on_change=self.changed,
        )
        self.budget.start()
        self.outbox = await Outbox.open(
            self.folder / "outbox",
            clock=self.clock,
            runner=InlineRunner(),
            settings=OutboxSettings(),
            chance=random.Random(1),
        )
        self.link = CloudLink(
            device="d1",
            agent_version="0",
            transport=self.ways,
            outbox=self.outbox,
            clock=self.clock,
            chance=random.Random(2),
            settings=LinkSettings(),
            report=DeviceReport,
            on_desired=lambda _: None,
            on_revision=lambda _: None,
            on_change=self.changed,
            budget=self.budget,
        )
        await self.link.start()
        await asyncio.sleep(1)
        assert self.link.up

    def changed(self) -> None:
        self.changes += 1

    async def stop(self) -> None:
        await self.link.close()
        await self.outbox.close()
        await self.budget.close()

    async def ask(self, name: str, size: int = SIZE) -> v1.Escalated | v1.Refused:
        return await self.link.escalate("app", question(name, size))

    async def given_up(self, name: str) -> None:
        """The worker answered by itself; its record comes."""
        await self.link.record(answered(name, final=False, hard=True))


Story = Callable[[World], Coroutine[object, object, None]]


def tell(folder: Path, story: Story, limit: int = 10 * EACH) -> None:
    async def told(loop: VirtualLoop) -> None:
        world = World(folder, loop, limit)
        await world.start()
        try:
            await story(world)
        finally:
            await world.stop()

    run(told)


def test_questions_are_sent_until_another_could_not_be_paid_even_if_it_went_out_thrice(
    tmp_path: Path,
) -> None:
    async def story(world: World) -> None:
        said = [await world.ask(f"q{number}") for number in range(12)]
        assert [one for one in said if isinstance(one, v1.Escalated)] == said[:8]
        assert {one.code for one in said[8:] if isinstance(one, v1.Refused)} == {"budget"}
        assert len(world.ways.asked) == 8
        assert world.budget.state().left == 2 * EACH
        assert world.budget.most < EACH

    tell(tmp_path, story)


def test_a_question_without_budget_is_sent_in_the_next_hour(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for number in range(9):
            await world.ask(f"q{number}")
        await world.given_up("q8")
        await asyncio.sleep(HOUR_S / 2)
        assert "q8" not in world.ways.asked
        assert (await world.outbox.ledger()).escalations_waiting == 1
        await asyncio.sleep(HOUR_S / 2)
        assert world.ways.asked[-1] == "q8"
        assert [one.request_id for one in await world.outbox.revisions("app", 10)] == ["q8"]

    tell(tmp_path, story)


def test_a_restart_spends_nothing_twice(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for start in range(6):
            for number in range(5):
                await world.ask(f"q{start}-{number}")
            await world.stop()
            await world.start(boot=f"boot-{start // 2}")
        assert len(world.ways.asked) * EACH <= world.limit

    tell(tmp_path, story)


def test_a_transport_that_sent_again_has_used_what_was_reserved(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        asking = asyncio.ensure_future(world.ask("q"))
        await asyncio.sleep(0.001)
        world.resent += 1
        await asking
        assert world.budget.state().spent == MOST_SENDS * EACH

    tell(tmp_path, story)


def test_an_exchange_that_failed_has_cost_all_the_same(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.ways.down = True
        assert isinstance(await world.ask("q"), v1.Refused)
        assert world.budget.state().spent == EACH

    tell(tmp_path, story)


def test_a_question_left_for_later_goes_with_the_backlog_and_counts_as_promised(
    tmp_path: Path,
) -> None:
    async def story(world: World) -> None:
        before = world.budget.left
        world.link.leave("app", question("q"))
        assert world.budget.left == before - EACH
        assert world.ways.asked == []
        await world.given_up("q")
        await asyncio.sleep(1)
        assert world.ways.asked == ["q"]
        assert world.budget.left == before - EACH, "paid instead of promised"
        assert len(world.link.round_trips()) == 1

    tell(tmp_path, story)


def test_what_is_promised_is_so_until_it_is_sent_or_the_hour_is_over(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        before = world.budget.left
        world.link.leave("app", question("never-recorded"))
        world.link.leave("app", question("too-large", size=9 * SIZE))
        await world.given_up("too-large")
        await asyncio.sleep(1)
        assert world.budget.left == before - EACH
        await asyncio.sleep(HOUR_S)
        assert world.budget.left == before

    tell(tmp_path, story)


def test_a_question_that_no_hour_can_pay_is_given_up(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        assert isinstance(await world.ask("q", size=9 * SIZE), v1.Refused)
        await world.given_up("q")
        ledger = await world.outbox.ledger()
        assert ledger.escalations_waiting == 0
        assert world.ways.asked == []

    tell(tmp_path, story)


def test_the_price_rises_with_what_comes_and_outlives_a_restart(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await asyncio.sleep(60)
        assert world.budget.price == 0.0
        worths = [place / 1e6 for place in range(100)]
        world.budget.considered(tuple(Weighed(worth, EACH) for worth in worths))
        dear = world.budget.price
        # 100 came in a minute, so 5900 more are to come, and ten can be paid.
        assert dear == worths[-1]
        await world.ask("q")
        await world.stop()
        await world.start()
        assert world.budget.price == dear

    tell(tmp_path, story)


def test_whoever_tells_the_workers_hears_of_every_change(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        before = world.changes
        await world.ask("q")
        assert world.changes > before

    tell(tmp_path, story)


@pytest.mark.parametrize("damage", [b"", b"{", b'{"crc":1,"page":{}}', b"\x00" * 64])
def test_a_torn_file_is_a_spent_hour_and_then_a_new_one(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / budgets.FILE).write_bytes(damage)

    async def story(world: World) -> None:
        assert isinstance(await world.ask("q1"), v1.Refused)
        assert world.ways.asked == []
        await asyncio.sleep(HOUR_S)
        assert isinstance(await world.ask("q2"), v1.Escalated)

    tell(tmp_path, story)


def test_a_disk_that_does_not_take_the_ledger_sends_nothing(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        (tmp_path / budgets.FILE).unlink()
        (tmp_path / budgets.FILE).mkdir()
        said = [await world.ask(f"q{number}") for number in range(9)]
        sent = sum(isinstance(one, v1.Escalated) for one in said)
        assert sent == len(world.ways.asked) <= 1, "no more than was written ahead"

    tell(tmp_path, story)


def test_a_page_is_read_as_it_was_written(tmp_path: Path) -> None:
    page = Page("boot", "money", 1.5, 2.5, 10**12, 1e300)
    write(tmp_path / budgets.FILE, page)
    assert read((tmp_path / budgets.FILE).read_bytes()) == page
    assert [one.name for one in tmp_path.iterdir()] == [budgets.FILE]


def test_money_is_counted_in_billionths_and_rounded_up() -> None:
    money = tariff(BudgetSettings(money_per_hour=0.5, money_per_call=0.001, money_per_mb=0.02))
    assert money is not None
    assert (money.unit, money.limit) == ("money", BILLION // 2)
    assert money.cost(500_000) == round((0.001 + 0.02 * 0.5 + 0.02 * ENVELOPE / 1e6) * BILLION)
    assert Tariff("bytes", 1, 10, 0.3).cost(1) == 11


def test_a_budget_that_means_nothing_is_refused() -> None:
    assert tariff(BudgetSettings()) is None
    with pytest.raises(ValueError, match="set one of them"):
        tariff(BudgetSettings(bytes_per_hour=1, money_per_hour=1.0))
    with pytest.raises(ValueError, match="set money_per_call or money_per_mb"):
        tariff(BudgetSettings(money_per_hour=1.0))
