"""The blocking half of HTTP: questions on kept-alive connections, each under a deadline.

1. A kept connection is used again only for a few seconds after it was last good: a server closes it
   about then, and a dead link shows itself by silence alone.
2. Once nothing is left to send, `SILENCE_S` without a byte ends a connection. Its question is asked
   once more on a new one, with all the time that is left. Messages are idempotent, so this is safe.
3. One silent connection discredits all kept ones.
4. The deadline holds for each single read, within a header line as well: a server that sends a byte
   a second is never silent, and would hold a sender thread for minutes.

Called from sender threads.
"""

import fcntl
import http.client
import io
import select
import socket
import ssl
import struct
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from sync.errors import LinkError, LinkTimeout, MalformedMessage
from sync.transport import tls
from sync.transport.names import Names

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

SILENCE_S = 2.0
KEEP_S = 4.0
CONNECT_S = 3.0
USER_TIMEOUT_MS = 3000
_CHUNK = 64 << 10
_GLANCE_S = 0.1


class Request(Struct, frozen=True):
    """One POST."""

    path: str
    headers: dict[str, str]
    body: bytes


class Reply(Struct, frozen=True):
    """What came back; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Silence(Exception):
    """Sent, and nothing came back in the time there was."""


class KeptConnections:
    """Connections to one address; over TLS where a context is given."""

    def __init__(
        self, host: str, port: int, *, max_reply: int, secured: ssl.SSLContext | None = None
    ) -> None:
        self._host = host
        self._port = port
        self._secured = secured
        self._names = Names(host)
        self._max_reply = max_reply
        self._lock = threading.Lock()
        self._kept: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._closed = False
        self.resent = 0
        """Requests sent a second time by themselves, ever."""

    def ask(self, request: Request, until: float) -> Reply:
        """The reply, by `until` on the monotonic clock. Raises `LinkDown`, `LinkTimeout`."""
        kept = self._take()
        try:
            return self._ask_on(kept or self._connect(until), request, until, SILENCE_S)
        except _Silence:
            self._forget_kept()
        except (OSError, http.client.HTTPException) as error:
            self._forget_kept()
            if kept is None:
                raise self._trouble(error, until) from error
        if time.monotonic() >= until:
            raise LinkTimeout(f"{self._host}:{self._port} is silent")
        with self._lock:
            self.resent += 1
        try:
            return self._ask_on(self._connect(until), request, until, None)
        except _Silence as error:
            raise LinkTimeout(f"{self._host}:{self._port} is silent") from error
        except (OSError, http.client.HTTPException) as error:
            raise self._trouble(error, until) from error

    def close(self) -> None:
        """Break every connection; whoever waits on one gets `LinkDown`."""
        with self._lock:
            self._closed = True
            for connection in self._all:
                connection.shut()
        self._forget_kept()

    def _trouble(self, error: Exception, until: float) -> LinkError:
        place = f"{self._host}:{self._port}"
        if isinstance(error, TimeoutError) and time.monotonic() >= until:
            return LinkTimeout(f"{place} was not connected to in the time there was")
        return tls.trouble(place, error)

    def _ask_on(
        self, connection: "_Connection", request: Request, until: float, patience_s: float | None
    ) -> Reply:
        try:
            reply = connection.ask(request, until, patience_s, self._max_reply)
        finally:
            with self._lock:
                if connection.good and not self._closed:
                    self._kept.append(connection)
                else:
                    self._all.discard(connection)
                    connection.close()
        return reply

    def _connect(self, until: float) -> "_Connection":
        timeout_s = min(CONNECT_S, max(until - time.monotonic(), 0.001))
        addresses = self._names.addresses(timeout_s)
        timeout_s = min(CONNECT_S, max(until - time.monotonic(), 0.001))
        connection = _Connection(self._host, self._port, timeout_s, self._secured, addresses)
        with self._lock:
            self._all.add(connection)
            if self._closed:
                connection.shut()
        return connection

    def _take(self) -> "_Connection | None":
        now = time.monotonic()
        with self._lock:
            while self._kept:
                connection = self._kept.pop()
                if now - connection.good_at < KEEP_S and connection.is_quiet():
                    return connection
                self._all.discard(connection)
                connection.close()
        return None

    def _forget_kept(self) -> None:
        with self._lock:
            for connection in self._kept:
                self._all.discard(connection)
                connection.close()
            self._kept.clear()


class _Connection:
    """One connection; `good` while another question may be asked on it."""

    def __init__(
        self,
        host: str,
        port: int,
        timeout_s: float,
        secured: ssl.SSLContext | None,
        addresses: Sequence[str],
    ) -> None:
        if secured is None:
            self._http = http.client.HTTPConnection(host, port, timeout=timeout_s)
        else:
            self._http = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=secured)
        # The name stays in the request's head and in the check of the server's identity.
        self._http._create_connection = partial(_dial, addresses)  # type: ignore[attr-defined]
        self._http.connect()  # sets TCP_NODELAY
        self._socket: socket.socket = self._http.sock
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        self.good = True
        self.good_at = time.monotonic()

    def ask(
        self, request: Request, until: float, patience_s: float | None, max_reply: int
    ) -> Reply:
        self.good = False
        try:
            self._socket.settimeout(_left_s(until, None))
            self._http.request("POST", request.path, request.body, request.headers)
            self._wait_for_first_byte(until, patience_s)
            self._http.response_class = partial(_reply_by, until, patience_s)  # type: ignore[assignment]  # is called, no more
            response = self._http.getresponse()
            body = bytearray()
            # A reply that announced the end has closed the socket with its last byte.
            while not response.isclosed():
                body += response.read(_CHUNK)
                if len(body) > max_reply:
                    raise MalformedMessage(f"reply to {request.path} is over {max_reply} bytes")
        except TimeoutError as error:
            raise _Silence from error
        self.good = not response.will_close
        self.good_at = time.monotonic()
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Reply(response.status, headers, bytes(body))

    def is_quiet(self) -> bool:
        """Whether nothing has come unasked: an end of file is something."""
        return not _readable(self._socket, 0.0)

    def shut(self) -> None:
        """Wake whoever waits on this connection in another thread."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # gone already

    def close(self) -> None:
        self._http.close()

    def _wait_for_first_byte(self, until: float, patience_s: float | None) -> None:
        sending = True
        silent_since = time.monotonic()
        while True:
            now = time.monotonic()
            # A large body on a thin link is progress, not silence, until the last byte has left.
            if sending and (sending := _unsent(self._socket) > 0):
                silent_since = now
            end = until if patience_s is None else min(until, silent_since + patience_s)
            if now >= end:
                raise _Silence
            if _readable(self._socket, min(end - now, _GLANCE_S) if sending else end - now):
                return


