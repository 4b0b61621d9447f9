"""Plays the supervisor to real worker processes: holds the sockets, the pipe and the other end."""

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from edge_agent.cloud import handover
from edge_agent.cloud.handover import FromWorker, ToWorker, WorkerOrder
from edge_agent.sdk.wire import FrameReader
from edge_agent.workplace import FolderSource, Workplace
from sync.wire import codec, v1

PATIENCE_S = 30.0
M = TypeVar("M", bound=FromWorker)
Said = tuple[FromWorker, bytes]


class WorkerProcess:
    """One worker and the end of its socket pair."""

    def __init__(self, process: "subprocess.Popen[bytes]", end: socket.socket) -> None:
        self.process = process
        self.says: queue.Queue[Said] = queue.Queue()
        self.on_escalate: Callable[[handover.Escalate], ToWorker | None] | None = None
        self._end = end
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def tell(self, message: ToWorker) -> None:
        self._end.sendall(handover.frame(message))

    def expect(self, kind: type[M]) -> tuple[M, bytes]:
        """The next message of this kind; others before it are passed over."""
        while True:
            message, body = self.says.get(timeout=PATIENCE_S)
            if isinstance(message, kind):
                return message, body

    def ended(self) -> int:
        """Wait for the process to end; its exit code."""
        code = self.process.wait(timeout=PATIENCE_S)
        self.hang_up()
        return code

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.ended()

    def hang_up(self) -> None:
        """What the worker sees when its supervisor dies."""
        with contextlib.suppress(OSError):  # hung up already
            self._end.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._end.close()

    def _listen(self) -> None:
        reader = FrameReader()
        try:
            while count := self._end.recv_into(reader.buffer()):
                for frame in reader.filled(count):
                    self._hear(handover.read_from_worker(frame.meta), bytes(frame.body))
        except OSError:
            return  # killed, with something of ours unread

    def _hear(self, message: FromWorker, body: bytes) -> None:
        if isinstance(message, handover.Escalate) and self.on_escalate is not None:
            answer = self.on_escalate(message)
            if answer is not None:
                self.tell(answer)
        self.says.put((message, body))


class PlayedSupervisor:
    """Owns a task's socket and starts workers on it, one after the other or two at once."""

    def __init__(self, folder: Path, package: Path, task: str) -> None:
        self.folder = folder
        self.package = package
        self.task = task
        self.place: Workplace | None = None
        """What the next workers are given."""
        self.workers: list[WorkerProcess] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(folder / f"{task}.sock"))
        self._listening.listen(128)
        self._records, self._records_in = os.pipe()
        os.set_blocking(self._records, False)

    def __enter__(self) -> "PlayedSupervisor":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill()
        self._listening.close()
        os.close(self._records)
        os.close(self._records_in)

    def start(
        self,
        *,
        package: Path | None = None,
        task: str | None = None,
        directory: Path | None = None,
        on_escalate: Callable[[handover.Escalate], ToWorker | None] | None = None,
    ) -> WorkerProcess:
        """Start a worker; it may not be ready yet."""
        ours, theirs = socket.socketpair()
        order = WorkerOrder(
            listen_fd=self._listening.fileno(),
            control_fd=theirs.fileno(),
            record_fd=self._records_in,
            package=str(package or self.package),
            task=task or self.task,
            digest="ab" * 32,
            device="bench-1",
            source=None if directory is None else FolderSource(path=str(directory)),
            place=self.place,
        )
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "edge_agent.worker"],
            env=dict(os.environ) | {handover.VARIABLE: handover.write_order(order)},
            pass_fds=(order.listen_fd, order.control_fd, order.record_fd),
        )
        theirs.close()
        worker = WorkerProcess(process, ours)
        worker.on_escalate = on_escalate
        self.workers.append(worker)
        return worker

    def start_ready(
        self, on_escalate: Callable[[handover.Escalate], ToWorker | None] | None = None
    ) -> WorkerProcess:
        worker = self.start(on_escalate=on_escalate)
        worker.expect(handover.Ready)
        return worker

    def records(self) -> list[v1.Answered]:
        """The records that are in the pipe now."""
        data = b""
        while True:
            try:
                data += os.read(self._records, 1 << 20)
            except BlockingIOError:
                break
        found = []
        while data:
            (size,) = handover.RECORD_LENGTH.unpack_from(data)
            end = handover.RECORD_LENGTH.size + size
            record = codec.decode_record(data[handover.RECORD_LENGTH.size : end])
            assert isinstance(record, v1.Answered)
            found.append(record)
            data = data[end:]
        return found


def wait_until(true: Callable[[], bool], *, seconds: float = PATIENCE_S) -> None:
    begun = time.monotonic()
    while not true():
        assert time.monotonic() < begun + seconds, "never came true"
        time.sleep(0.005)
