"""One picture of the fleet for everybody who looks, however many they are.

1. The database is read at most once a second, and when that takes long, less often; when nobody
   looks it is not read at all.
2. Pictures are numbered. A viewer who names the last number it saw gets what changed since; one
   who has been away for longer than `KEPT` pictures, or comes from before a restart, begins again.
3. A change is encoded once, whoever it goes to.
4. A picture that cannot be read is not told: viewers see the age of what they have grow.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator
from typing import Protocol

import msgspec
from msgspec import Struct

from cloud_gateway.errors import GatewayError
from cloud_gateway.facts import DeviceFacts, DevicePage, Fleet, Series, Summary
from sync.clock import Clock

PAUSE_S = 1.0
SHARE = 20
"""A picture that took t seconds to read stands for at least SHARE times t."""
LONGEST_PAUSE_S = 4.0
"""Whatever it took: a page that hears nothing for five seconds says that the gateway is gone."""
KEPT = 30
_log = logging.getLogger(__name__)


class Reading(Protocol):
    """Where pictures come from; `view.View` is the real one."""

    async def fleet(self, id: str) -> Fleet: ...

    async def series(self, minutes: int, *, task: str, device: str) -> Series: ...

    async def device(self, facts: DeviceFacts) -> DevicePage: ...


class Change(Struct, frozen=True):
    """What the stream tells: the new summary, and of the devices only those that differ.

    `fresh` says that nothing before it counts: read the list again.
    """

    id: str
    at: float
    fresh: bool
    summary: Summary
    devices: tuple[DeviceFacts, ...] = ()
    gone: tuple[str, ...] = ()


class Watch:
    """Hands out pictures; every coroutine belongs to one event loop."""

    def __init__(self, reading: Reading, *, clock: Clock) -> None:
        self._reading = reading
        self._clock = clock
        self._epoch = f"{int(clock.wall() * 1000):x}"
        self._number = 0
        self._fleet: Fleet | None = None
        self._read_at = 0.0
        self._pause = PAUSE_S
        self._told: deque[bytes] = deque(maxlen=KEPT)
        self._lock = asyncio.Lock()
        self._news = asyncio.Event()
        self._viewers = 0
        self._looking: asyncio.Task[None] | None = None
        self._closed = False
        self._series: dict[tuple[int, str, str], Series] = {}

    async def fleet(self) -> Fleet:
        """The newest picture, read now unless it is fresh enough. Raises `StorageUnavailable`."""
        async with self._lock:
            # A timer may fire a little early: nine tenths of a pause are a pause.
            if self._fleet is None or self._since_read() >= 0.9 * self._pause:
                return await self._read()
            return self._fleet

    async def device(self, name: str) -> DevicePage | None:
        """One device in full; None when nobody of that name is enrolled."""
        fleet = await self.fleet()
        for facts in fleet.devices:
            if facts.name == name:
                return await self._reading.device(facts)
        return None

    async def series(self, minutes: int, *, task: str = "", device: str = "") -> Series:
        """What the charts show; one reading serves all who ask for the same within a pause."""
        asked = (minutes, task, device)
        async with self._lock:
            kept = self._series.get(asked)
            if kept is not None and 0 <= self._clock.wall() - kept.at < self._pause:
                return kept
            self._series = {
                key: series
                for key, series in self._series.items()
                if self._clock.wall() - series.at < self._pause
            }
            series = await self._reading.series(minutes, task=task, device=device)
            self._series[asked] = series
            return series

    async def stream(self, after: str | None = None) -> AsyncIterator[bytes]:
        """Server-sent events, beginning with what `after` has missed. Ends with `close`."""
        self._viewers += 1
        try:
            with contextlib.suppress(GatewayError):  # told by _look, which tries again
                await self.fleet()
            if self._looking is None:
                self._looking = asyncio.get_running_loop().create_task(self._look())
            seen = self._number_of(after)
            while not self._closed:
                if seen == self._number:
                    await self._news.wait()
                else:
                    missed, seen = self._since(seen), self._number
                    for event in missed:
                        yield event
        finally:
            self._viewers -= 1

    async def close(self) -> None:
        """End every stream."""
        self._closed = True
        self._news.set()
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking

    async def _look(self) -> None:
        """New pictures while anybody is looking."""
        while self._viewers:
            await asyncio.sleep(self._pause)
            try:
                await self.fleet()
            except GatewayError as error:
                _log.warning("fleet.unread reason=%s", error)
        self._looking = None

    def _since_read(self) -> float:
        return self._clock.monotonic() - self._read_at

    async def _read(self) -> Fleet:
        began = self._clock.monotonic()
        fleet = await self._reading.fleet(f"{self._epoch}-{self._number + 1}")
        now = self._clock.monotonic()
        self._pause = min(LONGEST_PAUSE_S, max(PAUSE_S, SHARE * (now - began)))
        self._read_at = now
        self._told.append(as_event(difference(self._fleet, fleet)))
        self._fleet = fleet
        self._number += 1
        self._news.set()
        self._news = asyncio.Event()
        return fleet

    def _number_of(self, id: str | None) -> int:
        """The picture a viewer has seen; 0 when it is none of ours or no longer kept."""
        epoch, _, number = (id or "").rpartition("-")
        if epoch != self._epoch or not number.isdecimal() or len(number) > 18:
            return 0
        seen = int(number)
        return seen if self._number - len(self._told) <= seen <= self._number else 0

    def _since(self, seen: int) -> list[bytes]:
        if seen == 0 or self._number - seen > len(self._told):
            return [] if self._fleet is None else [as_event(difference(None, self._fleet))]
        return list(self._told)[seen - self._number :]


def difference(before: Fleet | None, now: Fleet) -> Change:
    """What a viewer of `before` has to be told to see `now`. Pure."""
    if before is None:
        return Change(id=now.id, at=now.at, fresh=True, summary=now.summary)
    known = {device.name: device for device in before.devices}
    changed = tuple(device for device in now.devices if known.pop(device.name, None) != device)
    return Change(
        id=now.id, at=now.at, fresh=False, summary=now.summary, devices=changed, gone=tuple(known)
    )


def as_event(change: Change) -> bytes:
    """The change as a server-sent event; `id` is what a browser sends back to resume."""
    kind = b"snapshot" if change.fresh else b"delta"
    return b"event: %s\nid: %s\ndata: %s\n\n" % (
        kind,
        change.id.encode(),
        msgspec.json.encode(change),
    )
