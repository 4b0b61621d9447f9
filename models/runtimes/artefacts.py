"""What this device made of a model file so that it opens faster: kept here, never shipped.

1. A file is found by its key: what it was made from (content, library and version, options, the
   processor). Another key is another file, so nothing made elsewhere or earlier is ever taken.
2. Its name ends in a digest of what it holds, looked at before every use. A damaged file is removed
   and made again: an artefact is never trusted more than the model it stands for.
3. Nothing here is fatal. A folder that cannot be read or written costs the time it would have
   saved, and one line in the log.
4. The folder stays within `limit_bytes`: the files unused for longest go first.
"""

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

from models.runtimes.processor import processor

LIMIT_BYTES = 512 * 1024 * 1024
_DIGITS = 32
_log = logging.getLogger(__name__)


def key_of(*made_from: object) -> str:
    """The key of what is made from these on this processor."""
    known = "\n".join((processor(), *map(str, made_from)))
    return hashlib.sha256(known.encode()).hexdigest()[:_DIGITS]


class Artefacts:
    """One folder of artefacts. Several processes may share it."""

    def __init__(self, folder: Path, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._folder = folder
        self._limit = limit_bytes

    def find(self, key: str) -> Path | None:
        """The artefact of this key if there is one and it is whole."""
        try:
            for found in sorted(self._folder.glob(f"{key}-*")):
                if found.suffix == ".part":
                    continue
                if _digest(found) == found.stem.rpartition("-")[2]:
                    _touch(found)
                    return found
                _log.warning("artefacts.damaged file=%s", found.name)
                self.discard(found)
        except OSError as error:
            _log.warning("artefacts.unreadable folder=%s error=%s", self._folder, error)
        return None

    def keep(self, key: str, ending: str, write: Callable[[Path], None]) -> Path | None:
        """What `write` puts into the file it is given; None where it cannot be kept.

        What `write` raises goes through, except `OSError`.
        """
        part = self._folder / f"{key}-{os.getpid()}.part"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            part.touch()
            try:
                write(part)
                if part.stat().st_size > self._limit:
                    _log.info("artefacts.too_large key=%s", key)
                    return None
                whole = part.replace(self._folder / f"{key}-{_digest(part)}{ending}")
            finally:
                part.unlink(missing_ok=True)
            self._make_room(whole)
        except OSError as error:
            _log.warning("artefacts.not_kept folder=%s error=%s", self._folder, error)
            return None
        return whole

    def discard(self, file: Path) -> None:
        """Remove an artefact that is of no use."""
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("artefacts.not_removed file=%s error=%s", file.name, error)

    def _make_room(self, newest: Path) -> None:
        """Remove what was unused for longest, but not what was just made."""
        found = [(each, each.stat()) for each in self._folder.iterdir() if each.is_file()]
        excess = sum(facts.st_size for _, facts in found) - self._limit
        for file, facts in sorted(found, key=lambda pair: pair[1].st_mtime_ns):
            if excess <= 0:
                return
            if file != newest:
                file.unlink(missing_ok=True)
                excess -= facts.st_size


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:_DIGITS]


def _touch(file: Path) -> None:
    """Say that it was used; on a read-only disk nobody can, and nobody need."""
    with contextlib.suppress(OSError):
        os.utime(file)
