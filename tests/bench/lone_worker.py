"""A real worker process whose supervisor does nothing but hold its sockets and empty its pipe."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from edge_agent.cloud import handover
from edge_agent.sdk.wire import FrameReader
from tests.bench.in_process import DIGEST, pipe_with_a_reader
from tests.bench.setting import NotMeasured

_READY_S = 60.0


@contextlib.contextmanager
def lone_worker(package: Path, task: str, run_folder: Path) -> Iterator[None]:
    """Serve `<run_folder>/<task>.sock` inside the block. Raises `NotMeasured`."""
    run_folder.mkdir(parents=True, exist_ok=True)
    path = run_folder / f"{task}.sock"
    ours, theirs = socket.socketpair()
    with ours, socket.socket(socket.AF_UNIX) as listening, pipe_with_a_reader() as records:
        listening.bind(str(path))
        listening.listen(16)
        order = handover.WorkerOrder(
            listen_fd=listening.fileno(),
            control_fd=theirs.fileno(),
            record_fd=records,
            package=str(package),
            task=task,
            digest=DIGEST,
            device="bench",
        )
        worker = subprocess.Popen(
            [sys.executable, "-P", "-m", "edge_agent.worker"],
            env={**os.environ, handover.VARIABLE: handover.write_order(order)},
            pass_fds=(order.listen_fd, order.control_fd, order.record_fd),
            stderr=subprocess.DEVNULL,
        )
        theirs.close()
        try:
            ours.settimeout(_READY_S)
            said = next(_words(ours), None)
            if not isinstance(said, handover.Ready):
                raise NotMeasured(f"the worker of {task} did not come to serve but said {said}")
            yield
            ours.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for said in _words(ours):
                    if not isinstance(said, handover.Alive | handover.Considered):
                        raise NotMeasured(
                            f"the worker of {task} only answers here, but said {said}"
                        )
                raise NotMeasured(f"the worker of {task} ended")
        finally:
            worker.kill()
            worker.wait()


def _words(line: socket.socket) -> Iterator[handover.FromWorker]:
    """What the worker says, until it ends. Raises `BlockingIOError`, `TimeoutError`."""
    reader = FrameReader()
    while count := line.recv_into(reader.buffer()):
        for frame in reader.filled(count):
            yield handover.read_from_worker(frame.meta)
