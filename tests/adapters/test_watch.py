"""The shared picture: one reading for all, nothing read for nobody, changes told once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest
from msgspec import Struct, structs

from cloud_gateway.dashboard.routes import BLANK
from cloud_gateway.errors import StorageUnavailable
from cloud_gateway.facts import DeviceFacts, DevicePage, Fleet, Series, Summary
from cloud_gateway.fleet.watch import KEPT, LONGEST_PAUSE_S, SHARE, Change, Watch
from sim.loop import VirtualClock, VirtualLoop, run

SUMMARY = Summary(
    at=0.0,
    total=0,
    states=(),
    marks=(),
    window_since=0.0,
    answers=None,
    records_at=None,
    pending=None,
    escalations_waiting=None,
    said_at=None,
)


def device(name: str, pending: int = 0) -> DeviceFacts:
    return structs.replace(BLANK, name=name, state="live", pending=pending)


class Told(Struct, frozen=True):
    """One event of the stream, taken apart."""

    kind: str
    id: str
    change: Change


class Shelf:
    """A reading that gives what was put on it, counts, and takes as long as it is told to."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.devices: dict[str, DeviceFacts] = {}
        self.read = 0
        self.takes_s = 0.0
        self.broken = False

    def put(self, *devices: DeviceFacts) -> None:
        self.devices |= {one.name: one for one in devices}

    async def fleet(self, id: str) -> Fleet:
        self.read += 1
        await asyncio.sleep(self.takes_s)
        if self.broken:
            raise StorageUnavailable("no room")
        return Fleet(id, self.clock.wall(), SUMMARY, tuple(self.devices.values()))

    async def series(self, minutes: int, *, task: str, device: str) -> Series:
        self.read += 1
        return Series(self.clock.wall(), 0.0, 5, ())

    async def device(self, facts: DeviceFacts) -> DevicePage:
        return DevicePage(facts, self.clock.wall(), 0.0, None, ())


async def hear(stream: AsyncIterator[bytes], within_s: float = 10.0) -> Told:
    event = (await asyncio.wait_for(anext(stream), within_s)).decode()
    assert event.endswith("\n\n")
    lines = dict(line.split(": ", 1) for line in event.strip().split("\n"))
    change = msgspec.json.decode(lines["data"], type=Change)
    assert lines["id"] == change.id
    return Told(lines["event"], lines["id"], change)


def desk(loop: VirtualLoop) -> tuple[Shelf, Watch]:
    clock = VirtualClock(loop)
    shelf = Shelf(clock)
    return shelf, Watch(shelf, clock=clock)


def test_nothing_is_read_while_nobody_looks() -> None:
    async def story(loop: VirtualLoop) -> None:
        shelf, watch = desk(loop)
        await asyncio.sleep(3600)
        assert shelf.read == 0
        stream = watch.stream()
        await hear(stream)
        await stream.aclose()  # type: ignore[attr-defined]  # it is a generator
        await asyncio.sleep(5)
        read = shelf.read
        await asyncio.sleep(3600)
        assert shelf.read == read
        await watch.close()

    run(story)


def test_a_hundred_viewers_cost_one_reading_a_second() -> None:
    async def story(loop: VirtualLoop) -> None:
        shelf, watch = desk(loop)

        async def view() -> None:
            async for _ in watch.stream():
                pass

        viewers = [asyncio.create_task(view()) for _ in range(100)]
        await asyncio.sleep(60.5)
        assert 55 <= shelf.read <= 62
        await watch.close()
        await asyncio.wait_for(asyncio.gather(*viewers), 1)

    run(story)


def test_a_hundred_questions_at_once_are_one_reading() -> None:
    async def story(loop: VirtualLoop) -> None:
        shelf, watch = desk(loop)
        shelf.takes_s = 0.01
        pictures = await asyncio.gather(*(watch.fleet() for _ in range(100)))
        charts = await asyncio.gather(*(watch.series(5) for _ in range(100)))
        assert len({picture.id for picture in pictures}) == 1
        assert len({id(chart) for chart in charts}) == 1
        assert shelf.read == 2

    run(story)


