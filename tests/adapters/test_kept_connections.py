"""Questions over kept-alive HTTP against servers that close when they like."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from sync.errors import LinkTimeout
from sync.transport.kept import KeptConnections, Request

BODY = b"x" * 200_000
WITH_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\nConnection: close\r\n\r\n" + BODY
UNTIL_CLOSED = b"HTTP/1.0 200 OK\r\n\r\n" + BODY
IN_CHUNKS = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n30d40\r\n"
    + BODY
    + b"\r\n0\r\n\r\n"
)
EMPTY = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"


class Closing:
    """Answers each connection's one question with fixed bytes, and closes it."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.asked = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.asked += 1
                while not connection.recv(65536).endswith(b"question"):
                    pass
                connection.sendall(self._answer)


@pytest.fixture(params=[WITH_LENGTH, UNTIL_CLOSED, IN_CHUNKS, EMPTY])
def server(request: pytest.FixtureRequest) -> Iterator[Closing]:
    closing = Closing(request.param)
    yield closing
    closing.close()


def test_a_server_that_closes_after_each_answer_is_asked_once_and_heard(server: Closing) -> None:
    connections = KeptConnections("127.0.0.1", server.port, max_reply=1 << 20)
    try:
        for _ in range(2):
            reply = connections.ask(Request("/", {}, b"question"), time.monotonic() + 5)
            assert reply.body == (BODY if reply.status == 200 else b"")
    finally:
        connections.close()

    assert server.asked == 2


def test_a_server_that_sends_a_byte_now_and_then_holds_its_sender_no_longer_than_allowed() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def trickle() -> None:
        connection, _ = listener.accept()
        with connection:
            for byte in WITH_LENGTH:
                if over.wait(0.4):
                    return
                with contextlib.suppress(OSError):
                    connection.sendall(bytes((byte,)))

    thread = threading.Thread(target=trickle)
    thread.start()
    connections = KeptConnections(*listener.getsockname(), max_reply=1 << 20)
    began = time.monotonic()
    try:
        with pytest.raises(LinkTimeout):
            connections.ask(Request("/", {}, b"question"), began + 1.5)
        assert time.monotonic() - began < 15, "not until its last byte"
    finally:
        over.set()
        connections.close()
        thread.join()
        listener.close()
