"""A guard on virtual time: it kills what hangs, and says once what takes too much."""

import asyncio
from collections.abc import Awaitable, Callable

from edge_agent.cloud.handover import BEAT_S, Alive
from edge_agent.upkeep.guard import Guard
from edge_agent.upkeep.watchdog import WatchdogPolicy
from sim.loop import VirtualClock, VirtualLoop, run

MB = 1 << 20


class Worker:
    """A process that can be killed, with its guard."""

    pid = -1
    """None there is."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.killed: list[float] = []
        self.over: list[float] = []
        self._loop = loop
        self.guard = Guard(
            self,
            policy=WatchdogPolicy(),
            clock=VirtualClock(loop),
            memory_bytes=100 * MB,
            on_over=lambda: self.over.append(loop.time()),
        )

    def kill(self) -> None:
        self.killed.append(self._loop.time())

    async def beats(self, count: int, *, running_s: float = 0.0, rss_mb: int = 50) -> None:
        for _ in range(count):
            await asyncio.sleep(BEAT_S)
            self.guard.heard(Alive(running_s, 0.001, rss_mb * MB))


def play(story: Callable[[Worker], Awaitable[None]]) -> None:
    async def on_loop(loop: VirtualLoop) -> None:
        worker = Worker(loop)
        await story(worker)
        worker.guard.close()

    run(on_loop)


def test_an_hour_of_beats_kills_nobody() -> None:
    async def story(it: Worker) -> None:
        await it.beats(7200)
        assert (it.killed, it.over, it.guard.killer) == ([], [], None)
        assert it.guard.rss_bytes == 50 * MB

    play(story)


def test_two_seconds_of_silence_end_it_and_the_reason_stays() -> None:
    async def story(it: Worker) -> None:
        await it.beats(4)
        await asyncio.sleep(60)
        assert it.killed == [6.0]
        assert (it.guard.killer, it.guard.why[:26]) == ("watchdog", "it has been silent for 2.0")

    play(story)


def test_a_run_without_end_is_killed_though_the_loop_turns() -> None:
    async def story(it: Worker) -> None:
        await it.beats(1, running_s=2.5)
        await it.beats(1, running_s=3.0)
        assert it.killed == [BEAT_S]

    play(story)


def test_too_much_memory_is_said_once_and_far_too_much_is_the_end() -> None:
    async def story(it: Worker) -> None:
        await it.beats(3, rss_mb=120)
        assert (it.over, it.killed) == ([BEAT_S], [])
        await it.beats(1, rss_mb=151)
        assert it.killed == [4 * BEAT_S]
        assert it.guard.killer == "memory"
        assert it.guard.why == "it takes 151 MB of memory, 100 are allowed"

    play(story)


def test_a_guard_that_was_closed_kills_nobody() -> None:
    async def story(it: Worker) -> None:
        it.guard.close()
        await asyncio.sleep(60)
        assert it.killed == []

    play(story)
