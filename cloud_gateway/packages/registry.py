"""Releases published, versions desired. Answers from memory; the database comes first.

1. A release is taken when its signature is right under `<data>/trust/publisher.pub` and both of its
   archives are on disk. The key that signs never comes near this machine.
2. A version never changes its content: the same document again is fine, another is refused.
3. A device's own desired version wins over the one for every device.
4. The cloud answers with the newest version anybody desires; without any, the newest published.
"""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from msgspec import Struct
from sqlalchemy import Connection

from cloud_gateway.database import Database
from cloud_gateway.errors import (
    BlobMissing,
    Conflict,
    NoPublisherKey,
    UnknownRelease,
    UnknownTask,
    VersionExists,
)
from cloud_gateway.packages import store
from cloud_gateway.packages.blobs import Blobs
from cloud_gateway.packages.store import Published, Wish
from cloud_gateway.tables import EVERY_DEVICE
from models.release import Release, open_signed
from sync.clock import Clock
from sync.trust import keys
from sync.wire import v1


class Change(Struct, frozen=True):
    """What somebody should know about: devices whose desired version changed (None: all)."""

    devices: tuple[str, ...] | None


class Registry:
    """Which versions there are and who should run them."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        clock: Clock,
        *,
        publisher_key: Path,
        changed: Callable[[Change], Awaitable[None]],
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._clock = clock
        self._publisher_key = publisher_key
        self._changed = changed
        self._published: dict[tuple[str, str], Published] = {}
        self._wishes: dict[tuple[str, str], Wish] = {}

    async def load(self) -> None:
        for one in await self._database.read(store.published):
            self._published[one.task, one.version] = one
        for wish in await self._database.read(store.wishes):
            self._wishes[wish.task, wish.device] = wish

    def releases(self) -> list[Published]:
        """Every release, oldest first."""
        return sorted(self._published.values(), key=lambda one: one.number)

    def tasks(self) -> set[str]:
        return {task for task, _ in self._published}

    def release(self, task: str, version: str) -> Published:
        """Raises `UnknownTask`, `UnknownRelease`."""
        found = self._published.get((task, version))
        if found is not None:
            return found
        if task not in self.tasks():
            raise UnknownTask(
                f"no package was published for task {task[:80]!r}; "
                "`longstop-gateway package list` shows those there are"
            )
        raise UnknownRelease(
            f"task {task!r} has no version {version[:80]!r}; "
            "`longstop-gateway package list` shows those there are"
        )

    def desired(self, device: str) -> tuple[v1.Desired, ...]:
        """What a device should run, by task."""
        wanted = {
            task: wish.version
            for (task, whom), wish in self._wishes.items()
            if whom == EVERY_DEVICE
        }
        wanted |= {
            task: wish.version for (task, whom), wish in self._wishes.items() if whom == device
        }
        return tuple(v1.Desired(task, version) for task, version in sorted(wanted.items()))

    def served(self) -> dict[str, Published]:
        """By task, the release whose cloud model answers."""
        wanted = {(wish.task, wish.version) for wish in self._wishes.values()}
        serving: dict[str, Published] = {}
        for one in self.releases():
            before = serving.get(one.task)
            if (
                before is None
                or (one.task, one.version) in wanted
                or (before.task, before.version) not in wanted
            ):
                serving[one.task] = one
        return serving

    async def publish(self, document: bytes) -> tuple[Published, bool]:
        """Take a signed release; the flag says whether it is new.

        Raises `NoPublisherKey`, `BlobMissing`, `VersionExists`, and what `open_signed` raises.
        """
        release = open_signed(document, self._key())
        await self._check_archives(release)
        at = self._clock.wall()
        known = self._published.get((release.task, release.version))
        if known is not None:
            if known.signed != document:
                raise VersionExists(
                    f"{release.task} {release.version} is published with other content; "
                    "a version never changes, build the package under a new one"
                )
            return known, False
        new = await self._database.write(lambda connection: _add(connection, release, document, at))
        self._published[new.task, new.version] = new
        await self._changed(Change(()))
        return new, True

    async def desire(self, task: str, version: str, devices: Sequence[str] | None) -> None:
        """Want a version on some devices, None: on all. Raises `UnknownTask`, `UnknownRelease`."""
        self.release(task, version)
        at = self._clock.wall()
        whom = [EVERY_DEVICE] if devices is None else list(devices)
        wishes = [Wish(device, task, version, at) for device in whom]
        await self._database.write(lambda connection: store.wish(connection, wishes))
        if devices is None:
            self._wishes = {key: one for key, one in self._wishes.items() if one.task != task}
        self._wishes.update({(task, one.device): one for one in wishes})
        await self._changed(Change(None if devices is None else tuple(devices)))

    async def note_archive(self, sha256: str, size: int) -> bool:
        """Note an archive that `Blobs` keeps; whether it is new."""
        at = self._clock.wall()
        return await self._database.write(
            lambda connection: store.note_blob(connection, sha256, size, at)
        )

    def _key(self) -> keys.PublicKey:
        try:
            text = self._publisher_key.read_text(encoding="ascii")
        except FileNotFoundError as error:
            raise NoPublisherKey(
                f"{self._publisher_key} is not there, so no signature can be checked; "
                "make a key with `longstop-gateway key init --data DIR`"
            ) from error
        return keys.load_public(text)

    async def _check_archives(self, release: Release) -> None:
        for role, ref in (("edge", release.edge), ("cloud", release.cloud)):
            size = await self._database.read(
                lambda connection, sha256=ref.sha256: store.blob_size(connection, sha256)  # type: ignore[misc]
            )
            if size != ref.size:
                raise BlobMissing(
                    f"the {role} archive {ref.sha256[:12]}… of {ref.size} bytes is not here; "
                    "upload both archives before the release (`package publish` does)"
                )


def _add(connection: Connection, release: Release, document: bytes, at: float) -> Published:
    new = Published(
        task=release.task,
        version=release.version,
        number=store.next_number(connection),
        name=release.name,
        edge_sha256=release.edge.sha256,
        cloud_sha256=release.cloud.sha256,
        signed=document,
        published_at=at,
    )
    if not store.publish(connection, new):
        raise Conflict(f"{release.task} {release.version} was published this moment; ask again")
    return new
