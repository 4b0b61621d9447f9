"""Answers the files that appear in a folder: `<file>.json` beside each says what came of it.

An answer names the size and time of the file it belongs to, so a restart answers nothing twice and
a file that was written anew is answered anew. What is left out gets such a file too, with a code.

Where inputs are `.json` files themselves, an answer is told from an input by what it holds.
"""

import asyncio
import hashlib
import logging
import os
from functools import partial
from pathlib import Path

import msgspec
from msgspec import Struct

from edge_agent.sdk.messages import Infer, Refused
from edge_agent.sources import arrays
from edge_agent.sources.arrays import Array, Kind, Unreadable
from edge_agent.sources.base import Answering
from edge_agent.sources.watch import Seen, Watch
from sync.runner import Runner

CLIENT = "directory"
DEADLINE_MS = 5000
"""Nobody waits at a keyboard: the cloud may take its time."""
LOOK_S = 0.5
AT_ONCE = 8
_ANSWER = ".json"
_LATER = frozenset({"overloaded", "runtime_failed", "internal"})
"""Refusals that say nothing about the file."""
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
    code: str = ""
    message: str = ""
    answer: msgspec.Raw = _NOTHING
    """The whole answer as JSON, where the label does not say it all."""


class DirectorySource:
    """Watches one folder."""

    def __init__(
        self,
        folder: Path,
        *,
        answer: Answering,
        runner: Runner,
        kind: Kind,
        answers: Path | None = None,
        look_s: float = LOOK_S,
    ) -> None:
        self._folder = folder
        self._answers = answers or folder
        self._answer = answer
        self._runner = runner
        self._kind = kind
        self._records = kind.dtype == "record"
        self._look_s = look_s
        self._watch = Watch()
        self._missing = False

    async def run(self) -> None:
        """Look, answer, wait; until cancelled."""
        while True:
            whole = self._watch.look(await self._runner.submit(self._listing))
            for first in range(0, len(whole), AT_ONCE):
                await asyncio.gather(*map(self._deal_with, whole[first : first + AT_ONCE]))
            await asyncio.sleep(self._look_s)

    async def _deal_with(self, seen: Seen) -> None:
        if await self._runner.submit(partial(self._is_answered, seen)):
            return
        written = await self._outcome(seen)
        if written.code in _LATER:
            log.warning("directory.later file=%s code=%s", seen.name, written.code)
            self._watch.again(seen)
            return
        if not written.ok:
            log.warning(
                "directory.skipped file=%s code=%s why=%s",
                seen.name,
                written.code,
                written.message,
            )
        try:
            await self._runner.submit(partial(self._write, written))
        except OSError as error:
            # Asked again under the same id, so it is counted once.
            log.warning("directory.not_written file=%s error=%s", seen.name, error.strerror)
            self._watch.again(seen)

    async def _outcome(self, seen: Seen) -> Written:
        def left_out(code: str, message: str) -> Written:
            return Written(
                seen.name, seen.size, seen.mtime_ns, ok=False, code=code, message=message
            )

        path = self._folder / seen.name
        try:
            array: Array = await self._runner.submit(partial(arrays.read, path, self._kind))
        except Unreadable as error:
            return left_out(error.code, str(error))
        infer = Infer(_request_id(seen), CLIENT, DEADLINE_MS, array.dtype, array.shape)
        reply = await self._answer(infer, array.data)
        if isinstance(reply, Refused):
            return left_out(reply.code, reply.message)
        return Written(
            seen.name,
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
            answer=msgspec.Raw(reply.answer.encode()) if reply.answer else _NOTHING,
        )

    def _listing(self) -> list[Seen]:
        try:
            with os.scandir(self._folder) as entries:
                found = [
                    seen
                    for entry in entries
                    if (self._records or not entry.name.endswith(_ANSWER))
                    and (seen := _seen(entry)) is not None
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
        return itself is not None and f"{itself.file}{_ANSWER}" == seen.name

    def _write(self, written: Written) -> None:
        path = self._answer_path(written.file)
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
    told = f"{seen.name}\0{seen.size}\0{seen.mtime_ns}"
    return "file-" + hashlib.sha256(told.encode()).hexdigest()[:24]
