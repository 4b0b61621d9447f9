"""A source on its own: how it is kept running, handed over, told of and ended."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from edge_agent.errors import SourceUnfit
from edge_agent.sources.admission import Policy
from edge_agent.sources.base import Source
from edge_agent.sources.intake import Input, Intake, Outcome
from edge_agent.sources.run import SourceRun
from edge_agent.workplace import SkippedFor, SourceState
from sim.loop import VirtualClock, VirtualLoop
from sim.loop import run as on_virtual_time
from sync.clock import Clock, SystemClock
from sync.wire import v1

LIVE = Policy(live=True, counted=True, at_once=1, backlog=2)
Scene = Callable[[Intake], Awaitable[None]]


class Scripted:
    """Plays one scene for each time it is run, the last one for all that follow."""

    def __init__(self, *scenes: Scene) -> None:
        self._scenes = list(scenes)
        self.runs = 0
        self.trouble = ""

    async def run(self, intake: Intake) -> None:
        self.runs += 1
        await self._scenes[min(self.runs, len(self._scenes)) - 1](intake)


class Told:
    """What was recorded, and what was said of the state."""

    def __init__(self) -> None:
        self.records: list[v1.Skipped] = []
        self.states: list[SourceState] = []

    def put(self, record: v1.Skipped) -> None:
        self.records.append(record)


def kept(
    source: Source, told: Told, clock: Clock, *, policy: Policy = LIVE, lock: Path | None = None
) -> SourceRun:
    return SourceRun(
        source,
        task="sides",
        kind="mqtt",
        policy=policy,
        records=told,
        clock=clock,
        tell=told.states.append,
        lock=lock,
        chance=random.Random(1),
    )


def one(name: str, *, takes_s: float = 0.0, outcome: Outcome = "answered") -> Input:
    async def answer() -> Outcome:
        await asyncio.sleep(takes_s)
        return outcome

    return Input(name, answer)


async def forever(_: Intake) -> None:
    await asyncio.Event().wait()


async def broken(_: Intake) -> None:
    raise SourceUnfit("a window of 3 is not what the package takes")


def test_a_source_that_breaks_says_why_and_begins_again() -> None:
    async def unknown(_: Intake) -> None:
        raise ZeroDivisionError("nobody thought of this")

    async def story(loop: VirtualLoop) -> None:
        source, told = Scripted(broken, unknown, forever), Told()
        running = asyncio.create_task(kept(source, told, VirtualClock(loop)).run())
        await asyncio.sleep(60)
        assert source.runs == 3
        errors = [state.error for state in told.states if state.state == "broken"]
        assert errors[0] == "source_unfit: a window of 3 is not what the package takes"
        assert (told.states[-1].state, told.states[-1].error) == ("running", "")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    on_virtual_time(story)


def test_a_source_that_always_breaks_is_tried_less_and_less_often() -> None:
    async def story(loop: VirtualLoop) -> None:
        source, told = Scripted(broken), Told()
        running = asyncio.create_task(kept(source, told, VirtualClock(loop)).run())
        await asyncio.sleep(3600)
        assert 60 < source.runs < 200, "once a minute at most, in the long run"
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    on_virtual_time(story)


def test_every_input_of_every_run_is_counted_and_recorded() -> None:
    async def busy(intake: Intake) -> None:
        for name in "abcde":
            intake.offer(one(name, takes_s=1.0))
        intake.left_out("f", "unreadable")
        await asyncio.sleep(0.5)

    async def odd(intake: Intake) -> None:
        intake.offer(one("g", outcome="refused"))
        await intake.idle()
        raise OSError("gone")

    async def story(loop: VirtualLoop) -> None:
        source, told = Scripted(odd, busy), Told()
        run = kept(source, told, VirtualClock(loop))
        await run.run()
        state = run.state()
        assert (state.state, state.offered, state.answered) == ("finished", 7, 3)
        assert state.skipped == (
            SkippedFor("backlog_full", 2),
            SkippedFor("refused", 1),
            SkippedFor("unreadable", 1),
        )
        assert sorted((r.reason, r.count, r.first_id, r.last_id) for r in told.records) == [
            ("backlog_full", 2, "b", "c"),
            ("refused", 1, "g", "g"),
            ("unreadable", 1, "f", "f"),
        ]
        assert {(r.task, r.source) for r in told.records} == {("sides", "mqtt")}
        assert told.states[-1] == state

    on_virtual_time(story)


@pytest.mark.parametrize(("live", "reasons"), [(True, ["stopped", "stopped"]), (False, [])])
def test_a_source_that_is_ended_accounts_for_what_it_had(live: bool, reasons: list[str]) -> None:
    async def endless(intake: Intake) -> None:
        for name in "ab":
            intake.offer(one(name, takes_s=1e6))
        await asyncio.Event().wait()

    async def story(loop: VirtualLoop) -> None:
        told = Told()
        policy = Policy(live=live, counted=True, at_once=1)
        run = kept(Scripted(endless), told, VirtualClock(loop), policy=policy)
        running = asyncio.create_task(run.run())
        await asyncio.sleep(1)
        began = loop.time()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert loop.time() - began < 5, "less than a worker has to leave"
        assert [record.reason for record in told.records] == reasons

    on_virtual_time(story)


def test_what_is_answered_when_a_source_is_ended_is_seen_to_its_end() -> None:
    async def slow(intake: Intake) -> None:
        intake.offer(one("a", takes_s=2.0))
        await asyncio.Event().wait()

    async def story(loop: VirtualLoop) -> None:
        told = Told()
        run = kept(Scripted(slow), told, VirtualClock(loop))
        running = asyncio.create_task(run.run())
        await asyncio.sleep(0.5)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert (run.state().answered, told.records) == (1, [])

    on_virtual_time(story)


def test_an_input_that_fails_in_an_unforeseen_way_takes_nothing_with_it() -> None:
    async def explode() -> Outcome:
        raise ZeroDivisionError("unforeseen")

    async def both(intake: Intake) -> None:
        intake.offer(Input("a", explode))
        intake.offer(one("b"))
        await intake.idle()

    async def story(loop: VirtualLoop) -> None:
        told = Told()
        run = kept(Scripted(both), told, VirtualClock(loop))
        await run.run()
        assert run.state().answered == 1
        assert [(record.reason, record.first_id) for record in told.records] == [("refused", "a")]

    on_virtual_time(story)


def test_one_of_two_workers_reads_and_the_other_takes_over(tmp_path: Path) -> None:
    async def settle(true: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not true():  # noqa: ASYNC110 - a lock has no event
                await asyncio.sleep(0.005)

    async def story() -> None:
        old, new, told = Scripted(forever), Scripted(forever), Told()
        lock = tmp_path / "sources" / "sides.lock"
        first = asyncio.create_task(kept(old, Told(), SystemClock(), lock=lock).run())
        await settle(lambda: old.runs == 1)
        second = asyncio.create_task(kept(new, told, SystemClock(), lock=lock).run())
        await asyncio.sleep(0.3)
        assert new.runs == 0
        assert told.states == [], "one that waits is the other's to tell of"
        first.cancel()
        await settle(lambda: new.runs == 1)
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)

    asyncio.run(story())


def test_a_disk_that_takes_no_lock_is_no_reason_to_read_nothing(tmp_path: Path) -> None:
    (tmp_path / "sources").write_bytes(b"a file where a folder should be")

    async def story(loop: VirtualLoop) -> None:
        source = Scripted(forever)
        lock = tmp_path / "sources" / "sides.lock"
        running = asyncio.create_task(kept(source, Told(), VirtualClock(loop), lock=lock).run())
        await asyncio.sleep(1)
        assert source.runs == 1
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    on_virtual_time(story)


def test_why_nothing_comes_is_part_of_the_state() -> None:
    async def story(loop: VirtualLoop) -> None:
        source, told = Scripted(forever), Told()
        running = asyncio.create_task(kept(source, told, VirtualClock(loop)).run())
        await asyncio.sleep(2)
        source.trouble = "link_down: broker hall:1883"
        await asyncio.sleep(2)
        source.trouble = ""
        await asyncio.sleep(2)
        assert [state.error for state in told.states] == ["", "link_down: broker hall:1883", ""]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    on_virtual_time(story)
