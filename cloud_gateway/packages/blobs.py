"""Archives on disk, named by the SHA-256 of their content.

1. An archive gets its name only when all of it is there, synced, and hashes to that name.
2. What lies on disk is served as it lies: whoever installs it checks the signature and the hash. A
   gateway that vouched for archives would be one more thing to trust.
3. Reading and writing go through the Runner, in pieces.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from cloud_gateway.errors import BadRequest, BlobMismatch, StorageUnavailable
from sync.runner import Runner

_PIECE = 256 << 10
_PART = ".part-"
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


class Blobs:
    """The folder of archives."""

    def __init__(self, folder: Path, runner: Runner) -> None:
        self._folder = folder
        self._runner = runner
        folder.mkdir(parents=True, exist_ok=True)

    def sweep(self) -> None:
        """Remove what a crash left of uploads. Call it before any begins."""
        for left in self._folder.glob(f"{_PART}*"):
            left.unlink(missing_ok=True)

    def path(self, sha256: str) -> Path:
        """Where this archive lies, or would. Raises `BadRequest`."""
        if not _SHA256.match(sha256):
            raise BadRequest(f"{sha256[:80]!r} is no SHA-256 in lower-case hexadecimal")
        return self._folder / sha256[:2] / sha256

    def size(self, sha256: str) -> int | None:
        """Bytes on disk, None when it is not there."""
        try:
            return self.path(sha256).stat().st_size
        except FileNotFoundError:
            return None

    async def store(self, sha256: str, pieces: AsyncIterator[bytes]) -> int:
        """Keep an archive and return its size. Raises `BlobMismatch`, `StorageUnavailable`."""
        path = self.path(sha256)
        found = hashlib.sha256()
        size = 0
        try:
            path.parent.mkdir(exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=_PART, dir=self._folder)
            part = Path(name)
            try:
                with os.fdopen(handle, "wb") as file:
                    async for piece in pieces:
                        found.update(piece)
                        size += len(piece)
                        await self._runner.submit(lambda piece=piece: file.write(piece))  # type: ignore[misc]
                    await self._runner.submit(lambda: _sync(file.fileno()))
                if found.hexdigest() != sha256:
                    raise BlobMismatch(
                        f"{size} bytes came with SHA-256 {found.hexdigest()[:12]}… under the name "
                        f"{sha256[:12]}…; send them again"
                    )
                await self._runner.submit(lambda: _rename(part, path))
            finally:
                await self._runner.submit(lambda: part.unlink(missing_ok=True))
        except OSError as error:
            raise StorageUnavailable(
                f"archive {sha256[:12]}… cannot be written ({error.strerror}); make room in the "
                "gateway's data folder and publish again"
            ) from error
        return size

    async def read(self, sha256: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes `start` up to `end` in pieces, as they lie on disk."""
        path = self.path(sha256)
        while start < end:
            size = min(_PIECE, end - start)
            piece = await self._runner.submit(lambda at=start, size=size: _piece(path, at, size))  # type: ignore[misc]
            if not piece:
                return  # somebody cut the file short; the receiver's check will say so
            yield piece
            start += len(piece)


def _sync(handle: int) -> None:
    os.fsync(handle)


def _rename(part: Path, path: Path) -> None:
    part.chmod(0o644)
    part.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _piece(path: Path, at: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(at)
        return file.read(size)
