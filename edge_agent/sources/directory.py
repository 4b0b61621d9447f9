"""Answers the files that appear in a folder: `<file>.json` beside each says what came of it.

An answer names the size and time of the file it belongs to, so a restart answers nothing twice and
a file that was written anew is answered anew. What is left out gets such a file too, with a code.

The kernel tells of files that were closed or renamed in (`inotify`); the folder is listed as well,
at the start, after the kernel had to leave something out, and now and then. Where it tells nothing
(a network's file system, no watch left, no folder yet) it is listed often.

Where inputs are `.json` files themselves, an answer is told from an input by what it holds.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from edge_agent.errors import SourceBroken
from edge_agent.sdk.messages import Infer, Refused
from edge_agent.sources import arrays, likeness
from edge_agent.sources.arrays import Array, Kind, Unreadable
from edge_agent.sources.base import DEADLINE_MS, Answering, outcome_of
from edge_agent.sources.inotify import FolderNotices, What
from edge_agent.sources.intake import Input, Intake, Outcome
from edge_agent.sources.likeness import Signature
from edge_agent.sources.watch import Seen, Watch
from sync.runner import Runner

CLIENT = "directory"
SOON_S = 0.5
_ANSWER = ".json"
_NOTHING = msgspec.Raw()
"""Left out when it is written: msgspec knows the default by its identity."""

log = logging.getLogger(__name__)


class Written(Struct, frozen=True, omit_defaults=True):
    """What stands in an answer file."""

    file: str
    size: int
    mtime_ns: int
    ok: bool
    request_id: str = ""
    label: str = ""
    confidence: float | None = None
    source: str = ""
    final: bool | None = None
    reason: str = ""
    version: str = ""
    degraded: bool = False
    certified_risk: float | None = None
    certificate: str = ""
    code: str = ""
    message: str = ""
    answer: msgspec.Raw = _NOTHING
    """The whole answer as JSON, where the label does not say it all."""


class DirectorySource:
    """Watches one folder.

    Args:
        soon_s: Between two looks where only looking tells.
        look_s: Between two looks where the kernel tells as well.
    """

    def __init__(
        self,
        folder: Path,
        *,
        answer: Answering,
        runner: Runner,
        kind: Kind,
        answers: Path | None = None,
        inotify: bool = True,
        soon_s: float = SOON_S,
        look_s: float = 5.0,
    ) -> None:
        self._folder = folder
        self._answers = answers or folder
        self._answer = answer
        self._runner = runner
        self._kind = kind
        self._records = kind.dtype == "record"
        self._inotify = inotify
        self._soon_s = soon_s
        self._look_s = look_s
        self._missing = False
        self._unwatched = False
        self._unwritten: dict[Seen, tuple[Written, Outcome]] = {}
        """What came of files whose answers could not be written: none is asked about again."""

    @property
    def trouble(self) -> str:
        if self._missing:
            return f"{self._folder} is not there, or cannot be read"
        if self._unwritten:
            return f"answers cannot be written to {self._answers}; is the disk full, or read-only?"
        return ""

    async def run(self, intake: Intake) -> None:
        """Hear, look, offer, wait; until cancelled."""
        watch = Watch()
        self._unwritten.clear()
        if self._answers != self._folder:
            await self._runner.submit(self._make_answers)
        while True:
            with self._watched() as notices:
                await self._follow(intake, watch, notices)
            watch.forget_writers()

    async def _follow(self, intake: Intake, watch: Watch, notices: FolderNotices | None) -> None:
        """Until the kernel tells nothing any more; without it, one look."""
        loop = asyncio.get_running_loop()
        told = asyncio.Event()
        if notices is not None:
            loop.add_reader(notices.descriptor, told.set)
        try:
            while True:
                # What the kernel told before this look is in it already.
                look_at = loop.time() + (self._look_s if notices is not None else self._soon_s)
                await self._offer(intake, watch.look(await self._runner.submit(self._listing)))
                if watch.unsettled:
                    look_at = loop.time() + self._soon_s
                if notices is None:
                    await asyncio.sleep(look_at - loop.time())
                    return
                while await _within(told, look_at - loop.time()):
                    told.clear()
                    match await self._hear(intake, watch, notices):
                        case What.GONE:
                            return
                        case What.OVERFLOW:
                            break
        finally:
            if notices is not None:
                loop.remove_reader(notices.descriptor)

    async def _hear(
        self, intake: Intake, watch: Watch, notices: FolderNotices
    ) -> Literal[What.GONE, What.OVERFLOW] | None:
        """Deal with what the kernel tells; gives back what it cannot tell any more."""
        finished: dict[str, None] = {}
        lost: Literal[What.OVERFLOW] | None = None
        for notice in notices.read():
            match notice.what:
                case What.WRITING:
                    watch.written_to(notice.name)
                    finished.pop(notice.name, None)  # it was opened again
                case What.FINISHED:
                    finished[notice.name] = None
                case What.OVERFLOW:
                    log.warning("directory.overflow folder=%s next=listing", self._folder)
                    watch.forget_writers()
                    lost = What.OVERFLOW
                case What.GONE:
                    return What.GONE
        seen = await self._runner.submit(partial(self._look_at, tuple(finished)))
        whole = [one for name in finished for one in watch.finished(name, seen.get(name))]
        await self._offer(intake, whole)
        return lost

    @contextlib.contextmanager
    def _watched(self) -> Iterator[FolderNotices | None]:
        """A watch, or None where the kernel gives none."""
        if not self._inotify:
            yield None
            return
        try:
            notices = FolderNotices(self._folder)
        except OSError as error:
            if not self._unwatched:
                log.warning(
                    "directory.not_watched folder=%s error=%s next=looking_every_%gs",
                    self._folder,
                    error.strerror,
                    self._soon_s,
                )
            self._unwatched = True
            yield None
            return
        self._unwatched = False
        with notices:
            yield notices

    async def _offer(self, intake: Intake, whole: list[Seen]) -> None:
        for seen in whole:
            if await self._runner.submit(partial(self._is_answered, seen)):
                continue
            signature = None
            if intake.compares:
                signature = await self._runner.submit(partial(self._signature, seen))
            await intake.room()
            intake.offer(
                Input(
                    _printable(seen.name),
                    partial(self._deal_with, seen),
                    signature,
                    partial(self._skipped, seen),
                )
            )

    async def _deal_with(self, seen: Seen) -> Outcome:
        written, outcome = self._unwritten.get(seen) or await self._outcome(seen)
        if outcome == "overloaded":
            log.warning("directory.later file=%s code=%s", seen.name, written.code)
            return outcome
        if not written.ok:
            log.warning(
                "directory.skipped file=%s code=%s why=%s",
                seen.name,
                written.code,
                written.message,
            )
        try:
            await self._runner.submit(partial(self._write, seen, written))
        except OSError as error:
            log.warning("directory.not_written file=%s error=%s", seen.name, error.strerror)
            self._unwritten[seen] = written, outcome
            return "overloaded"
        self._unwritten.pop(seen, None)
        return outcome

    async def _skipped(self, seen: Seen, reason: str) -> None:
        """So that a restart does not think of it again."""
        written = _left_out(seen, reason, "the source skipped it by its settings")
        try:
            await self._runner.submit(partial(self._write, seen, written))
        except OSError as error:
            log.warning("directory.not_written file=%s error=%s", seen.name, error.strerror)

    async def _outcome(self, seen: Seen) -> tuple[Written, Outcome]:
        path = self._folder / seen.name
        try:
            array: Array = await self._runner.submit(partial(arrays.read, path, self._kind))
        except Unreadable as error:
            return _left_out(seen, error.code, str(error)), "unreadable"
        infer = Infer(_request_id(seen), CLIENT, DEADLINE_MS, array.dtype, array.shape)
        reply = await self._answer(infer, array.data)
        if isinstance(reply, Refused):
            return _left_out(seen, reply.code, reply.message), outcome_of(reply)
        written = Written(
            _printable(seen.name),
            seen.size,
            seen.mtime_ns,
            ok=True,
            request_id=reply.id,
            label=reply.label,
            confidence=reply.confidence,
            source=reply.source,
            final=reply.final,
            reason=reply.reason,
            version=reply.version,
            degraded=reply.degraded,
            certified_risk=reply.certified_risk,
            certificate=reply.certificate,
            answer=msgspec.Raw(reply.answer.encode()) if reply.answer else _NOTHING,
        )
        return written, "answered"

    def _signature(self, seen: Seen) -> Signature | None:
        try:
            array = arrays.read(self._folder / seen.name, self._kind)
        except Unreadable:
            return None  # said when it is its turn
        return likeness.signature(array.dtype, array.shape, array.data)

    def _look_at(self, names: tuple[str, ...]) -> dict[str, Seen]:
        """These files as they are now."""
        found = {}
        for name in names:
            path = self._folder / name
            if not self._may_be_input(name) or not path.is_file():
                continue
            with contextlib.suppress(FileNotFoundError):
                told = path.stat()
                found[name] = Seen(name, told.st_size, told.st_mtime_ns, told.st_ino)
        return found

    def _may_be_input(self, name: str) -> bool:
        return self._records or not name.endswith(_ANSWER)

    def _listing(self) -> list[Seen]:
        try:
            with os.scandir(self._folder) as entries:
                found = [
                    seen
                    for entry in entries
                    if self._may_be_input(entry.name) and (seen := _seen(entry)) is not None
                ]
        except OSError as error:
            if not self._missing:
                log.warning("directory.not_there folder=%s error=%s", self._folder, error.strerror)
            self._missing = True
            return []
        self._missing = False
        return found

    def _is_answered(self, seen: Seen) -> bool:
        """Whether nothing is to be done: there is an answer, or this is one itself."""
        written = _written(self._answer_path(seen.name))
        if written is not None and (written.size, written.mtime_ns) == (seen.size, seen.mtime_ns):
            return True
        if not seen.name.endswith(_ANSWER):
            return False
        itself = _written(self._folder / seen.name)
        return itself is not None and f"{itself.file}{_ANSWER}" == _printable(seen.name)

    def _make_answers(self) -> None:
        try:
            self._answers.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SourceBroken(
                f"the folder of answers {self._answers} cannot be made: {error.strerror}"
            ) from error

    def _write(self, seen: Seen, written: Written) -> None:
        path = self._answer_path(seen.name)
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(msgspec.json.encode(written) + b"\n")
        part.rename(path)

    def _answer_path(self, name: str) -> Path:
        return self._answers / f"{name}{_ANSWER}"


def _written(path: Path) -> Written | None:
    """What an answer file says; None where there is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Written)
    except (OSError, msgspec.DecodeError):
        return None


def _seen(entry: "os.DirEntry[str]") -> Seen | None:
    if not entry.is_file():
        return None
    try:
        told = entry.stat()
    except FileNotFoundError:
        return None  # Taken away while we looked.
    return Seen(entry.name, told.st_size, told.st_mtime_ns, told.st_ino)


def _request_id(seen: Seen) -> str:
    """The same for the same content of the same file, whoever finds it."""
    told = os.fsencode(f"{seen.name}\0{seen.size}\0{seen.mtime_ns}")
    return "file-" + hashlib.sha256(told).hexdigest()[:24]


def _printable(name: str) -> str:
    """A name is bytes to the kernel; what is no UTF-8 in it is spelt out."""
    return name.encode("utf-8", "backslashreplace").decode()


def _left_out(seen: Seen, code: str, message: str) -> Written:
    return Written(
        _printable(seen.name),
        seen.size,
        seen.mtime_ns,
        ok=False,
        code=code,
        message=_printable(message),
    )


async def _within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
    except TimeoutError:
        return False
    return True
