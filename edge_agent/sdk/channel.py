"""One asyncio connection to a local socket: a frame out, a frame back."""

import asyncio
import socket
from collections.abc import Sequence
from typing import cast

from edge_agent.sdk.call import now
from edge_agent.sdk.connection import Broken, Bytes, NotListening
from edge_agent.sdk.wire import Frame, FrameReader, FrameTooLarge


class Channel(asyncio.BufferedProtocol):
    """One exchange at a time. One that was cancelled leaves the channel good only for closing."""

    def __init__(self, age: int) -> None:
        self.age = age
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Frame] | None = None

    @classmethod
    async def open(cls, path: str, *, age: int = 0) -> "Channel":
        """Raises `NotListening` or `Broken`."""
        connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connecting.setblocking(False)
        try:
            # Left to asyncio, a full backlog would pass for a connection that is under way.
            connecting.connect(path)
            _, channel = await asyncio.get_running_loop().create_unix_connection(
                lambda: cls(age), sock=connecting
            )
        except (FileNotFoundError, ConnectionRefusedError) as error:
            connecting.close()
            raise NotListening(path) from error
        except OSError as error:
            connecting.close()
            raise Broken(f"connecting to {path}: {error}") from error
        return channel

    async def exchange(self, parts: Sequence[Bytes], until: float) -> Frame:
        """Send these bytes and wait for one frame.

        Raises `Broken`, `FrameTooLarge`, `TimeoutError`. A reply that is here when a busy loop
        comes to look is taken, though `until` may have passed: `asyncio.timeout` would drop it.
        """
        if self._transport is None or self._transport.is_closing():
            raise Broken("the agent closed the connection")
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        alarm = loop.call_later(max(0.0, until - now()), self._end, TimeoutError())
        self._transport.writelines([part for part in parts if len(part)])
        try:
            return await self._waiting
        finally:
            alarm.cancel()
            self._waiting = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.buffer()

    def buffer_updated(self, count: int) -> None:
        try:
            frames = self._reader.filled(count)
        except FrameTooLarge as error:
            self._end(error)
            self.close()
            return
        if frames and self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(frames[0])

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._end(Broken(str(error) if error else "the agent closed the connection"))

    def _end(self, error: Exception) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)
