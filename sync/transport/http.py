"""HTTP from a device: blocking senders in threads, and what their replies mean.

Live escalations have threads of their own, so that a slow batch never holds one up. No proxy is
taken from the environment. A gateway cannot push over HTTP: there are no notices, a beat asks.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from urllib.parse import quote, urlsplit

from sync.errors import LinkDown, LinkTimeout, MessageTooLarge
from sync.runner import ThreadRunner
from sync.transport import tls
from sync.transport.kept import KeptConnections, Reply, Request
from sync.transport.status import refusal
from sync.transport.tls import TlsFiles
from sync.wire import codec, live, oip, v1

CONTENT_TYPE = "application/vnd.longstop"
_LIVE_THREADS = 8
_STEADY_THREADS = 3


class HttpTransport:
    """The link of a device that talks HTTP to its gateway."""

    name = "http"

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        max_bytes: int = codec.MAX_MESSAGE,
        files: TlsFiles | None = None,
    ) -> None:
        """`files` count where the address begins with https.

        Raises `ValueError` for an address that is none, `SettingsError` for a file.
        """
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                f"gateway address {base_url!r} is not of the form http://host:port or https://…"
            )
        secured = tls.context(files or TlsFiles()) if parts.scheme == "https" else None
        self._connections = KeptConnections(
            parts.hostname,
            parts.port or (443 if secured else 80),
            max_reply=max_bytes,
            secured=secured,
        )
        self._prefix = parts.path.rstrip("/")
        self._token = token
        self._max_bytes = max_bytes
        self._connected = False
        self._closing: asyncio.Future[None] | None = None
        # Threads start with the first question in each lane.
        self._live = ThreadRunner("http-live", threads=_LIVE_THREADS)
        self._steady = ThreadRunner("http-steady", threads=_STEADY_THREADS)

    @property
    def connected(self) -> bool:
        return self._connected

    @property
    def resent(self) -> int:
        """Messages sent a second time within their exchange, ever."""
        return self._connections.resent

    async def open(self, on_notice: Callable[[v1.Notice], None]) -> None:
        self._closing = asyncio.get_running_loop().create_future()

    async def exchange(self, message: v1.Up, *, timeout_s: float) -> v1.Down:
        if self._closing is None or self._closing.done():
            raise LinkDown("this link is not open")
        request = self._request(message)
        if len(request.body) > self._max_bytes:
            raise MessageTooLarge(f"message of {len(request.body)} bytes is over {self._max_bytes}")
        lives = isinstance(message, v1.Escalation) and message.timeout_ms > 0
        lane = self._live if lives else self._steady
        until = time.monotonic() + timeout_s
        asking = asyncio.ensure_future(lane.submit(partial(self._connections.ask, request, until)))
        waits: list[asyncio.Future[Reply] | asyncio.Future[None]] = [asking, self._closing]
        try:
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if self._closing.done():
                raise LinkDown("the link was closed")
            if not asking.done():
                raise LinkTimeout(f"no reply within {timeout_s:g} s")
            reply = asking.result()
        except LinkDown:
            self._connected = False
            raise
        finally:
            _drop(asking)
        self._connected = True
        return _read(message, reply)

    async def close(self) -> None:
        if self._closing is not None and not self._closing.done():
            self._closing.set_result(None)
        self._connected = False
        self._connections.close()
        # The threads wake by the broken connections; one that is still connecting, a little later.
        loop = asyncio.get_running_loop()
        for lane in (self._live, self._steady):
            await loop.run_in_executor(None, lane.close)

    def _request(self, message: v1.Up) -> Request:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": CONTENT_TYPE}
        if not isinstance(message, v1.Escalation):
            return Request(f"{self._prefix}/v1/up", headers, codec.encode(message))
        encoded = oip.encode_request(live.request_of(message))
        headers["Content-Type"] = "application/octet-stream"
        if encoded.header_length is not None:
            headers[oip.HEADER_LENGTH] = str(encoded.header_length)
        if message.request_id.isascii() and message.request_id.isprintable():
            headers[live.REQUEST_ID] = message.request_id  # the body says it too
        headers[live.DEADLINE_MS] = str(message.timeout_ms)
        headers[live.PACKAGE_VERSION] = message.version
        path = f"{self._prefix}/v2/models/{quote(message.task, safe='')}/infer"
        return Request(path, headers, encoded.body)


def _read(message: v1.Up, reply: Reply) -> v1.Down:
    if reply.status != 200:
        return refusal(reply.status, reply.headers, reply.body, time.time())
    if not isinstance(message, v1.Escalation):
        return codec.decode_down(reply.body)
    length = reply.headers.get(oip.HEADER_LENGTH.lower())
    header_length = int(length) if length is not None and length.isdecimal() else None
    return live.answer_of(oip.decode_response(reply.body, header_length))


def _drop(asking: "asyncio.Future[Reply]") -> None:
    """Nobody wants this answer any more, nor how it failed."""
    if asking.done() and not asking.cancelled():
        asking.exception()
    asking.cancel()
