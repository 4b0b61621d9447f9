"""The optional local HTTP listener: HTTP/1.1 on loopback for programs in other languages.

1. A request that a web page could have sent is refused, so that no site a person visits asks this
   device: by its `Origin` or `Sec-Fetch-Site`, and by a `Host` that is no name of this machine,
   which also ends DNS rebinding.
2. Sizes, connections and silence are bounded. A connection answers one request after the other.
3. What a request means is `oip.py`'s to say.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast

import httptools
from msgspec import Struct

MOST_CONNECTIONS = 64
SILENT_S = 60.0
MOST_HEADER_BYTES = 32 << 10
LOCAL = ("127.0.0.1", "localhost", "[::1]")
_REASONS = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}

log = logging.getLogger(__name__)


class HttpRequest(Struct, frozen=True):
    """One whole request; names of headers in small letters."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


class HttpResponse(Struct, frozen=True):
    """One whole answer."""

    status: int = 200
    body: bytes = b""
    media_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


Respond = Callable[[HttpRequest], Awaitable[HttpResponse]]
"""Never raises."""
Refuse = Callable[[int, str, str], HttpResponse]
"""Status, code and words to an answer."""


class HttpListener:
    """One listening address."""

    def __init__(self, respond: Respond, refuse: Refuse, *, most_body: int) -> None:
        self.respond = respond
        self.refuse = refuse
        self.most_body = most_body
        self.connections: set[HttpConnection] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; gives back the port, chosen by the system where it was 0. Raises `OSError`."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: HttpConnection(self), host.strip("[]"), port
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in tuple(self.connections):
            connection.close()


class HttpConnection(asyncio.Protocol):
    """One caller's connection."""

    def __init__(self, listener: HttpListener) -> None:
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._silence: asyncio.TimerHandle | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[HttpRequest, bool]] = deque()
        """Whole requests, and whether the connection stays after their answer."""
        self._trouble: tuple[int, str, str] | None = None
        self._in_head: float = 0
        """Bytes since the begin of a head that has not ended; the parser keeps them all."""

    # -- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if len(self._listener.connections) >= MOST_CONNECTIONS:
            words = f"{MOST_CONNECTIONS} connections are open; use fewer, or close idle ones"
            self._write(self._listener.refuse(503, "overloaded", words), keep=False)
            self.close()
            return
        self._listener.connections.add(self)
        self._watch()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._listener.connections.discard(self)
        if self._silence is not None:
            self._silence.cancel()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._watch()
        self._in_head += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._trouble = self._trouble or (400, "bad_request", f"this is no HTTP/1.1: {error}")
        if self._in_head > MOST_HEADER_BYTES and not self._waiting:
            self._too_much_head()
        if self._task is None and (self._waiting or self._trouble is not None):
            self._task = asyncio.get_running_loop().create_task(self._answer_all())
        elif self._task is not None and self._transport is not None and self._waiting:
            self._transport.pause_reading()  # asked ahead of our answers

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # -- httptools

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body = bytearray()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        head = len(self._url) + sum(len(name) + len(it) for name, it in self._headers.items())
        if head > MOST_HEADER_BYTES:
            self._too_much_head()
        self._in_head = -math.inf  # until the next one begins
        if self._headers.get("expect", "").lower() == "100-continue" and self._transport:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if len(self._body) + len(body) > self._listener.most_body:
            words = f"a body has at most {self._listener.most_body} bytes; send less"
            self._trouble = (413, "input_too_large", words)
        elif self._trouble is None:
            self._body += body

    def on_message_complete(self) -> None:
        if self._trouble is not None:
            return
        try:
            url = httptools.parse_url(self._url)
        except httptools.HttpParserInvalidURLError as error:
            self._trouble = (400, "bad_request", f"no address: {error}")
            return
        request = HttpRequest(
            self._parser.get_method().decode(),
            (url.path or b"/").decode("latin-1"),
            (url.query or b"").decode("latin-1"),
            self._headers,
            bytes(self._body),
        )
        self._body, self._in_head = bytearray(), 0
        self._waiting.append((request, self._parser.should_keep_alive()))

    # -- ours

    def _too_much_head(self) -> None:
        words = f"headers have at most {MOST_HEADER_BYTES} bytes"
        self._trouble = self._trouble or (431, "bad_request", words)

    def _watch(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
        self._silence = asyncio.get_running_loop().call_later(SILENT_S, self._too_silent)

    def _too_silent(self) -> None:
        if self._task is None:
            self.close()
        else:
            self._watch()

    async def _answer_all(self) -> None:
        keep = True
        while self._waiting and keep:
            request, keep = self._waiting.popleft()
            response = self._foreign(request.headers) or await self._listener.respond(request)
            self._write(response, keep=keep)
        self._task = None
        if self._trouble is not None and keep:
            self._write(self._listener.refuse(*self._trouble), keep=False)
        if self._trouble is not None or not keep:
            self.close()
        elif self._transport is not None:
            self._transport.resume_reading()

    def _foreign(self, headers: dict[str, str]) -> HttpResponse | None:
        """Rule 1."""
        host = headers.get("host", "").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        site = headers.get("sec-fetch-site", "none")
        if name in LOCAL and "origin" not in headers and site == "none":
            return None
        return self._listener.refuse(
            403,
            "forbidden",
            "this listener answers programs of this machine and no web page:"
            f" ask it as {LOCAL[0]}, without Origin",
        )

    def _write(self, response: HttpResponse, *, keep: bool) -> None:
        if self._transport is None:
            return
        head = [
            f"HTTP/1.1 {response.status} {_REASONS.get(response.status, 'Other')}",
            f"content-type: {response.media_type}",
            f"content-length: {len(response.body)}",
            "x-content-type-options: nosniff",
            *(f"{name}: {value}" for name, value in response.headers),
            *(() if keep else ("connection: close",)),
        ]
        self._transport.write("\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + response.body)
