"""The twin: messages carried by a function, encoded and decoded like on any other link.

The simulator's links and users' tests stand behind `carry`. Whatever it raises as a `LinkError` is
the link's doing; what it never returns ends at the timeout.
"""

import asyncio
from collections.abc import Awaitable, Callable

from sync.errors import LinkDown, LinkTimeout, MalformedMessage, MessageTooLarge
from sync.wire import codec, v1

Carry = Callable[[bytes], Awaitable[bytes]]


class MemoryTransport:
    """A link within one process."""

    name = "memory"

    def __init__(self, carry: Carry, *, max_bytes: int = codec.MAX_MESSAGE) -> None:
        self._carry = carry
        self._max_bytes = max_bytes
        self._on_notice: Callable[[v1.Notice], None] | None = None
        self._pending: set[asyncio.Task[bytes]] = set()
        self._connected = False

    @property
    def connected(self) -> bool:
        return self._connected

    async def open(self, on_notice: Callable[[v1.Notice], None]) -> None:
        self._on_notice = on_notice
        self._connected = True

    async def exchange(self, message: v1.Up, *, timeout_s: float) -> v1.Down:
        if self._on_notice is None:
            raise LinkDown("this link is not open")
        data = codec.encode(message)
        if len(data) > self._max_bytes:
            raise MessageTooLarge(f"message of {len(data)} bytes is over {self._max_bytes}")
        task = asyncio.ensure_future(self._carry(data))
        self._pending.add(task)
        try:
            done, _ = await asyncio.wait({task}, timeout=timeout_s)
            if not done:
                raise LinkTimeout(f"no reply within {timeout_s:g} s")
            if task.cancelled():
                raise LinkDown("the link was closed")
            reply = codec.decode_down(task.result())
        except LinkDown:
            self._connected = False
            raise
        finally:
            self._pending.discard(task)
            task.cancel()
        self._connected = True
        return reply

    async def close(self) -> None:
        self._on_notice = None
        self._connected = False
        for task in self._pending:
            task.cancel()

    def push(self, data: bytes) -> None:
        """The gateway's side says something unasked; lost where nobody has opened the link."""
        message = codec.decode_down(data)
        if not isinstance(message, v1.Notice):
            raise MalformedMessage(
                f"{type(message).__name__} is an answer; only a notice is pushed"
            )
        if self._on_notice is not None:
            self._on_notice(message)
