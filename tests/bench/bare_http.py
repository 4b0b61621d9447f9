"""The floor of `./just bench serving`: a loop that does the same work with nothing around it.

Bytes in, tensor out of the end of the body, `session.run`, a canned answer. It looks at no path, no
token and no JSON, counts nothing and believes everything.

    python -P -m tests.bench.bare_http PACKAGE
"""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import uvloop
from msgspec import Struct

from models import package
from models.manifest import Role
from tests.bench.inputs import LABELS, bare_session
from tests.bench.setting import NotMeasured


class Bare(Struct, frozen=True):
    """A server that runs."""

    pid: int
    port: int


@contextlib.contextmanager
def bare_http(folder: Path) -> Iterator[Bare]:
    """Serve a package as a process of its own. Raises `NotMeasured`."""
    words = [sys.executable, "-P", "-m", "tests.bench.bare_http", str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline()
            if not port:
                raise NotMeasured("the bare server did not start")
            yield Bare(server.pid, int(port))
        finally:
            server.kill()


class _Model:
    """The package's edge file and the shape of what comes in."""

    def __init__(self, folder: Path) -> None:
        read = package.read(folder, Role.EDGE)
        self._spec = read.manifest.input
        self._session = bare_session(read.first_model)
        self._names = [self._session.get_outputs()[0].name], self._session.get_inputs()[0].name
        self.size = int(np.prod(self._spec.shape)) * np.dtype(self._spec.dtype).itemsize

    def answer(self, raw: bytes) -> bytes:
        sample = np.frombuffer(raw, self._spec.dtype).reshape(1, *self._spec.shape)
        outputs, given = self._names
        logits = self._session.run(outputs, {given: sample.astype(np.float32, copy=False)})[0]
        label = LABELS[int(logits.argmax())].encode()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(label), label)


class _Connection(asyncio.Protocol):
    """Reads whole requests of the bench's own client, one at a time."""

    def __init__(self, model: _Model) -> None:
        self._model = model
        self._got = bytearray()
        self._wanted = 0
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's derive from nothing

    def data_received(self, data: bytes) -> None:
        self._got += data
        if not self._wanted:
            head = self._got.find(b"\r\n\r\n")
            if head < 0:
                return
            at = self._got.find(b"Content-Length: ") + len("Content-Length: ")
            self._wanted = head + 4 + int(self._got[at : self._got.find(b"\r\n", at)])
        if len(self._got) >= self._wanted:
            raw = bytes(memoryview(self._got)[-self._model.size :])
            self._got, self._wanted = bytearray(), 0
            self._transport.write(self._model.answer(raw))


async def _serve(folder: Path) -> None:
    model = _Model(folder)
    server = await asyncio.get_running_loop().create_server(
        lambda: _Connection(model), "127.0.0.1", 0
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1])))
