"""Stands between a device and its gateway or broker, and keeps every byte that passes."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Self


class RecordingProxy:
    """Forwards connections to an address until the block ends."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._streams: list[bytearray] = []
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    @property
    def streams(self) -> list[bytes]:
        """What each connection carried, each way by itself."""
        return [bytes(stream) for stream in self._streams]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for one in (self._server, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in (self._server, *self._open):
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._target, 5.0)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            self._open += [near, far]
            for start, end in ((near, far), (far, near)):
                stream = bytearray()
                self._streams.append(stream)
                self._start(partial(self._carry, start, end, stream))

    def _carry(self, start: socket.socket, end: socket.socket, kept: bytearray) -> None:
        with suppress(OSError):
            while data := start.recv(65536):
                kept += data
                end.sendall(data)
        with suppress(OSError):
            end.shutdown(socket.SHUT_WR)

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()
