"""One end of the socket pair between worker and supervisor: frames in, frames out."""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from edge_agent.cloud import handover
from edge_agent.sdk.wire import Frame, FrameReader, FrameTooLarge


class Line(asyncio.BufferedProtocol):
    """Calls `on_frame` for each frame that comes, and ends `gone` when the other side is gone."""

    def __init__(self, on_frame: Callable[[Frame], None]) -> None:
        self._on_frame = on_frame
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, end: socket.socket, on_frame: Callable[[Frame], None]) -> "Line":
        """Take over this end of the pair."""
        end.setblocking(False)
        _, line = await asyncio.get_running_loop().create_unix_connection(
            lambda: cls(on_frame), sock=end
        )
        return line

    @property
    def unsent_bytes(self) -> int:
        """What waits in this process for the other side to read."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def send(
        self,
        message: handover.FromWorker | handover.ToWorker,
        body: bytes | bytearray | memoryview = b"",
    ) -> None:
        """Say something; into the void when the other side is gone."""
        if self._transport is not None:
            self._transport.write(handover.frame(message, body))

    async def close(self) -> None:
        """Send what is unsent, then close."""
        if self._transport is not None:
            self._transport.close()
        await self.gone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if not self.gone.done():
            self.gone.set_result(None)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.buffer()

    def buffer_updated(self, count: int) -> None:
        try:
            for frame in self._reader.filled(count):
                self._on_frame(frame)
        except FrameTooLarge:
            # Both ends are ours, so this is a damaged stream: nothing after it can be found.
            if self._transport is not None:
                self._transport.abort()
