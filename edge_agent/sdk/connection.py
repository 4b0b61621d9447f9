"""One blocking connection to a local socket: a frame out, a frame back, both by a given moment."""

import socket
from collections.abc import Sequence

from edge_agent.sdk.call import now
from edge_agent.sdk.errors import AgentUnavailable
from edge_agent.sdk.places import START
from edge_agent.sdk.wire import Frame, FrameReader

Bytes = bytes | bytearray | memoryview


class Broken(Exception):
    """The other side is gone; what was sent may or may not have been acted on."""


class Connection:
    """For one thread at a time. After `Broken` or `TimeoutError` it is good only for closing."""

    def __init__(self, path: str, *, age: int = 0) -> None:
        """Raises `NotListening` or `Broken`."""
        self.age = age
        self._reader = FrameReader()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # A local connect never waits: it succeeds, or there is no room, or there is nobody.
            self._socket.setblocking(False)
            self._socket.connect(path)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            self._socket.close()
            raise NotListening(path) from error
        except OSError as error:
            self._socket.close()
            raise Broken(f"connecting to {path}: {error}") from error

    def exchange(self, parts: Sequence[Bytes], until: float) -> Frame:
        """Send these bytes and wait for one frame. Raises `Broken`, `TimeoutError`."""
        try:
            self._send(parts, until)
            return self._receive(until)
        except TimeoutError:
            raise
        except OSError as error:
            raise Broken(str(error)) from error

    def close(self) -> None:
        self._socket.close()

    def _send(self, parts: Sequence[Bytes], until: float) -> None:
        left = [memoryview(part) for part in parts if len(part)]
        while left:
            self._allow(until)
            sent = self._socket.sendmsg(left)
            while left and sent >= len(left[0]):
                sent -= len(left.pop(0))
            if sent:
                left[0] = left[0][sent:]

    def _receive(self, until: float) -> Frame:
        while True:
            self._allow(until)
            count = self._socket.recv_into(self._reader.buffer())
            if count == 0:
                raise Broken("the agent closed the connection")
            if frames := self._reader.filled(count):
                return frames[0]

    def _allow(self, until: float) -> None:
        left = until - now()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)


class NotListening(Exception):
    """Nobody listens at this path."""

    def __init__(self, path: str) -> None:
        super().__init__(f"nobody listens at {path}")
        self.path = path

    def as_error(self) -> AgentUnavailable:
        return AgentUnavailable(f"no agent listens at {self.path}; {START}")
