"""What a batch has finished, beside its output, so that a run killed anywhere goes on.

Rules:
1. `<output>.part/` holds the finished chunks, whole or not at all: each is written beside its
   place, synced and renamed.
2. Chunks count for a run with the same identity (inputs, package, runtimes, options) and for no
   other; what is left of another run is thrown away.
3. The output appears by a rename, then `<output>.seen` by another, then the folder goes. A run
   killed between two of these does the rest again, and gets the same bytes.
4. One run at a time holds the folder.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from models.batch.score import Scored
from models.data.folder import Listed
from models.errors import BatchRunning, TargetUnwritable

T = TypeVar("T")
_chunk = msgspec.msgpack.Decoder(list[Scored])


class Seen(Struct, frozen=True):
    """What has been scored into an output, for the next run that wants only what is new."""

    package: str
    """SHA-256 of the manifest of the last run."""
    files: tuple[Listed, ...] = ()
    """Of a folder."""
    count: int = 0
    """Rows of a table."""
    hashes: bytes = b""
    """Of the rows of a table: uint64, little-endian, sorted."""


class Identity(Struct, frozen=True):
    """What makes two runs the same run."""

    package: str
    runtimes: str
    options: str
    source: str
    """A table's name, size and time, or what the folder is called."""
    seen: str
    """SHA-256 of `<output>.seen` where only new rows are wanted."""


class _Run(Struct, frozen=True):
    identity: Identity
    files: tuple[Listed, ...]
    """The folder's files to be scored, as they were when the run began."""


class Begun(NamedTuple):
    """How a run begins."""

    files: tuple[Listed, ...]
    """The folder's files to score: of a run that goes on, those it began with."""
    discarded: bool
    """Whether chunks of another run were thrown away."""


class Journal:
    """The chunks of one output. Used as a context: it holds the folder's lock."""

    def __init__(self, output: Path) -> None:
        """Raises `BatchRunning`, `TargetUnwritable`."""
        self._output = output
        self._part = output.with_name(f"{output.name}.part")
        self._old = output.with_name(f"{output.name}.part.old")
        self._seen = output.with_name(f"{output.name}.seen")
        shutil.rmtree(self._old, ignore_errors=True)
        self._lock = self._guarded(self._take)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        if not self._chunk(0).exists():  # nothing to go on with
            shutil.rmtree(self._part, ignore_errors=True)
        self._lock.close()

    def seen(self) -> Seen | None:
        """What the last run into this output has seen; None where that is not known."""
        try:
            return msgspec.msgpack.decode(self._seen.read_bytes(), type=Seen)
        except (OSError, msgspec.DecodeError):
            return None

    def begin(
        self,
        identity: Identity,
        files: tuple[Listed, ...],
        *,
        still_there: Callable[[Listed], bool],
    ) -> Begun:
        """Go on with the run that was interrupted, if it is this one; else begin anew."""
        try:
            run = msgspec.msgpack.decode((self._part / "run").read_bytes(), type=_Run)
        except (OSError, msgspec.DecodeError):
            run = None
        if run is not None and run.identity == identity and all(map(still_there, run.files)):
            return Begun(run.files, discarded=False)
        (self._part / "run").unlink(missing_ok=True)  # first: without it chunks mean nothing
        left = [*self._part.glob("chunk-*")]
        for chunk in left:
            chunk.unlink()
        begun = msgspec.msgpack.encode(_Run(identity, files))
        self._guarded(lambda: _put(self._part / "run", begun))
        return Begun(files, discarded=bool(left))

    def chunks(self) -> Iterator[list[Scored]]:
        """Every finished chunk, in order."""
        number = 0
        while (file := self._chunk(number)).exists():
            yield _chunk.decode(file.read_bytes())
            number += 1

    def add(self, number: int, scored: Sequence[Scored]) -> None:
        """Keep a finished chunk. Raises `TargetUnwritable`."""
        data = msgspec.msgpack.encode(scored)
        self._guarded(lambda: _put(self._chunk(number), data))

    def finish(self, write: Callable[[BinaryIO], None], seen: Seen) -> None:
        """Make the output and forget the chunks. Raises `TargetUnwritable`."""
        self._guarded(lambda: self._finish(write, msgspec.msgpack.encode(seen)))

    def _finish(self, write: Callable[[BinaryIO], None], seen: bytes) -> None:
        made = self._part / "output"
        with made.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        made.replace(self._output)
        _sync(self._output.parent)
        _put(self._part / "seen", seen)
        (self._part / "seen").replace(self._seen)
        _sync(self._output.parent)
        self._part.rename(self._old)  # at once, so that no half of it is taken for a run
        shutil.rmtree(self._old, ignore_errors=True)

    def _chunk(self, number: int) -> Path:
        return self._part / f"chunk-{number:08}"

    def _take(self) -> BinaryIO:
        self._part.mkdir(parents=True, exist_ok=True)
        lock = (self._part / "lock").open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise BatchRunning(
                f"another batch is writing {self._output}; wait for it, or choose another output"
            ) from error
        return lock

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except OSError as error:
            raise TargetUnwritable(
                f"{self._output} cannot be written: {error.strerror or error}; make room or choose "
                "another place: what is finished is kept, and the same command goes on"
            ) from error


def _put(file: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    beside = file.with_name(f".{file.name}")
    with beside.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    beside.replace(file)
    _sync(file.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
