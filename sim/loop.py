"""Virtual time under unmodified asyncio code: when nothing is ready, jump to the next timer.

Rules:
1. Only timers move time. Code between two awaits takes none.
2. A thread would let real time in, so the loop refuses to start one, and says so.
3. When every task waits and no timer is set, nothing can ever happen again: `Deadlock` is raised
   instead of hanging.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")


class Deadlock(RuntimeError):
    """Every task waits and no timer is set."""


class ThreadInVirtualTime(RuntimeError):
    """Something asked for a real thread; hand it an `InlineRunner` instead."""


class _InstantSelector(selectors.DefaultSelector):
    """Never waits: where a real selector would sleep, the clock jumps."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise Deadlock(f"at virtual time {self.loop.time():.3f} s nothing can happen any more")
        if timeout > 0:
            self.loop.jump(timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock starts at 0 and costs nothing to wait on."""

    def __init__(self) -> None:
        self._now = 0.0
        selector = _InstantSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        """Let this much virtual time pass; called by the selector alone."""
        self._now += seconds

    def run_in_executor(
        self, executor: Executor | None, func: Callable[..., T], *args: object
    ) -> asyncio.Future[T]:
        raise ThreadInVirtualTime(f"{func!r} asked for a thread; hand its owner an InlineRunner")


class VirtualClock:
    """Both clocks of a simulated machine. Its wall clock may be wrong by `offset_s`."""

    EPOCH = 1_790_000_000.0
    """Wall time at virtual zero: any moment does, so long as it is always the same."""

    def __init__(self, loop: VirtualLoop, *, offset_s: float = 0.0) -> None:
        self._loop = loop
        self._offset_s = offset_s

    def monotonic(self) -> float:
        return self._loop.time()

    def wall(self) -> float:
        return self.EPOCH + self._loop.time() + self._offset_s


def run(story: Callable[[VirtualLoop], Coroutine[object, object, T]]) -> T:
    """Run a coroutine on a fresh virtual loop and give back its result."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(story(loop))
    finally:
        loop.close()
