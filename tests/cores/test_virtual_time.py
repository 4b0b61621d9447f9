"""Virtual time runs ordinary asyncio code, and refuses what would let real time in."""

import asyncio
import time

import pytest

from sim.loop import Deadlock, ThreadInVirtualTime, VirtualClock, VirtualLoop, run


def test_a_day_of_waiting_costs_no_time() -> None:
    async def story(loop: VirtualLoop) -> float:
        await asyncio.sleep(86_400)
        return loop.time()

    began = time.monotonic()
    assert run(story) == pytest.approx(86_400)
    assert time.monotonic() - began < 5


def test_timers_fire_in_their_order() -> None:
    async def story(loop: VirtualLoop) -> list[tuple[str, float]]:
        seen: list[tuple[str, float]] = []

        async def note(name: str, after: float) -> None:
            await asyncio.sleep(after)
            seen.append((name, loop.time()))

        await asyncio.gather(note("third", 3), note("first", 1), note("second", 2))
        return seen

    assert [name for name, _ in run(story)] == ["first", "second", "third"]


def test_a_timeout_is_kept_in_virtual_time() -> None:
    async def story(loop: VirtualLoop) -> float:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.3)
        return loop.time()

    assert run(story) == pytest.approx(0.3)


def test_a_world_in_which_nothing_can_happen_says_so() -> None:
    async def story(loop: VirtualLoop) -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="nothing can happen"):
        run(story)


def test_a_real_thread_is_refused() -> None:
    async def story(loop: VirtualLoop) -> None:
        await asyncio.to_thread(time.monotonic)

    with pytest.raises(ThreadInVirtualTime, match="InlineRunner"):
        run(story)


def test_a_wrong_wall_clock_does_not_disturb_the_monotonic_one() -> None:
    async def story(loop: VirtualLoop) -> tuple[float, float]:
        clock = VirtualClock(loop, offset_s=-3600)
        await asyncio.sleep(10)
        return clock.monotonic(), clock.wall()

    monotonic, wall = run(story)
    assert monotonic == pytest.approx(10)
    assert wall == pytest.approx(VirtualClock.EPOCH + 10 - 3600)
