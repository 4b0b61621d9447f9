"""Packages and their state on the device's disk.

    packages/<task>/state.json        which version serves; see `activation`
    packages/<task>/state.old.json    the one before, for a disk that damages the first
    packages/<task>/<digest>/         one unpacked package, named by its archive's SHA-256

1. A save is durable before it returns: written beside, synced, renamed, the folder synced.
2. A state that cannot be read is set aside under another name, never deleted, and the one before is
   used. With neither, the task begins anew: the gateway says what it should run.
3. A folder of packages not named by the state is removed only when the core says so.
"""

import logging
import os
import re
import shutil
import zlib
from collections.abc import Collection
from pathlib import Path

import msgspec
from msgspec import Struct

from edge_agent.update.activation import Activation

log = logging.getLogger(__name__)

FORMAT = 1
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


class _File(Struct, frozen=True):
    format: int
    crc: int
    activation: msgspec.Raw


class PackageStore:
    """The folder `packages` of one device. Every method blocks for a disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def tasks(self) -> tuple[str, ...]:
        """Tasks that have a state, in order of their names."""
        found = {path.parent.name for path in self._folder.glob("*/state*.json")}
        return tuple(sorted(found))

    def home(self, task: str) -> Path:
        """Where a task's packages lie."""
        return self._folder / task

    def package(self, task: str, digest: str) -> Path:
        """Where this package lies, or would."""
        return self._folder / task / digest

    def load(self, task: str) -> Activation:
        """The state as last saved; a fresh one where there is none that can be read."""
        for name in ("state.json", "state.old.json"):
            path = self.home(task) / name
            try:
                return read_state(path.read_bytes())
            except FileNotFoundError:
                continue
            except (msgspec.DecodeError, ValueError) as error:
                aside = path.with_suffix(".damaged")
                path.replace(aside)
                log.error("package.state_damaged path=%s kept_as=%s why=%s", path, aside, error)
        return Activation()

    def save(self, task: str, activation: Activation) -> None:
        """Make this the state, durably."""
        home = self.home(task)
        home.mkdir(parents=True, exist_ok=True)
        body = msgspec.json.encode(activation)
        data = msgspec.json.encode(_File(FORMAT, zlib.crc32(body), msgspec.Raw(body)))
        new, current = home / "state.json.new", home / "state.json"
        with new.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if current.exists():
            # A power cut after this rename leaves the old state, from which every step is repeated.
            current.replace(home / "state.old.json")
        new.replace(current)
        _sync_folder(home)

    def keep(self, task: str, digests: Collection[str]) -> None:
        """Remove every other package of this task."""
        for path in self.home(task).iterdir():
            if _DIGEST.match(path.name) and path.name not in digests:
                shutil.rmtree(path, ignore_errors=True)
                log.info("package.removed task=%s digest=%s", task, path.name[:12])


def read_state(data: bytes) -> Activation:
    """The state in these bytes. Raises `ValueError`, `msgspec.DecodeError`."""
    file = msgspec.json.decode(data, type=_File)
    if file.format != FORMAT:
        raise ValueError(f"format {file.format}, this agent reads {FORMAT}")
    if zlib.crc32(bytes(file.activation)) != file.crc:
        raise ValueError("its checksum does not hold")
    return msgspec.json.decode(file.activation, type=Activation)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
