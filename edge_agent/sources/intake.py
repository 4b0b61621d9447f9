"""Performs what admission decides: has inputs answered, and those skipped written down."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Literal

from msgspec import Struct

from edge_agent.sources import admission, likeness
from edge_agent.sources.admission import Admission, Policy
from edge_agent.sources.likeness import Signature
from sync.clock import Clock

log = logging.getLogger(__name__)

DRAIN_S = 3.0
"""For what has begun when a source ends: less than an agent that stops gives its workers."""

Outcome = Literal["answered", "refused", "unreadable", "overloaded"]


class Input(Struct, frozen=True):
    """One input a source has found."""

    id: str
    answer: Callable[[], Awaitable[Outcome]]
    signature: Signature | None = None
    on_skipped: Callable[[str], Coroutine[object, object, None]] | None = None
    """Told the reason when it is left out without having been asked about."""


class Intake:
    """Made for one run of a source; `close` it whatever happened."""

    def __init__(
        self, policy: Policy, *, clock: Clock, report: Callable[[admission.Report], None]
    ) -> None:
        self._state = Admission(policy)
        self._clock = clock
        self._report = report
        self._inputs: dict[int, Input] = {}
        self._tasks: dict[asyncio.Task[None], int | None] = {}
        self._wake: asyncio.TimerHandle | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._last: Signature | None = None
        self._asked: set[int] = set()
        self.answered = 0
        self.skipped: Counter[str] = Counter()
        self.last_input: float | None = None

    @property
    def offered(self) -> int:
        return self._state.offered

    @property
    def compares(self) -> bool:
        """Whether inputs should bring their signature."""
        return self._state.policy.same_below > 0

    async def room(self) -> None:
        """Return once a source that can wait may offer one more."""
        await self._room.wait()

    async def idle(self) -> None:
        """Return once nothing waits and nothing is being answered."""
        await self._quiet.wait()

    def offer(self, one: Input) -> None:
        """An input came."""
        self._inputs[self._state.offered] = one
        self.last_input = self._clock.wall()
        apart = None
        if one.signature is not None and self._last is not None:
            apart = likeness.difference(one.signature, self._last)
        self._step(admission.Offered(one.id, apart))

    def left_out(self, name: str, reason: str) -> None:
        """Something came that is no input, or a part of one."""
        self.last_input = self._clock.wall()
        self._step(admission.LeftOut(name, reason))

    async def close(self) -> None:
        """Account for what waits, and see what has begun to its end."""
        self._step(admission.Stopped())
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=DRAIN_S)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._wake is not None:
            self._wake.cancel()

    def _step(self, event: admission.Event) -> None:
        done = admission.step(self._state, event, self._clock.monotonic())
        self._state = done.state
        wake_at: float | None = None
        for effect in done.effects:
            match effect:
                case admission.Admit(number):
                    self._last = self._inputs[number].signature or self._last
                case admission.Begin(number):
                    self._asked.add(number)
                    self._start(self._answer(number), number)
                case admission.Leave(number, reason):
                    self._leave(number, reason)
                case admission.Report():
                    self._report(effect)
                case admission.WakeAt(at):
                    wake_at = at
        self._wake_at(wake_at)
        _set(self._room, admission.room(self._state) > 0)
        _set(self._quiet, not (self._state.waiting or self._state.begun))

    async def _answer(self, number: int) -> None:
        try:
            outcome = await self._inputs[number].answer()
        except asyncio.CancelledError:
            self._step(admission.CutOff(number))
            raise
        except Exception:
            self._step(admission.Refused(number, "refused"))
            raise
        match outcome:
            case "answered":
                self.answered += 1
                del self._inputs[number]
                self._step(admission.Answered(number))
            case "overloaded":
                self._step(admission.Overloaded(number))
            case reason:
                self._step(admission.Refused(number, reason))

    def _leave(self, number: int, reason: str) -> None:
        self.skipped[reason] += 1
        one = self._inputs.pop(number, None)
        if one is not None and one.on_skipped is not None and number not in self._asked:
            self._start(one.on_skipped(reason), None)
        self._asked.discard(number)

    def _start(self, work: Coroutine[object, object, None], number: int | None) -> None:
        task = asyncio.create_task(work)
        self._tasks[task] = number
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("source.input_failed", exc_info=error)

    def _wake_at(self, at: float | None) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if at is not None:
            # The loop's clock may be another than ours: only the difference means something.
            pause = max(0.0, at - self._clock.monotonic())
            self._wake = asyncio.get_running_loop().call_later(
                pause, lambda: self._step(admission.Woke())
            )


def _set(event: asyncio.Event, on: bool) -> None:  # noqa: FBT001 - one of two
    if on:
        event.set()
    else:
        event.clear()
