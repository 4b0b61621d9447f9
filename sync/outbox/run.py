"""The outbox at work: puts gathered into commits, and the courier sent out.

One writer thread owns the database; everything here only hands work to it. Puts that arrive within
`linger_ms` share one commit and one fsync. A second process on the same folder is refused.
"""

import asyncio
import fcntl
import logging
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from sync.clock import Clock
from sync.errors import OutboxBusy, OutboxUnavailable
from sync.outbox import delivery
from sync.outbox.courier import Courier
from sync.outbox.database import Opener, open_database
from sync.outbox.questions import StoredEscalation
from sync.outbox.store import BATCH_RECORDS, Ledger, Limits, Put, Store
from sync.runner import Runner
from sync.transport.base import Transport
from sync.wire import v1

log = logging.getLogger(__name__)
T = TypeVar("T")

AFTER_A_FAULT_S = 5.0


class OutboxSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How the outbox keeps and sends."""

    limits: Limits = Limits()
    policy: delivery.Policy = delivery.Policy()
    linger_ms: int = 200
    """How long a record may wait for others to share its commit; a power cut in it loses them."""
    reply_timeout_s: float = 5.0


_DEFAULTS = OutboxSettings()


class _Waiting(Struct, frozen=True):
    put: Put
    number: asyncio.Future[int]


class Outbox:
    """One device's outbox. Made by `Outbox.open`, used from one event loop."""

    def __init__(
        self,
        store: Store,
        lock: int,
        clock: Clock,
        runner: Runner,
        settings: OutboxSettings,
        chance: random.Random,
    ) -> None:
        self.incarnation = store.incarnation
        self.boot = store.boot
        self.damage = store.damage
        """Why the database of an earlier start was set aside, or None."""
        self._store = store
        self._lock = lock
        self._clock = clock
        self._runner = runner
        self._settings = settings
        self._chance = chance
        self._waiting: list[_Waiting] = []
        self._arrived = asyncio.Event()
        self._hurry = asyncio.Event()
        self._news = asyncio.Event()
        self._aged = clock.wall()
        self._opened = clock.monotonic()
        self._linger_s = settings.linger_ms / 1000
        self._may_go = asyncio.Event()
        self._may_go.set()
        self._closed = False
        self._committer = asyncio.create_task(self._commit_puts(), name="outbox commits")

    @classmethod
    async def open(
        cls,
        folder: Path,
        *,
        clock: Clock,
        runner: Runner,
        settings: OutboxSettings = _DEFAULTS,
        chance: random.Random | None = None,
        opener: Opener = open_database,
    ) -> "Outbox":
        """Open the outbox in `folder`. Raises `OutboxBusy`, `OutboxUnavailable`.

        `runner` must have one thread and belong to this outbox alone.
        """
        if chance is None:
            chance = random.SystemRandom()
        lock = _locked(folder)
        try:
            store = await runner.submit(
                partial(
                    Store.open,
                    folder / "outbox.db",
                    new_incarnation=f"{chance.getrandbits(48):012x}",
                    limits=settings.limits,
                    opener=opener,
                )
            )
        except BaseException:
            os.close(lock)
            raise
        outbox = cls(store, lock, clock, runner, settings, chance)
        outbox._aged = await runner.submit(partial(store.age_at, clock.wall()))
        return outbox

    async def close(self) -> None:
        """Store what was put, then let go of the database. Delivery must have been stopped."""
        self._closed = True
        self._arrived.set()
        self._hurry.set()
        await self._committer
        await self._runner.submit(self._store.close)
        os.close(self._lock)

    # -- putting in

    async def put(
        self,
        record: v1.Record,
        *,
        escalation: v1.Escalation | None = None,
        settles: str | None = None,
        revision_for: str | None = None,
    ) -> int:
        """Number a record and return the number once it is durable. Raises `OutboxFull`.

        In one transaction: the record, the question that stays open with it, the question it
        settles, the revision it is for a client. 0 when `settles` names a question that no longer
        stands: it was settled before, and nothing is issued twice.
        """
        self._refuse_when_closed()
        number: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(Put(record, escalation, settles, revision_for), number))
        self._arrived.set()
        if escalation is not None or settles is not None or len(self._waiting) >= BATCH_RECORDS:
            self._hurry.set()
        return await number

    async def owe(self, client: str, escalation: v1.Escalation) -> None:
        """Keep a question whose record was numbered before. Raises `OutboxFull`."""
        await self._on_store(partial(self._store.owe, client, escalation, self._clock.wall()))
        self._news.set()

    async def lose(self, count: int, reason: str) -> None:
        """Issue `count` numbers for records that are gone already."""
        await self._on_store(partial(self._store.lose, count, reason))
        self._news.set()

    # -- questions and revisions

    async def escalations(self, limit: int) -> tuple[StoredEscalation, ...]:
        """Questions that stand: the least often tried first, then the oldest."""
        return await self._on_store(partial(self._store.escalations, limit))

    async def tried(self, request_ids: Sequence[str]) -> None:
        """Count one attempt for each of these questions."""
        await self._on_store(partial(self._store.tried, request_ids))

    async def abandon(self, request_id: str, reason: str) -> bool:
        """Give up a question; its revision is lost as `escalation_<reason>`. False: none stood."""
        stood = await self._on_store(partial(self._store.abandon, request_id, reason))
        self._news.set()
        return stood

    async def revisions(self, client: str, limit: int) -> tuple[v1.Revised, ...]:
        """What waits for this client, oldest first."""
        return await self._on_store(partial(self._store.revisions, client, limit, self._age()))

    async def take(self, client: str, request_ids: Sequence[str]) -> None:
        """This client has these revisions."""
        await self._on_store(partial(self._store.take, client, request_ids))

    async def ledger(self) -> Ledger:
        """This side's part of the ledger, without what is still waiting for its commit."""
        return await self._on_store(self._store.ledger)

    def linger(self, times: int) -> None:
        """From now on a record may wait so many times its usual length for others."""
        self._linger_s = times * self._settings.linger_ms / 1000

    def hold(self, *, on: bool) -> None:
        """Whether what is here has to wait; what is on its way already goes on."""
        if on:
            self._may_go.clear()
        else:
            self._may_go.set()

    # -- delivery

    async def deliver(self, transport: Transport, stop: asyncio.Event, *, device: str) -> None:
        """Send what is here until `stop` is set; what is out then will be sent again."""
        while not stop.is_set():
            courier = Courier(
                store=self._store,
                runner=self._runner,
                clock=self._clock,
                chance=self._chance,
                news=self._news,
                may_go=self._may_go,
                transport=transport,
                device=device,
                policy=self._settings.policy,
                reply_timeout_s=self._settings.reply_timeout_s,
            )
            try:
                await courier.carry(stop)
            except Exception:  # the outermost loop: log, wait, begin again
                log.exception("outbox.delivery_fault device=%s", device)
                await _first(stop.wait(), timeout_s=AFTER_A_FAULT_S)

    # -- inside

    async def _commit_puts(self) -> None:
        while not (self._closed and not self._waiting):
            await self._arrived.wait()
            await _first(self._hurry.wait(), timeout_s=self._linger_s)
            self._arrived.clear()
            self._hurry.clear()
            group, self._waiting = self._waiting, []
            if not group:
                continue
            puts = [one.put for one in group]
            try:
                numbers = await self._on_store(
                    partial(self._store.commit, puts, self._clock.wall(), age=self._age())
                )
            except Exception as error:  # noqa: BLE001 - handed to everybody who waits for it
                for one in group:
                    if not one.number.done():
                        one.number.set_exception(error)
                continue
            for one, number in zip(group, numbers, strict=True):
                if not one.number.done():
                    one.number.set_result(number)
            self._news.set()

    def _age(self) -> float:
        """What revisions grow old by: a clock that is set does not make them older."""
        return self._aged + (self._clock.monotonic() - self._opened)

    def _on_store(self, call: Callable[[], T]) -> Awaitable[T]:
        return self._runner.submit(call)

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise OutboxUnavailable("the outbox is closed; nothing was stored")


def _locked(folder: Path) -> int:
    """A descriptor that holds the folder's lock until it is closed, kill -9 included."""
    path = folder / "outbox.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OutboxUnavailable(
            f"{path} cannot be opened: {error.strerror}; give the agent a data folder it may write"
            " to, or remove what stands in its way"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise OutboxBusy(
            f"another process holds {path}; one agent runs on a data folder at a time"
        ) from error
    return handle


async def _first(waited: Awaitable[object], *, timeout_s: float) -> None:
    """Wait for this, but not longer."""
    try:
        await asyncio.wait_for(waited, timeout_s)
    except TimeoutError:
        return
