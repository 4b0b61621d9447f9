"""Two servers on a Unix socket to hold ours against: as little as can be, and as one should not.

`bytes`: one connection, a known number of bytes in, a known number out: the floor.
`list`: a connection per request, the tensor as a JSON list: the control, which must look bad.

    python -P -m tests.bench.plain_socket bytes|list PATH SIZE REPLY_SIZE
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter_ns
from typing import Literal

import numpy as np

from models.tensors import Sample
from tests.bench.measure import typical_us
from tests.bench.setting import NotMeasured

Kind = Literal["bytes", "list"]
_START_S = 30.0


def serve_bytes(listening: socket.socket, size: int, reply: bytes) -> None:
    """Answer every `size` bytes with the reply."""
    connection, _ = listening.accept()
    with connection:
        buffer = memoryview(bytearray(size))
        while _fill(connection, buffer):
            connection.sendall(reply)


def serve_list(listening: socket.socket, reply: bytes) -> None:
    """Answer every connection's JSON with the reply, once it has become a tensor."""
    while True:
        connection, _ = listening.accept()
        with connection:
            parts = []
            while part := connection.recv(1 << 16):
                parts.append(part)
            asked = json.loads(b"".join(parts))
            tensor = np.array(asked["data"], dtype=asked["dtype"])
            assert tensor.shape == tuple(asked["shape"])
            connection.sendall(reply)


class BytesCaller:
    """The floor's client: one connection, kept."""

    def __init__(self, path: Path, size: int, reply_size: int) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._asked = bytes(size)
        self._buffer = memoryview(bytearray(reply_size))

    def round_trip_us(self, runs: int) -> float:
        took = []
        for _ in range(runs):
            begun = perf_counter_ns()
            self._socket.sendall(self._asked)
            _fill(self._socket, self._buffer)
            took.append(perf_counter_ns() - begun)
        return typical_us(took)

    def close(self) -> None:
        self._socket.close()


class ListCaller:
    """The control's client."""

    def __init__(self, path: Path, raw: Sample) -> None:
        self._path = str(path)
        self._raw = raw

    def round_trip_us(self, runs: int) -> float:
        took = []
        for _ in range(runs):
            begun = perf_counter_ns()
            raw = self._raw
            asked = {"dtype": str(raw.dtype), "shape": raw.shape, "data": raw.tolist()}
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(self._path)
                connection.sendall(json.dumps(asked).encode())
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass
            took.append(perf_counter_ns() - begun)
        return typical_us(took)


@contextlib.contextmanager
def serving(kind: Kind, path: Path, size: int, reply_size: int) -> Iterator[None]:
    """One of the servers as a process of its own."""
    words = [kind, str(path), str(size), str(reply_size)]
    server = subprocess.Popen([sys.executable, "-P", "-m", "tests.bench.plain_socket", *words])
    try:
        end = time.monotonic() + _START_S
        while not path.exists():
            if server.poll() is not None or time.monotonic() > end:
                raise NotMeasured(f"the plain {kind} server did not start")
            time.sleep(0.01)
        yield
    finally:
        server.kill()
        server.wait()


def main() -> None:
    kind, path, size, reply_size = sys.argv[1:]
    # Bound beside and moved: a path that exists is one that listens.
    fresh = f"{path}.new"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(fresh)
        listening.listen(16)
        os.rename(fresh, path)
        reply = bytes(int(reply_size))
        if kind == "bytes":
            serve_bytes(listening, int(size), reply)
        else:
            serve_list(listening, reply)


def _fill(connection: socket.socket, buffer: memoryview) -> bool:
    """Receive until the buffer is full; False when the other side is gone."""
    filled = 0
    while filled < len(buffer):
        count = connection.recv_into(buffer[filled:])
        if count == 0:
            return False
        filled += count
    return True


if __name__ == "__main__":
    main()
