"""A TCP proxy that can go deaf: one port per device, HTTP and MQTT through the same port.

During a cut it swallows bytes in both directions and closes nothing: no FIN, no RST, which is
what a lost radio link looks like. A connection that was open in a cut, or was opened in one,
stays dead for ever; connections made afterwards work. That is the hard case for a device: only
its own timeouts can tell it that the old connection will never speak again.
"""

import asyncio
import contextlib
import socket
from dataclasses import dataclass

from sim.meter import Meter, Tally, meter_for

_CHUNK = 64 << 10


@dataclass(frozen=True)
class Upstream:
    """Where a device's traffic goes: HTTP to the gateway, MQTT to the broker."""

    host: str
    http_port: int
    mqtt_port: int


class FaultProxy:
    """The port of one device; `tally` holds what it sent upward, swallowed bytes included."""

    def __init__(self, upstream: Upstream) -> None:
        self.tally = Tally()
        self._upstream = upstream
        self._server: asyncio.Server | None = None
        self._cut = False
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, port: int = 0) -> int:
        """Listen on loopback and return the port."""
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", port)
        address: tuple[str, int] = self._server.sockets[0].getsockname()
        return address[1]

    def cut(self) -> None:
        """Swallow everything from now on; every open connection is dead from here."""
        self._cut = True
        for connection in self._connections:
            connection.dead = True

    def repair(self) -> None:
        """Let new connections through again."""
        self._cut = False

    async def close(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(reader, writer, dead=self._cut)
        self._connections.add(connection)
        try:
            await connection.carry(self._upstream, self.tally)
        finally:
            self._connections.discard(connection)
            connection.close()


class _Connection:
    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, dead: bool
    ) -> None:
        self.dead = dead
        self._device = (reader, writer)
        self._cloud: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def carry(self, upstream: Upstream, tally: Tally) -> None:
        reader, writer = self._device
        _no_delay(writer)
        with contextlib.suppress(OSError):
            first = await reader.read(_CHUNK)
            if not first:
                return
            meter = meter_for(first, tally)
            meter.feed(first)
            if not self.dead:
                is_mqtt = first[:1] == b"\x10"
                port = upstream.mqtt_port if is_mqtt else upstream.http_port
                self._cloud = await asyncio.open_connection(upstream.host, port)
                _no_delay(self._cloud[1])
                # A cut may have begun while this connection was being made.
                if not self.dead:
                    self._cloud[1].write(first)
                down = asyncio.create_task(self._down(self._cloud[0], writer))
                try:
                    await self._up(reader, self._cloud[1], meter)
                finally:
                    down.cancel()
                    await asyncio.gather(down, return_exceptions=True)
            else:
                await self._up(reader, None, meter)

    async def _up(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None, meter: Meter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                meter.feed(data)
                if writer is not None and not self.dead:
                    writer.write(data)
                    await writer.drain()
        # The device hung up, or reset. On a dead link the cloud never hears of it while the proxy
        # lives.
        if self.dead:
            await asyncio.Event().wait()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                if not self.dead:
                    writer.write(data)
                    await writer.drain()
            if not self.dead:
                writer.close()

    def close(self) -> None:
        self._device[1].close()
        if self._cloud is not None:
            self._cloud[1].close()


def _no_delay(writer: asyncio.StreamWriter) -> None:
    peer: socket.socket = writer.get_extra_info("socket")
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
