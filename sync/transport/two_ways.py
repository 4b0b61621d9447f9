"""One link made of two: asks over the way that works, and keeps the promises of a single one.

`failover` decides which way is used; this performs it. An exchange that fails on one way is
repeated on the other within its own time: messages are idempotent, so nothing is done twice and
nothing is lost. Probes carry a message that changes nothing.
"""

import asyncio
import logging
import random
from collections.abc import Callable

from msgspec.structs import replace

from sync.errors import LinkDown, LinkTimeout, MessageTooLarge, SyncError, WireError
from sync.transport import failover
from sync.transport.base import Transport
from sync.transport.failover import Failover, Policy, Way, opposite
from sync.wire import v1

log = logging.getLogger(__name__)

PATIENCE_S = 1.0
"""Silence after which a question is asked over the other way as well."""
PROBE_S = 3.0


class TwoWays:
    """A transport over two transports.

    Args:
        probe: Makes a message that may be answered any number of times and changes nothing.
    """

    def __init__(
        self,
        preferred: Transport,
        other: Transport,
        *,
        probe: Callable[[], v1.Up],
        chance: random.Random,
        policy: Policy | None = None,
    ) -> None:
        self._ways = {Way.PREFERRED: preferred, Way.OTHER: other}
        self._probe = probe
        self._chance = chance
        self._state = Failover(policy=policy or Policy())
        self._connected = False
        self._wake: asyncio.TimerHandle | None = None
        self._probing: asyncio.Task[None] | None = None
        self._open = False
        self.asked_twice = 0
        """Messages sent over the second way as well, ever."""

    @property
    def name(self) -> str:
        """The name of the way in use."""
        return self._ways[self._state.using].name

    @property
    def connected(self) -> bool:
        return self._connected

    async def open(self, on_notice: Callable[[v1.Notice], None]) -> None:
        self._open = True
        for transport in self._ways.values():
            await transport.open(on_notice)
        self._tell(failover.Opened())

    async def exchange(self, message: v1.Up, *, timeout_s: float) -> v1.Down:
        if not self._open:
            raise LinkDown("this link is not open")
        try:
            reply = await _Exchange(self, message, timeout_s).run()
        except LinkDown:
            self._connected = False
            raise
        self._connected = True
        return reply

    async def close(self) -> None:
        self._open = False
        self._connected = False
        if self._wake is not None:
            self._wake.cancel()
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        await asyncio.gather(*(transport.close() for transport in self._ways.values()))

    # -- for an exchange under way

    @property
    def using(self) -> Way:
        return self._state.using

    def ask(self, way: Way, message: v1.Up, timeout_s: float) -> "asyncio.Task[v1.Down]":
        """Begin to ask over one way. A heartbeat that names our other way says which it took."""
        transport = self._ways[way]
        if isinstance(message, v1.Beat) and message.link == self._ways[opposite(way)].name:
            message = replace(message, link=transport.name)
        return asyncio.create_task(transport.exchange(message, timeout_s=timeout_s))

    def may_ask_twice(self, first: Way) -> bool:
        return failover.may_ask_twice(self._state, first, asyncio.get_running_loop().time())

    def answered(self, way: Way) -> None:
        self._tell(failover.Answered(way))

    def answered_all_the_same(self, way: Way) -> None:
        self._tell(failover.AnsweredAllTheSame(way))

    def not_connected(self, way: Way) -> None:
        self._tell(failover.NotConnected(way, self._chance.random()))

    def not_answered(self, way: Way) -> None:
        self._tell(failover.NotAnswered(way, self._chance.random()))

    # -- what the core wants

    def _tell(self, event: failover.Event) -> None:
        if not self._open:
            return
        loop = asyncio.get_running_loop()
        step = failover.step(self._state, event, loop.time())
        self._state = step.state
        for effect in step.effects:
            match effect:
                case failover.Use(way):
                    log.warning("link.way using=%s because=%s", self._ways[way].name, _why(event))
                case failover.Probe():
                    self._probing = asyncio.create_task(self._probe_preferred())
                case failover.WakeAt(at):
                    if self._wake is not None:
                        self._wake.cancel()
                    self._wake = loop.call_at(at, self._tell, failover.Woke())

    async def _probe_preferred(self) -> None:
        try:
            await self._ways[Way.PREFERRED].exchange(self._probe(), timeout_s=PROBE_S)
        except SyncError as error:
            log.debug("link.probe_failed why=%s", error)
            self._tell(failover.ProbeFailed(self._chance.random()))
        else:
            self._tell(failover.ProbeAnswered())


class _Exchange:
    """One question, asked over one way or both."""

    def __init__(self, link: TwoWays, message: v1.Up, timeout_s: float) -> None:
        self._link = link
        self._message = message
        self._loop = asyncio.get_running_loop()
        self._timeout_s = timeout_s
        self._until = self._loop.time() + timeout_s
        self._first = link.using
        self._asking: dict[asyncio.Task[v1.Down], Way] = {}
        self._asked: set[Way] = set()
        self._silent = False
        """Whether the first way's silence made us ask over the second."""

    async def run(self) -> v1.Down:
        """The first reply over either way."""
        self._ask(self._first)
        patience_s: float | None = min(PATIENCE_S, self._timeout_s / 2)
        trouble: SyncError | None = None
        try:
            while self._asking:
                done, _ = await asyncio.wait(
                    self._asking, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    self._met_silence()
                patience_s = None
                for task in done:
                    way = self._asking.pop(task)
                    error = _error_of(task)
                    if error is None:
                        self._replied(way)
                        return task.result()
                    trouble = self._failed(way, error, trouble)
        finally:
            for task in self._asking:
                task.cancel()
                task.add_done_callback(_seen)
        raise trouble or LinkDown("neither way was asked")

    def _ask(self, way: Way) -> None:
        left_s = self._until - self._loop.time()
        if way not in self._asked and left_s > 0:
            self._link.asked_twice += len(self._asked)
            self._asked.add(way)
            self._asking[self._link.ask(way, self._message, left_s)] = way

    def _met_silence(self) -> None:
        if self._link.may_ask_twice(self._first):
            self._silent = True
            self._ask(opposite(self._first))

    def _replied(self, way: Way) -> None:
        if not self._silent:
            self._link.answered(way)
        elif way is self._first:
            self._link.answered_all_the_same(way)
        else:
            self._link.answered(way)
            if self._first in self._asking.values():
                self._link.not_answered(self._first)

    def _failed(self, way: Way, error: SyncError, before: SyncError | None) -> SyncError:
        """Tell of it and ask over the other way; gives back what to raise if that fails, too."""
        match error:
            case MessageTooLarge():
                raise error  # no way takes it
            case LinkDown():
                self._link.not_connected(way)
            case _:
                self._link.not_answered(way)
        self._ask(opposite(way))
        # What may have been acted on is the stronger news; what is no message says more than none.
        return before if isinstance(before, LinkTimeout | WireError) else error


def _error_of(task: "asyncio.Task[v1.Down]") -> SyncError | None:
    if task.cancelled():
        return LinkDown("the link was closed")
    error = task.exception()
    if error is None or isinstance(error, SyncError):
        return error
    raise error


def _seen(task: "asyncio.Task[v1.Down]") -> None:
    """Nobody wants to know how it ended."""
    if not task.cancelled():
        task.exception()


def _why(event: failover.Event) -> str:
    match event:
        case failover.NotConnected():
            return "not_connected"
        case failover.NotAnswered():
            return "not_answered"
        case _:
            return "it_works_again"
