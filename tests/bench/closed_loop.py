"""A closed-loop HTTP/1.1 client without an HTTP library: cheap, and the same for every server.

Each of its connections sends the next request when it has the answer to the last. Every request has
an id of its own, as every question of a device has: a gateway remembers ids it has answered.
"""

import asyncio
import itertools
from collections.abc import Callable
from typing import cast

import uvloop
from msgspec import Struct

from tests.bench.setting import NotMeasured

ID = "id-goes-here"
"""Stands in a request where its id belongs; ids are as long as this."""
_LEAST = 20
_PATIENCE_S = 30.0
_WARM_S = 0.15
_ids = itertools.count()


class Request(Struct, frozen=True):
    """The bytes of a request around its ids."""

    pieces: tuple[bytes, ...]

    def fresh(self) -> bytes:
        """The request under an id that was never used in this run."""
        return (b"%0*d" % (len(ID), next(_ids))).join(self.pieces)


class Load(Struct, frozen=True):
    """What was answered while it was counted, and what the server used for it."""

    answered: int
    took_s: float
    cpu_us: float
    """Of the server, per answered request."""
    last: bytes
    """One whole answer, head included."""


def request(path: str, headers: dict[str, str], body: bytes) -> Request:
    """A POST; `ID` in headers and body stands for the id."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    whole = "\r\n".join([*lines, "", ""]).encode() + body
    return Request(tuple(whole.split(ID.encode())))


def load(
    port: int, asked: Request, *, concurrency: int, seconds: float, cpu_s: Callable[[], float]
) -> Load:
    """Keep that many requests open and count for so long. Raises `NotMeasured`."""
    return uvloop.run(_load(port, asked, concurrency, seconds, cpu_s))


class _Tally:
    """What all connections of one load share."""

    def __init__(self, asked: Request) -> None:
        self.asked = asked
        self.answered = 0
        self.last = b""
        self.over = False
        self.trouble: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def broken(self, why: str) -> None:
        if not self.over and not self.trouble.done():
            self.trouble.set_result(why)


class _Connection(asyncio.Protocol):
    """Sends, waits for the whole answer, sends again."""

    def __init__(self, tally: _Tally) -> None:
        self._tally = tally
        self._got = b""
        self._wanted = 0
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's derive from nothing
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._got += data
        if not self._wanted:
            head, found, _ = self._got.partition(b"\r\n\r\n")
            if not found:
                return
            _, named, length = head.lower().partition(b"content-length:")
            if not head.startswith(b"HTTP/1.1 200 ") or not named:
                self._tally.broken(f"the server answered {self._got[:300]!r}")
                return
            self._wanted = len(head) + len(found) + int(length.split(b"\r\n")[0])
        if len(self._got) >= self._wanted:
            self._tally.answered += 1
            self._tally.last = self._got
            if not self._tally.over:
                self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        self._tally.broken(f"the server closed a connection ({error})")

    def close(self) -> None:
        self._transport.close()

    def _ask(self) -> None:
        self._got, self._wanted = b"", 0
        self._transport.write(self._tally.asked.fresh())


async def _load(
    port: int, asked: Request, concurrency: int, seconds: float, cpu_s: Callable[[], float]
) -> Load:
    loop = asyncio.get_running_loop()
    tally = _Tally(asked)
    connections = [
        (await loop.create_connection(lambda: _Connection(tally), "127.0.0.1", port))[1]
        for _ in range(concurrency)
    ]
    try:
        await _unless_broken(tally, _WARM_S)
        answered, used_s, begun = tally.answered, cpu_s(), loop.time()
        await _unless_broken(tally, seconds)
        while tally.answered < answered + _LEAST and loop.time() < begun + _PATIENCE_S:
            await _unless_broken(tally, seconds)
        answered, used_s = tally.answered - answered, cpu_s() - used_s
        took_s = loop.time() - begun
    finally:
        tally.over = True
        for connection in connections:
            connection.close()
    if answered < _LEAST:
        raise NotMeasured(f"the server answered {answered} requests in {took_s:.0f} s")
    return Load(answered, took_s, used_s / answered * 1e6, tally.last)


async def _unless_broken(tally: _Tally, seconds: float) -> None:
    await asyncio.wait((tally.trouble,), timeout=seconds)
    if tally.trouble.done():
        raise NotMeasured(tally.trouble.result())