def test_a_slow_database_is_asked_less_often_but_never_forgotten() -> None:
    async def story(loop: VirtualLoop) -> None:
        for takes_s in (0.1, 3.0):
            shelf, watch = desk(loop)
            shelf.takes_s = takes_s
            stream = watch.stream()
            await hear(stream)
            began = loop.time()
            await hear(stream)
            pause = min(LONGEST_PAUSE_S, SHARE * takes_s)
            assert loop.time() - began == pytest.approx(pause + takes_s)
            await watch.close()

    run(story)


def test_a_stream_begins_with_a_snapshot_and_then_tells_what_differs() -> None:
    async def story(loop: VirtualLoop) -> None:
        shelf, watch = desk(loop)
        shelf.put(device("a"), device("b"), device("c"))
        stream = watch.stream()
        first = await hear(stream)
        assert (first.kind, first.change.fresh, first.change.devices) == ("snapshot", True, ())
        shelf.put(device("b", pending=4), device("d"))
        del shelf.devices["c"]
        second = await hear(stream)
        assert (second.kind, second.change.fresh) == ("delta", False)
        assert second.change.devices == (device("b", pending=4), device("d"))
        assert second.change.gone == ("c",)
        third = await hear(stream)
        assert (third.change.devices, third.change.gone) == ((), ())
        assert third.change.at > second.change.at
        await watch.close()

    run(story)


def test_a_viewer_who_comes_back_hears_what_it_missed() -> None:
    async def story(loop: VirtualLoop) -> None:
        shelf, watch = desk(loop)
        shelf.put(device("a"))
        stays, leaves = watch.stream(), watch.stream()
        await hear(stays)
        seen = (await hear(leaves)).id
        await leaves.aclose()  # type: ignore[attr-defined]  # it is a generator
        for pending in (1, 2):
            shelf.put(device("a", pending=pending))
            await hear(stays)
        back = watch.stream(seen)
        missed = [await hear(back), await hear(back)]
        assert [told.change.devices[0].pending for told in missed] == [1, 2]
        await watch.close()

    run(story)


@pytest.mark.parametrize("seen", ["", "nonsense", "0-1", "0-", "-1", "x-٣", f"0-{'9' * 5000}"])
def test_a_viewer_from_elsewhere_begins_again(seen: str) -> None:
    async def story(loop: VirtualLoop) -> None:
        shelf, watch = desk(loop)
        shelf.put(device("a"))
        assert (await hear(watch.stream(seen))).change.fresh
        epoch = (await watch.fleet()).id.split("-")[0]
        for number in ("0", "99", "٣", "9" * 5000):
            assert (await hear(watch.stream(f"{epoch}-{number}"))).change.fresh, number
        await watch.close()

    run(story)


def test_a_viewer_too_slow_for_what_is_kept_begins_again() -> None:
    async def story(loop: VirtualLoop) -> None:
        shelf, watch = desk(loop)
        shelf.put(device("a"))
        slow = watch.stream()
        seen = await hear(slow)
        for pending in range(KEPT + 5):
            shelf.put(device("a", pending=pending))
            await asyncio.sleep(1.1)
        told = await hear(slow)
        assert told.change.fresh
        assert int(told.id.split("-")[1]) > int(seen.id.split("-")[1]) + KEPT
        await watch.close()

    run(story)


def test_a_picture_that_cannot_be_read_is_not_told_and_the_next_one_is() -> None:
    async def story(loop: VirtualLoop) -> None:
        shelf, watch = desk(loop)
        stream = watch.stream()
        await hear(stream)
        shelf.broken = True
        with contextlib.suppress(TimeoutError):
            pytest.fail(f"told {await hear(stream, within_s=20)}")
        stream = watch.stream()
        shelf.broken = False
        assert (await hear(stream)).change.fresh
        await watch.close()

    run(story)


def test_one_device_in_full_is_the_one_of_the_picture() -> None:
    async def story(loop: VirtualLoop) -> None:
        shelf, watch = desk(loop)
        shelf.put(device("a"), device("b", pending=3))
        page = await watch.device("b")
        assert page is not None
        assert page.device == structs.replace(device("b"), pending=3)
        assert await watch.device("c") is None

    run(story)
