"""Performs what `delivery` decides: looks into the store, asks the gateway, settles what it has.

It looks after everything that happens, so the core never decides on an old look.
"""

import asyncio
import logging
import random
from functools import partial
from typing import assert_never

from sync.clock import Clock
from sync.errors import LinkError, MessageTooLarge, WireError
from sync.outbox import delivery
from sync.outbox.delivery import Delivery, Event, Item, LossList, Policy, Row
from sync.outbox.store import Store
from sync.runner import Runner
from sync.transport.base import Transport
from sync.wire import v1

log = logging.getLogger(__name__)


class Courier:
    """One run of delivery over one transport."""

    def __init__(
        self,
        *,
        store: Store,
        runner: Runner,
        clock: Clock,
        chance: random.Random,
        news: asyncio.Event,
        may_go: asyncio.Event,
        transport: Transport,
        device: str,
        policy: Policy,
        reply_timeout_s: float,
    ) -> None:
        self._store = store
        self._runner = runner
        self._clock = clock
        self._chance = chance
        self._news = news
        self._may_go = may_go
        self._transport = transport
        self._device = device
        self._reply_timeout_s = reply_timeout_s
        self._state = Delivery(store.incarnation, policy)
        self._asking: set[asyncio.Task[Event]] = set()
        self._wake_at: float | None = None

    async def carry(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set."""
        halted = asyncio.ensure_future(stop.wait())
        news = asyncio.ensure_future(self._news.wait())
        try:
            await self._look()
            while not halted.done():
                await asyncio.wait(
                    {halted, news, *self._asking},
                    timeout=self._until_wake(),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in [task for task in self._asking if task.done()]:
                    self._asking.remove(task)
                    await self._take(task.result())
                if news.done():
                    self._news.clear()
                    news = asyncio.ensure_future(self._news.wait())
                await self._look()
        finally:
            waits = [halted, news, *self._asking]
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def _until_wake(self) -> float | None:
        if self._wake_at is None:
            return None
        return max(self._wake_at - self._clock.monotonic(), 0.0)

    async def _look(self) -> None:
        state = self._state
        busy = len(state.out) + len(state.settling) + len(state.parked)
        limit = busy + state.policy.window
        rows = await self._runner.submit(partial(self._store.rows, limit))
        losses = await self._runner.submit(self._store.losses)
        await self._take(delivery.Looked(rows, losses))

    async def _take(self, event: Event) -> None:
        step = delivery.step(self._state, event, self._clock.monotonic())
        self._state = step.state
        # The last word counts: a step that asks for no waking needs none.
        self._wake_at = None
        for effect in step.effects:
            match effect:
                case delivery.Send(item):
                    self._asking.add(asyncio.create_task(self._ask(item)))
                case delivery.Settle(item):
                    await self._settle(item)
                    await self._take(delivery.Settled(item))
                case delivery.WakeAt(at):
                    self._wake_at = at
                case delivery.ReportDeadLetter(row, reason):
                    log.warning("outbox.dead_letter lo=%d hi=%d why=%r", row.lo, row.hi, reason)
                case delivery.ReportParked(row):
                    log.warning("outbox.parked lo=%d hi=%d", row.lo, row.hi)
                case _:
                    assert_never(effect)

    async def _settle(self, item: Item) -> None:
        match item:
            case Row():
                await self._runner.submit(partial(self._store.settle, item))
            case LossList(losses):
                await self._runner.submit(partial(self._store.settle_losses, losses))

    async def _ask(self, item: Item) -> Event:
        await self._may_go.wait()
        message = await self._message(item)
        if message is None:
            return delivery.Vanished(item)
        try:
            reply = await self._transport.exchange(message, timeout_s=self._reply_timeout_s)
        except MessageTooLarge as error:
            log.error("outbox.too_large item=%r why=%s", item, error)
            return delivery.Declined(item, permanent=True, retry_after_s=0.0, chance=self._draw())
        except (LinkError, WireError) as error:
            log.info("outbox.unanswered item=%r why=%s", item, error)
            return delivery.Failed(item, self._draw())
        match reply:
            case v1.BatchAck() | v1.LossAck():
                return delivery.Acknowledged(item, reply)
            case v1.Refused(code, why, permanent, retry_after_s):
                log.warning("outbox.refused item=%r code=%s why=%r", item, code, why)
                return delivery.Declined(item, permanent, retry_after_s, self._draw())
            case _:
                log.warning("outbox.odd_reply item=%r reply=%s", item, type(reply).__name__)
                return delivery.Failed(item, self._draw())

    async def _message(self, item: Item) -> v1.Batch | v1.LossReport | None:
        match item:
            case Row():
                stored = await self._runner.submit(partial(self._store.batch, item))
                if stored is None:
                    return None
                return v1.Batch(
                    device=self._device,
                    incarnation=self._state.incarnation,
                    boot=stored.boot,
                    lo=stored.lo,
                    hi=stored.hi,
                    at=stored.at,
                    body=stored.body,
                )
            case LossList(losses):
                return v1.LossReport(
                    self._device, self._state.incarnation, losses, self._clock.wall()
                )

    def _draw(self) -> float:
        return self._chance.random()
