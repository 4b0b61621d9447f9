"""One suite for every link. The rules are those of `sync.transport.base`.

A cut swallows bytes and closes nothing; connections that were open in it stay dead for ever.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator

import pytest

from sync.errors import LinkDown, LinkError, LinkTimeout, MalformedMessage, MessageTooLarge
from sync.wire import codec, v1
from tests.contracts.links import (
    LINKS,
    MOSQUITTO,
    ON_MOSQUITTO,
    Brokers,
    World,
    batch,
    beat,
    escalation,
    loss,
    reply_to,
    world,
)

pytestmark = pytest.mark.e2e
Story = Callable[[World], Coroutine[None, None, None]]


@pytest.fixture(params=LINKS)
def link(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    if kind in ON_MOSQUITTO and MOSQUITTO is None:
        pytest.skip("mosquitto is not installed; ./just system")
    return kind


@pytest.fixture(scope="module")
def brokers() -> Iterator[Brokers]:
    shared = Brokers()
    yield shared
    shared.close()


Run = Callable[..., None]


@pytest.fixture
def run(link: str, brokers: Brokers) -> Run:
    def told(story: Story, *, opened: bool = True, alone: bool = False) -> None:
        async def tell() -> None:
            async with (
                asyncio.timeout(60),
                world(link, brokers, opened=opened, alone=alone) as made,
            ):
                await story(made)

        asyncio.run(tell())

    return told


def test_every_kind_of_message_gets_its_own_reply(run: Run) -> None:
    async def story(made: World) -> None:
        said: list[v1.Up] = [
            beat(),
            batch(1),
            batch(6, size=100_000),
            loss(),
            escalation("live", size=150_528),
            escalation("backlog", timeout_ms=0),
        ]
        for message in said:
            reply = await made.transport.exchange(message, timeout_s=5.0)
            assert reply == reply_to(message)
        assert made.gateway.heard == said
        assert made.transport.connected

    run(story)


def test_many_at_once_each_get_the_reply_to_their_own_question(run: Run) -> None:
    async def story(made: World) -> None:
        made.gateway.jitter_s = 0.05
        asked: list[v1.Up] = [batch(lo) for lo in range(1, 100, 5)]
        asked += [escalation(f"r{n}") for n in range(20)]
        replies = await asyncio.gather(
            *(made.transport.exchange(message, timeout_s=10.0) for message in asked)
        )
        assert replies == [reply_to(message) for message in asked]

    run(story)


def test_slow_ones_hold_up_no_other_and_a_live_one_least_of_all(run: Run) -> None:
    async def story(made: World) -> None:
        made.gateway.slow_losses_s = 1.5

        async def quick(*messages: v1.Up) -> None:
            began = time.monotonic()
            for message in messages:
                await made.transport.exchange(message, timeout_s=5.0)
            assert time.monotonic() - began < 1.0

        slow = [
            asyncio.create_task(made.transport.exchange(loss(lo), timeout_s=5.0))
            for lo in (1, 11, 21)
        ]
        await asyncio.sleep(0.05)
        await quick(escalation("live"))
        await asyncio.gather(*slow)
        one = asyncio.create_task(made.transport.exchange(loss(31), timeout_s=5.0))
        await asyncio.sleep(0.05)
        await quick(batch(1), escalation("backlog", timeout_ms=0), beat())
        assert await one == reply_to(loss(31))

    run(story)


@pytest.mark.parametrize("timeout_s", [0.05, 0.5])
def test_no_reply_is_an_error_within_the_timeout(run: Run, timeout_s: float) -> None:
    async def story(made: World) -> None:
        made.gateway.silent = True
        for message in (escalation("live"), batch(1)):
            began = time.monotonic()
            with pytest.raises(LinkTimeout):
                await made.transport.exchange(message, timeout_s=timeout_s)
            assert timeout_s - 0.01 <= time.monotonic() - began < timeout_s + 0.4
        made.gateway.silent = False
        await made.up()

    run(story)


def test_swallowed_bytes_are_an_error_within_the_timeout_and_then_the_link_recovers(
    run: Run,
) -> None:
    async def story(made: World) -> None:
        made.cut()
        for message in (escalation("live"), batch(1), beat()):
            began = time.monotonic()
            with pytest.raises(LinkError):
                await made.transport.exchange(message, timeout_s=0.3)
            assert time.monotonic() - began < 0.7
        assert made.gateway.heard == []
        made.repair()
        began = time.monotonic()
        await made.up(within_s=4.0)
        assert time.monotonic() - began < 4.0

    run(story)


def test_after_ten_seconds_of_swallowed_bytes_every_link_works_again_within_three(
    brokers: Brokers,
) -> None:
    """Live ones were tried all the time, on one side; on the other the device slept through it."""

    async def cut(kind: str, *, busy: bool) -> float:
        async with world(kind, brokers) as made:
            made.cut()
            until = time.monotonic() + 10.0
            while time.monotonic() < until:
                if busy:
                    with pytest.raises(LinkError):
                        await made.transport.exchange(escalation("live"), timeout_s=0.25)
                await asyncio.sleep(0.1)
            made.repair()
            repaired = time.monotonic()
            await made.up(within_s=10.0)
            return time.monotonic() - repaired

    async def told() -> dict[str, float]:
        kinds = [kind for kind in LINKS if kind not in ON_MOSQUITTO or MOSQUITTO is not None]
        cases = [(kind, busy) for kind in kinds for busy in (True, False)]
        took = await asyncio.gather(*(cut(kind, busy=busy) for kind, busy in cases))
        return {f"{kind} busy={busy}": s for (kind, busy), s in zip(cases, took, strict=True)}

    took = asyncio.run(told())
    assert max(took.values()) < 3.0, took


def test_a_question_asked_in_the_last_moment_of_a_cut_is_answered_in_its_time(
    run: Run, link: str
) -> None:
    if link == "memory":
        return  # it has no connections that could be made anew

    async def story(made: World) -> None:
        made.cut()
        asked = asyncio.create_task(made.transport.exchange(batch(1), timeout_s=5.0))
        await asyncio.sleep(0.3)
        made.repair()
        assert await asked == reply_to(batch(1))

    run(story)


def test_the_same_message_twice_is_harmless(run: Run) -> None:
    async def story(made: World) -> None:
        made.gateway.twice = True
        for _ in range(2):
            assert await made.transport.exchange(batch(1), timeout_s=5.0) == reply_to(batch(1))
        assert await made.transport.exchange(batch(6), timeout_s=5.0) == reply_to(batch(6))
        assert made.gateway.heard == [batch(1), batch(1), batch(6)]

    run(story)


def test_a_message_over_the_limit_is_named_and_the_link_stays(run: Run) -> None:
    async def story(made: World) -> None:
        for message in (
            escalation("huge", size=codec.MAX_MESSAGE),
            batch(1, size=codec.MAX_MESSAGE),
        ):
            with pytest.raises(MessageTooLarge):
                await made.transport.exchange(message, timeout_s=5.0)
        assert made.gateway.heard == []
        await made.transport.exchange(beat(), timeout_s=5.0)

    run(story)


def test_a_refusal_is_a_reply(run: Run) -> None:
    async def story(made: World) -> None:
        made.gateway.refuses = v1.Refused("overloaded", "come back", False, 7.0)
        for message in (escalation("live"), batch(1)):
            reply = await made.transport.exchange(message, timeout_s=5.0)
            assert reply == made.gateway.refuses
        assert made.transport.connected

    run(story)


def test_a_reply_that_is_none_is_named(run: Run) -> None:
    async def story(made: World) -> None:
        made.gateway.garbled = True
        for message in (escalation("live"), batch(1)):
            with pytest.raises(MalformedMessage):
                await made.transport.exchange(message, timeout_s=5.0)
        made.gateway.garbled = False
        await made.transport.exchange(beat(), timeout_s=5.0)

    run(story)


def test_a_gateway_that_is_gone_is_down_and_found_again_when_it_is_back(run: Run) -> None:
    async def story(made: World) -> None:
        if made.stop_gateway is None or made.start_gateway is None:
            return  # in memory there is no process to stop
        await made.stop_gateway()
        began = time.monotonic()
        with pytest.raises(LinkError):
            await made.transport.exchange(escalation("live"), timeout_s=1.0)
        with pytest.raises(LinkDown):
            await made.transport.exchange(escalation("live"), timeout_s=1.0)
        assert time.monotonic() - began < 1.5
        assert not made.transport.connected
        await made.start_gateway()
        await made.up(within_s=8.0)
        assert made.transport.connected

    run(story, alone=True)


def test_notices_arrive_where_the_link_can_push(run: Run, link: str) -> None:
    async def story(made: World) -> None:
        if made.push is None:
            assert link in ("http", "https")
            return
        made.push(v1.Notice("desired"))
        async with asyncio.timeout(5):
            assert await made.notices.get() == v1.Notice("desired")

    run(story)


def test_closing_ends_what_is_pending_and_leaves_no_thread(run: Run) -> None:
    before = set(threading.enumerate())

    async def story(made: World) -> None:
        made.gateway.silent = True
        pending = [
            asyncio.create_task(made.transport.exchange(message, timeout_s=30.0))
            for message in (escalation("live"), batch(1))
        ]
        await asyncio.sleep(0.2)
        began = time.monotonic()
        await made.transport.close()
        for ended in await asyncio.gather(*pending, return_exceptions=True):
            assert isinstance(ended, LinkDown)
        assert time.monotonic() - began < 1.0
        assert not made.transport.connected
        with pytest.raises(LinkDown):
            await made.transport.exchange(beat(), timeout_s=1.0)
        await made.transport.close()

    run(story)
    assert set(threading.enumerate()) == before


def test_a_link_nobody_opened_is_down(run: Run) -> None:
    async def story(made: World) -> None:
        with pytest.raises(LinkDown):
            await made.transport.exchange(beat(), timeout_s=1.0)
        assert not made.transport.connected

    run(story, opened=False)


def test_giving_up_an_exchange_disturbs_no_other(run: Run) -> None:
    async def story(made: World) -> None:
        made.gateway.slow_losses_s = 0.3
        given_up = asyncio.create_task(made.transport.exchange(loss(1), timeout_s=5.0))
        kept = asyncio.create_task(made.transport.exchange(loss(7), timeout_s=5.0))
        await asyncio.sleep(0.1)
        given_up.cancel()
        assert await kept == reply_to(loss(7))
        assert given_up.cancelled()

    run(story)