class _Reading(io.RawIOBase):
    """A socket to read from until a deadline; what `http.client` asks of one, and no more."""

    def __init__(self, one: socket.socket, until: float, patience_s: float | None) -> None:
        self._socket = one
        self._file = one.makefile("rb", buffering=0)  # outlives the connection, as they may
        self._until = until
        self._patience_s = patience_s

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        self._socket.settimeout(_left_s(self._until, self._patience_s))
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


def _reply_by(
    until: float, patience_s: float | None, one: socket.socket, method: str | None = None
) -> http.client.HTTPResponse:
    reading = _Reading(one, until, patience_s)
    return http.client.HTTPResponse(reading, method=method)  # type: ignore[arg-type]  # see there


def _left_s(until: float, patience_s: float | None) -> float:
    """How long the next blocking call may take. Raises `TimeoutError`."""
    left_s = until - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s if patience_s is None else min(left_s, patience_s)


def _dial(addresses: Sequence[str], place: tuple[str, int], *options: Any) -> socket.socket:
    """A connection to the first of these that takes one. Raises `OSError`."""
    trouble = OSError("no address")
    for address in addresses:
        try:
            return socket.create_connection((address, place[1]), *options)
        except OSError as error:
            trouble = error
    raise trouble


def _readable(one: socket.socket, wait_s: float) -> bool:
    poll = select.poll()
    poll.register(one, select.POLLIN)
    return bool(poll.poll(wait_s * 1000))


def _unsent(one: socket.socket) -> int:
    """Bytes the kernel has not had acknowledged by the other side's kernel."""
    (count,) = struct.unpack("i", fcntl.ioctl(one, termios.TIOCOUTQ, b"\0\0\0\0"))
    return int(count)
