"""A link of two ways: one is blocked, deaf or garbled, and every exchange is answered still."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Iterator

import pytest

from sync.backoff import Backoff
from sync.errors import LinkDown, LinkTimeout, MalformedMessage
from sync.transport.base import Transport
from sync.transport.failover import Policy
from sync.transport.memory import MemoryTransport
from sync.transport.two_ways import TwoWays
from sync.wire import codec, v1
from tests.contracts.links import (
    DEVICE,
    INC,
    MOSQUITTO,
    Brokers,
    TwoWaysWorld,
    batch,
    beat,
    escalation,
    reply_to,
    world,
)

QUICK = Policy(settle_s=0.0, probe=Backoff(base_s=0.01, cap_s=0.05), hold_s=0.1)


class Side:
    """One way to a gateway in this process, and what travelled on it."""

    def __init__(self) -> None:
        self.heard: list[v1.Up] = []
        self.refuses = False
        self.deaf = False
        self.garbles = False

    async def carry(self, data: bytes) -> bytes:
        if self.refuses:
            raise LinkDown("refused")
        message = codec.decode_up(data)
        self.heard.append(message)
        if self.deaf:
            await asyncio.Event().wait()
        return b"\x01<html>" if self.garbles else codec.encode(reply_to(message))


def named(name: str, side: Side) -> MemoryTransport:
    transport = MemoryTransport(side.carry)
    transport.name = name  # a twin under the name of what it stands for
    return transport


def play(story: Callable[[TwoWays, Side, Side], Coroutine[None, None, None]]) -> None:
    async def told() -> None:
        first, second = Side(), Side()
        link = TwoWays(
            named("mqtt", first),
            named("http", second),
            probe=lambda: v1.LossReport(DEVICE, INC, (), 0.0),
            chance=random.Random(1),
            policy=QUICK,
        )
        await link.open(lambda _: None)
        async with asyncio.timeout(30):
            await story(link, first, second)
        await link.close()

    asyncio.run(told())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the link changes it
            await asyncio.sleep(0.005)


def test_refused_on_one_way_is_answered_on_the_other_and_it_comes_back() -> None:
    async def story(link: TwoWays, first: Side, second: Side) -> None:
        first.refuses = True
        assert await link.exchange(batch(1), timeout_s=2.0) == reply_to(batch(1))
        assert (link.name, link.connected) == ("http", True)
        assert second.heard == [batch(1)]
        first.refuses = False
        await until(lambda: link.name == "mqtt")
        first.heard.clear()
        await link.exchange(batch(6), timeout_s=2.0)
        assert (first.heard, second.heard) == ([batch(6)], [batch(1)])

    play(story)


def test_a_way_that_takes_in_and_never_answers_costs_no_exchange() -> None:
    async def story(link: TwoWays, first: Side, second: Side) -> None:
        first.deaf = True
        for lo in (1, 6):
            assert await link.exchange(batch(lo), timeout_s=1.0) == reply_to(batch(lo))
        assert link.name == "http"
        assert first.heard[:2] == second.heard == [batch(1), batch(6)]

    play(story)


def test_what_is_no_reply_on_one_way_is_one_on_the_other() -> None:
    async def story(link: TwoWays, first: Side, second: Side) -> None:
        first.garbles = True
        assert await link.exchange(batch(1), timeout_s=1.0) == reply_to(batch(1))
        second.garbles = True
        with pytest.raises(MalformedMessage):
            await link.exchange(batch(1), timeout_s=1.0)

    play(story)


def test_a_gateway_that_is_only_slow_is_not_asked_everything_twice() -> None:
    async def story(link: TwoWays, first: Side, second: Side) -> None:
        slow = first.carry

        async def carry(data: bytes) -> bytes:
            await asyncio.sleep(0.3)
            return await slow(data)

        first.carry, second.deaf = carry, True  # type: ignore[method-assign]
        link._ways[link.using]._carry = carry  # type: ignore[attr-defined]
        for lo in (1, 6, 11):
            assert await link.exchange(batch(lo), timeout_s=0.5) == reply_to(batch(lo))
        assert (link.name, len(second.heard)) == ("mqtt", 1)

    play(story)


def test_a_heartbeat_says_which_way_it_took() -> None:
    async def story(link: TwoWays, first: Side, second: Side) -> None:
        first.refuses = True
        said = v1.Beat(DEVICE, INC, 1, 2.0, link.name, (), (), 0, 0, 0, "0.1")
        assert said.link == "mqtt"
        await link.exchange(said, timeout_s=1.0)
        (heard,) = second.heard
        assert isinstance(heard, v1.Beat)
        assert heard.link == "http"

    play(story)


def test_both_ways_down_is_down_and_both_silent_is_a_timeout() -> None:
    async def story(link: TwoWays, first: Side, second: Side) -> None:
        first.refuses = second.refuses = True
        with pytest.raises(LinkDown):
            await link.exchange(beat(), timeout_s=1.0)
        assert not link.connected
        second.refuses, second.deaf = False, True
        with pytest.raises(LinkTimeout):
            await link.exchange(beat(), timeout_s=0.2)

    play(story)


@pytest.fixture(scope="module")
def brokers() -> Iterator[Brokers]:
    shared = Brokers()
    yield shared
    shared.close()


@pytest.mark.e2e
@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed; ./just system")
def test_with_the_brokers_port_blocked_under_load_every_exchange_is_answered(
    brokers: Brokers,
) -> None:
    """The proxy before the broker goes deaf while questions are under way."""

    async def story() -> None:
        async with asyncio.timeout(60), world("failover", brokers) as made:
            assert isinstance(made, TwoWaysWorld)
            link: Transport = made.transport
            took: list[float] = []

            async def ask(number: int) -> None:
                began = time.monotonic()
                asked = escalation(f"r{number}")
                assert await link.exchange(asked, timeout_s=6.0) == reply_to(asked)
                took.append(time.monotonic() - began)

            asking = []
            for number in range(60):
                if number == 20:
                    made.mqtt.cut()
                asking.append(asyncio.create_task(ask(number)))
                await asyncio.sleep(0.05)
            await asyncio.gather(*asking)
            assert len(took) == 60
            assert link.name == "http"
            made.mqtt.repair()
            while link.name != "mqtt":  # noqa: ASYNC110 - the link changes it
                await asyncio.sleep(0.05)

    asyncio.run(story())
