"""One worker process, from its start until the last thing it said has been heard.

1. What a worker has written survives its death: the pipe and the line are read to their ends before
   the process counts as gone.
2. `ready` ends once: with what the worker said, or with `WorkerFailed`.
3. A worker that has closed its pipe and does not end is killed.
"""

import asyncio
import fcntl
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Protocol

from edge_agent.cloud import handover
from edge_agent.cloud.line import Line
from edge_agent.errors import PackageDoesNotRun, WorkerFailed
from edge_agent.sdk.wire import Frame
from edge_agent.upkeep.records import PipeReader
from edge_agent.upkeep.said import Said
from edge_agent.workplace import SourceSettings, SourceState, Workplace
from sync.errors import MalformedMessage, WireError
from sync.wire import codec, v1

log = logging.getLogger(__name__)

PIPE_BYTES = 1 << 20
"""Some thousand records: a supervisor may be slow for seconds before a worker has to drop one."""
_LINGER_S = 2.0
_POLL_S = 0.005


class Ears(Protocol):
    """Who hears what workers bring."""

    def ready(self, said: handover.Ready, line: Line) -> None:
        """It serves; what it needs to know is to be said now."""
        ...

    def escalate(self, said: handover.Escalate, body: bytearray, line: Line) -> None: ...

    def considered(self, said: handover.Considered) -> None: ...

    def unanswered(self, task: str, request_ids: tuple[str, ...]) -> None: ...

    def audited(self, said: handover.Audited, line: Line) -> None: ...

    def record(self, record: v1.Answered) -> None: ...

    def skipped(self, record: v1.Skipped) -> None: ...

    def missed(self, count: int) -> None: ...

    def source_said(self, task: str, state: SourceState) -> None: ...


class WorkerProcess:
    """Made by `start`; `gone` ends with the exit code."""

    def __init__(
        self, child: subprocess.Popen[bytes], pipe: int, ears: Ears, task: str, said: Said
    ) -> None:
        loop = asyncio.get_running_loop()
        self.pid = child.pid
        self.ready: asyncio.Future[handover.Ready] = loop.create_future()
        self.drained = False
        self.on_alive: Callable[[handover.Alive], None] | None = None
        """Who hears that it is alive."""
        self._child = child
        self._ears = ears
        self._task = task
        self._said = said
        self._begun = b""
        self._pipe_ended: asyncio.Future[None] = loop.create_future()
        self._line: Line  # both from `start`, before the worker can have said anything
        self.gone: asyncio.Task[int]
        self._pipe = PipeReader(pipe, self._take, self._pipe_ends)

    @classmethod
    async def start(
        cls,
        *,
        package: str,
        task: str,
        digest: str,
        device: str,
        source: SourceSettings | None,
        place: Workplace,
        terms: tuple[handover.StandingTerms, ...],
        queue: int,
        nice: int,
        listening: socket.socket,
        ears: Ears,
        said: Said,
    ) -> "WorkerProcess":
        """Start a worker that serves `listening`. Raises `WorkerFailed`."""
        ours, theirs = socket.socketpair()
        read_end, write_end = os.pipe()
        try:
            fcntl.fcntl(read_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            log.info("worker.small_pipe task=%s", task)  # an unprivileged user has used up his own
        order = handover.WorkerOrder(
            listen_fd=listening.fileno(),
            control_fd=theirs.fileno(),
            record_fd=write_end,
            package=package,
            task=task,
            digest=digest,
            device=device,
            source=source,
            terms=terms,
            place=place,
            remembers=True,
            queue=queue,
            nice=nice,
        )
        try:
            child = _started(order)
        except OSError as error:
            ours.close()
            os.close(read_end)
            raise WorkerFailed(f"no worker can be started: {error}") from error
        finally:
            theirs.close()
            os.close(write_end)
        process = cls(child, read_end, ears, task, said)
        process._line = await Line.open(ours, process._heard)
        process._line.gone.add_done_callback(lambda _: process._line_ends())
        said.join(process, lambda records: process._line.send(handover.Remember(), records))
        process.gone = asyncio.create_task(process._end())
        return process

    def tell(self, said: handover.ToWorker) -> None:
        """Say something to it."""
        self._line.send(said)

    def retire(self) -> None:
        """Ask it to finish what it has and leave."""
        self._line.send(handover.Retire())

    def kill(self) -> None:
        """End it now; it may have ended already."""
        if self._child.poll() is None:
            self._child.kill()

    def _heard(self, frame: Frame) -> None:
        try:
            said = handover.read_from_worker(frame.meta)
        except MalformedMessage as error:
            log.error("worker.not_understood pid=%d why=%s", self.pid, error)
            return
        match said:
            case handover.Ready():
                if not self.ready.done():
                    self.ready.set_result(said)
                    self._ears.ready(said, self._line)
            case handover.Failed(code, message):
                self._fail(PackageDoesNotRun(message, code=code))
            case handover.Alive():
                if self.on_alive is not None:
                    self.on_alive(said)
            case handover.Escalate():
                self._ears.escalate(said, frame.body, self._line)
            case handover.Audited():
                self._ears.audited(said, self._line)
            case handover.Considered():
                self._ears.considered(said)
            case handover.Unanswered(ids):
                self._ears.unanswered(self._task, ids)
            case handover.Missed(count):
                self._ears.missed(count)
            case handover.SourceSaid(state):
                self._ears.source_said(self._task, state)
            case handover.Drained():
                self.drained = True

    def _line_ends(self) -> None:
        self._said.leave(self)
        self._pipe.look()

    def _pipe_ends(self) -> None:
        if self._begun:
            log.error("worker.record_cut_off pid=%d bytes=%d", self.pid, len(self._begun))
        self._pipe_ended.set_result(None)

    def _take(self, read: bytes) -> None:
        data = self._begun + read
        whole, end = handover.split_records(data)
        self._begun = data[end:]
        answered = []
        for packed in whole:
            try:
                record = codec.decode_record(packed[handover.RECORD_LENGTH.size :])
            except WireError as error:
                log.error("worker.bad_record pid=%d why=%s", self.pid, error)
                self._ears.missed(1)
                continue
            match record:
                case v1.Answered():
                    answered.append(packed)
                    self._ears.record(record)
                case v1.Skipped():
                    self._ears.skipped(record)
                case v1.Revised() | v1.Feedback() | v1.Alarm() | v1.Health():
                    pass  # those are the supervisor's own
        if answered:
            self._said.add(self, answered)

    async def _end(self) -> int:
        await self._pipe_ended
        waited = 0.0
        while self._child.poll() is None:
            if waited >= _LINGER_S:
                self.kill()
            await asyncio.sleep(_POLL_S)
            waited += _POLL_S
        code = self._child.returncode
        await self._line.gone
        self._fail(WorkerFailed(f"worker {self.pid} ended with {code} before it was ready"))
        return code

    def _fail(self, error: WorkerFailed) -> None:
        if not self.ready.done():
            self.ready.set_exception(error)
            self.ready.exception()  # nobody need be waiting for it


def _started(order: handover.WorkerOrder) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "edge_agent.worker"],
        env={**os.environ, handover.VARIABLE: handover.write_order(order)},
        pass_fds=(order.listen_fd, order.control_fd, order.record_fd),
        stdin=subprocess.DEVNULL,
    )
