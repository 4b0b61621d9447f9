"""Answers the files that appear in a folder: `<file>.json` beside each says what came of it.

An answer names the size and time of the file it belongs to, so a restart answers nothing twice and
a file that was written anew is answered anew. What is left out gets such a file too, with a code.

The kernel tells of files that were closed or renamed in (`inotify`); the folder is listed as well,
at the start, after the kernel had to leave something out, and now and then. Where it tells nothing
(a network's file system, no watch left, no folder yet) it is listed often.

What the cloud says later replaces a provisional answer in its file (`late`).

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

from edge_agent.errors import SourceBroken
from edge_agent.sdk.answer import Revision
from edge_agent.sdk.messages import Infer, Refused
from edge_agent.sources import answer_files, arrays, likeness
from edge_agent.sources.answer_files import NOTHING, SUFFIX, Written
from edge_agent.sources.arrays import Array, Kind, Unreadable
from edge_agent.sources.base import DEADLINE_MS, Answering, outcome_of
from edge_agent.sources.inotify import FolderNotices, What
from edge_agent.sources.intake import Input, Intake, Outcome
from edge_agent.sources.late import Revisions, follow
from edge_agent.sources.likeness import Signature
from edge_agent.sources.watch import Seen, Watch
from sync.runner import Runner

CLIENT = "directory"
SOON_S = 0.5

log = logging.getLogger(__name__)


class DirectorySource:
    """Watches one folder.

    Args:
        soon_s: Between two looks where only looking tells.
        look_s: Between two looks where the kernel tells as well.
        client: Who asks; `revisions` are this client's, None for none.
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
        client: str = CLIENT,
        revisions: Revisions | None = None,
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
        self._client = client
        self._revisions = revisions
        self._begun: set[str] = set()
        """Request ids of files that were found, and have no answer file yet."""
        self._listed = asyncio.Event()
        self._looks = 0
        self._owed: dict[str, str] = {}
        """Request id to answer file, of provisional answers ..."""
        self._looked = False
        """... and whether those from before this start are among them."""
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
        late: asyncio.Task[None] | None = None
        if self._revisions is not None:
            late = asyncio.create_task(self._follow_late(self._revisions), name="late answers")
        try:
            while True:
                with self._watched() as notices:
                    await self._follow(intake, watch, notices)
                watch.forget_writers()
        finally:
            if late is not None:
                late.cancel()
                await asyncio.gather(late, return_exceptions=True)

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
                self._looks += 1
                if self._looks > 1 or not watch.unsettled:
                    self._listed.set()  # whatever lay here at the start has been offered
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
            self._begun.add(_request_id(seen))
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
        outcome = await self._answered(seen)
        if outcome != "overloaded":
            self._begun.discard(_request_id(seen))
        return outcome

    async def _answered(self, seen: Seen) -> Outcome:
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
        if self._revisions is not None and written.final is False:
            self._owed[written.request_id] = self._answer_path(seen.name).name
        return outcome

    async def _follow_late(self, revisions: Revisions) -> None:
        """A file that a worker died over is found again before its revision is thought nobody's."""
        await self._listed.wait()
        await follow(revisions, self._revise, again_s=10 * self._soon_s)

    async def _revise(self, revision: Revision) -> bool:
        """As `late.Revise`."""
        if revision.request_id in self._begun:
            return False
        if not self._looked and revision.request_id not in self._owed:
            found = await self._runner.submit(self._provisional)
            self._owed = found | self._owed  # more may have been written meanwhile
            self._looked = True
        name = self._owed.get(revision.request_id)
        if name is None:
            log.info("directory.nobody_is_owed request=%s", revision.request_id)
            return True
        try:
            await self._runner.submit(partial(answer_files.revise, self._answers / name, revision))
        except OSError as error:
            log.warning("directory.not_written file=%s error=%s", name, error.strerror)
            return False
        del self._owed[revision.request_id]
        return True

    def _provisional(self) -> dict[str, str]:
        """What the answer files say that they are owed."""
        try:
            return dict(answer_files.provisional(self._answers))
        except OSError as error:
            log.warning("directory.not_there folder=%s error=%s", self._answers, error.strerror)
            return {}

    async def _skipped(self, seen: Seen, reason: str) -> None:
        """So that a restart does not think of it again."""
        self._begun.discard(_request_id(seen))
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
        infer = Infer(_request_id(seen), self._client, DEADLINE_MS, array.dtype, array.shape)
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
            answer=msgspec.Raw(reply.answer.encode()) if reply.answer else NOTHING,
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
        return self._records or not name.endswith(SUFFIX)

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
        written = answer_files.read(self._answer_path(seen.name))
        if written is not None and (written.size, written.mtime_ns) == (seen.size, seen.mtime_ns):
            return True
        if not seen.name.endswith(SUFFIX):
            return False
        itself = answer_files.read(self._folder / seen.name)
        return itself is not None and f"{itself.file}{SUFFIX}" == _printable(seen.name)

    def _make_answers(self) -> None:
        try:
            self._answers.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SourceBroken(
                f"the folder of answers {self._answers} cannot be made: {error.strerror}"
            ) from error

    def _write(self, seen: Seen, written: Written) -> None:
        answer_files.put(self._answer_path(seen.name), written)

    def _answer_path(self, name: str) -> Path:
        return self._answers / f"{name}{SUFFIX}"


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
