"""Devices added and removed, heartbeats heard.

Heartbeats are kept in memory and reach the database in one transaction every `flush_s`: a thousand
devices must not cost a thousand disk syncs. What a crash of the gateway loses, the next heartbeat
says again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from msgspec import structs
from sqlalchemy import Connection

from cloud_gateway.auth import Door, new_token, token_hash
from cloud_gateway.claims import count_claimed, time_claimed
from cloud_gateway.database import Database
from cloud_gateway.errors import BadDeviceName, DeviceExists, StorageUnavailable, UnknownDevice
from cloud_gateway.fleet import store
from cloud_gateway.fleet.store import Enrolled, Heard
from sync.clock import Clock
from sync.wire import v1
from sync.wire.topics import is_device_name

_log = logging.getLogger(__name__)
AccessChanged = Callable[[Mapping[str, str]], Awaitable[None]]
"""Told the names and broker passwords of all devices that may connect, after every change."""


class Devices:
    """Who belongs to the fleet. The door and the broker hear of a change before the caller does."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        door: Door,
        *,
        broker_password: Callable[[str], str],
        access_changed: AccessChanged,
    ) -> None:
        self._database = database
        self._clock = clock
        self._door = door
        self._broker_password = broker_password
        self._access_changed = access_changed
        self._known: dict[str, Enrolled] = {}
        self._changing = asyncio.Lock()

    async def load(self) -> None:
        """Read who was added, and open the door to them."""
        for one in await self._database.read(store.enrolled):
            self._known[one.name] = one
            if one.removed_at is None:
                self._door.admit(one.name, one.token_sha256)
            else:
                self._door.revoke(one.name, one.token_sha256)
        await self._access_changed(self.passwords())

    def passwords(self) -> dict[str, str]:
        return {one.name: one.broker_password for one in self.present()}

    def present(self) -> list[Enrolled]:
        """Devices that may speak, by name."""
        return sorted(
            (one for one in self._known.values() if one.removed_at is None),
            key=lambda one: one.name,
        )

    async def add(self, name: str) -> str:
        """Add a device and return its token, which nobody can read again. Raises `DeviceExists`."""
        if not is_device_name(name):
            raise BadDeviceName(
                f"{name[:80]!r} cannot name a device; use up to 63 letters, digits, dots, dashes "
                "and underscores, beginning with a letter or digit"
            )
        async with self._changing:
            return await self._add(name)

    async def remove(self, name: str) -> None:
        """Shut a device out at once; what it sent stays. Raises `UnknownDevice`."""
        async with self._changing:
            await self._remove(name)

    async def _add(self, name: str) -> str:
        known = self._known.get(name)
        if known is not None and known.removed_at is None:
            raise DeviceExists(
                f"device {name!r} is there already; choose another name, or remove it first "
                "to give it a new token"
            )
        token = new_token()
        new = Enrolled(
            name=name,
            token_sha256=token_hash(token),
            broker_password=self._broker_password(token),
            added_at=self._clock.wall(),
            removed_at=None,
        )
        await self._database.write(lambda connection: store.add(connection, new))
        self._known[name] = new
        self._door.admit(name, new.token_sha256)
        await self._access_changed(self.passwords())
        return token

    async def _remove(self, name: str) -> None:
        known = self._known.get(name)
        if known is None or known.removed_at is not None:
            raise UnknownDevice(
                f"there is no device {name[:80]!r}; "
                "`longstop-gateway device list` shows those there are"
            )
        at = self._clock.wall()
        await self._database.write(lambda connection: store.remove(connection, name, at))
        self._known[name] = structs.replace(known, removed_at=at)
        self._door.revoke(name, known.token_sha256)
        await self._access_changed(self.passwords())


class Beats:
    """The last heartbeat of each device."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._unsaved: dict[str, Heard] = {}
        self._saved: dict[str, v1.Beat] = {}

    def hear(self, beat: v1.Beat) -> None:
        """Note a heartbeat; `flush` writes it down."""
        heard_at = self._clock.wall()
        self._unsaved[beat.device] = Heard(_storable(beat, heard_at), heard_at)

    async def flush(self) -> None:
        """Write down what was heard since. Raises `StorageUnavailable`, and keeps it then."""
        heard, self._unsaved = self._unsaved, {}
        if not heard:
            return

        def save(connection: Connection) -> None:
            for name, one in heard.items():
                store.save_beat(connection, one, said_before=self._saved.get(name))

        try:
            await self._database.write(save)
        except StorageUnavailable:
            self._unsaved = heard | self._unsaved  # what came meanwhile is newer
            raise
        self._saved.update((name, one.beat) for name, one in heard.items())


async def flush_forever(flushes: Sequence[Callable[[], Awaitable[None]]], every_s: float) -> None:
    """Call each of `flushes` every `every_s` seconds until cancelled."""
    while True:
        await asyncio.sleep(every_s)
        for flush in flushes:
            try:
                await flush()
            except StorageUnavailable as error:
                _log.warning("fleet.unsaved reason=%s", error)
            except Exception:  # noqa: BLE001 - the next flush must come whatever befell this one
                _log.exception("fleet.flush_failed")


def _storable(beat: v1.Beat, heard_at: float) -> v1.Beat:
    """One device's nonsense must not keep the others' heartbeats out of the database."""
    return structs.replace(
        beat,
        at=time_claimed(beat.at, heard_at),
        boot=count_claimed(beat.boot),
        issued=count_claimed(beat.issued),
        pending=count_claimed(beat.pending),
        escalations_waiting=count_claimed(beat.escalations_waiting),
        refusals=tuple(
            structs.replace(one, at=time_claimed(one.at, heard_at)) for one in beat.refusals
        ),
    )
