"""One blocking connection to a local socket: frames out, frames back, each by a given moment.

A large input is written to memory the worker lends to this connection, and only its place is sent.
The memory is kept as long as the connection. A worker that lends none gets it through the socket.
"""

import contextlib
import mmap
import os
import select
import socket
from collections import deque
from collections.abc import Sequence

from edge_agent.sdk import messages, wire
from edge_agent.sdk.call import Call, now
from edge_agent.sdk.errors import AgentUnavailable
from edge_agent.sdk.places import START
from edge_agent.sdk.wire import Frame, FrameReader

LENT_ABOVE = 64 << 10
"""Bytes of an input from which on memory is quicker than the socket."""
_SEND_BUFFER = 256 << 10
_RIGHTS = socket.CMSG_SPACE(4)
Bytes = bytes | bytearray | memoryview


class Broken(Exception):
    """The other side is gone; what was sent may or may not have been acted on."""


class Connection:
    """For one thread at a time. After `Broken` or `TimeoutError` it is good only for closing."""

    def __init__(self, path: str, *, age: int = 0) -> None:
        """Raises `NotListening` or `Broken`."""
        self.age = age
        self._reader = FrameReader()
        self._frames: deque[Frame] = deque()
        self._memory: mmap.mmap | None = None
        self._lends = True
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # A local connect never waits: it succeeds, or there is no room, or there is nobody.
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            self._socket.connect(path)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            self._socket.close()
            raise NotListening(path) from error
        except OSError as error:
            self._socket.close()
            raise Broken(f"connecting to {path}: {error}") from error
        self._incoming = select.poll()
        self._incoming.register(self._socket, select.POLLIN)

    def exchange(self, parts: Sequence[Bytes], until: float) -> Frame:
        """Send these bytes and wait for one frame. Raises `Broken`, `TimeoutError`."""
        self._send(parts, until)
        return self.receive(until)

    def ask(self, call: Call) -> None:
        """Send a request. Raises `Broken`, `TimeoutError`."""
        data = call.data
        if len(data) > LENT_ABOVE and (memory := self._lent(len(data), call.until)) is not None:
            memory[: len(data)] = data
            self._send((call.head(lent=True),), call.until)
        else:
            self._send((call.head(), data), call.until)

    def receive(self, until: float) -> Frame:
        """The next frame. Raises `Broken`, `TimeoutError`."""
        while not self._frames:
            self._wait(until)
            try:
                count = self._socket.recv_into(self._reader.buffer())
            except BlockingIOError:
                continue
            except OSError as error:
                raise Broken(str(error)) from error
            if count == 0:
                raise Broken("the agent closed the connection")
            self._frames.extend(self._reader.filled(count))
        return self._frames.popleft()

    def close(self) -> None:
        self._socket.close()

    def _wait(self, until: float) -> None:
        """Return when there is something to read. A reply that is here is taken, however late."""
        if not self._incoming.poll(max(0.0, until - now()) * 1000) and now() >= until:
            raise TimeoutError

    def _send(self, parts: Sequence[Bytes], until: float) -> None:
        try:
            sent = self._socket.sendmsg(parts)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise Broken(str(error)) from error
        if sent < sum(map(len, parts)):
            self._send_rest(parts, sent, until)

    def _send_rest(self, parts: Sequence[Bytes], sent: int, until: float) -> None:
        left = [memoryview(part) for part in parts if len(part)]
        room = select.poll()
        room.register(self._socket, select.POLLOUT)
        while True:
            while left and sent >= len(left[0]):
                sent -= len(left.pop(0))
            if not left:
                return
            left[0] = left[0][sent:]
            if not room.poll(max(0.0, until - now()) * 1000) and now() >= until:
                raise TimeoutError
            try:
                sent = self._socket.sendmsg(left)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                raise Broken(str(error)) from error

    def _lent(self, size: int, until: float) -> mmap.mmap | None:
        """Memory for an input of this size, where the worker lends it."""
        if self._memory is not None and len(self._memory) >= size:
            return self._memory
        if not self._lends:
            return None
        self._memory = None
        self._send((wire.head(messages.write_memory_asked(size)),), until)
        self._wait(until)
        try:
            data, rights, _, _ = self._socket.recvmsg(wire.MAX_META, _RIGHTS)
        except OSError as error:
            raise Broken(str(error)) from error
        if not data:
            raise Broken("the agent closed the connection")
        self._memory = mapped(rights)
        self._lends = self._memory is not None
        return self._memory


def mapped(rights: Sequence[tuple[int, int, bytes]]) -> mmap.mmap | None:
    """The memory that came with a message; None where none did."""
    memory = None
    for level, kind, data in rights:
        if (level, kind) != (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            continue
        for at in range(0, len(data) - 3, 4):
            descriptor = int.from_bytes(data[at : at + 4], "little")
            with contextlib.suppress(OSError, ValueError):
                memory = mmap.mmap(descriptor, 0)
            os.close(descriptor)
    return memory


class NotListening(Exception):
    """Nobody listens at this path."""

    def __init__(self, path: str) -> None:
        super().__init__(f"nobody listens at {path}")
        self.path = path

    def as_error(self) -> AgentUnavailable:
        return AgentUnavailable(f"no agent listens at {self.path}; {START}")
