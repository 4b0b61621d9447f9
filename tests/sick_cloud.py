"""What stands between a device and its gateway on a bad day: one port each for HTTP and MQTT.

Faults are named by what they do. Those of `TRANSPORT` meet every connection, those of `QUESTIONS`
only live questions and what comes back for them, so that heartbeats say all is well. As a program
(`python -m tests.sick_cloud HTTP MQTT`) it prints its two ports and obeys one word a line.
"""

import asyncio
import contextlib
import random
import socket
import struct
import sys
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Self

HEALTHY = "none"
TRANSPORT = (
    "refuse",
    "black_hole",
    "half_open",
    "reset",
    "server_error",
    "slow_loris",
    "garbage",
    "portal",
)
QUESTIONS = ("late", "hang", "busy", "other_request", "twice")
LATE_S = 1.5
BUSY_S = 2
_FOR_EVER_S = 3600.0
_PORTAL = b"<html>Please log in to use this network</html>"


class SickCloud:
    """Passes on what comes, as the fault of the moment has it. Lives in one event loop."""

    def __init__(self, http: int, mqtt: int = 0) -> None:
        self._upstream = {"http": http, "mqtt": mqtt}
        self._fault = {"http": HEALTHY, "mqtt": HEALTHY}
        self._servers: dict[str, asyncio.Server] = {}
        self._open: dict[str, set[asyncio.Task[None]]] = {"http": set(), "mqtt": set()}
        self._earlier = b""
        self._chance = random.Random(7)
        self.ports = {"http": 0, "mqtt": 0}
        self.questions = 0
        """Questions that came in, whatever became of them."""

    async def start(self) -> None:
        for kind, upstream in self._upstream.items():
            if upstream:
                await self._listen(kind)

    async def close(self) -> None:
        for kind in self._servers:
            await self._shut(kind)

    async def be(self, fault: str, *kinds: str) -> None:
        """From now on, behave so on these ports (all). Connections of before meet it as well."""
        for kind in kinds or tuple(self._servers):
            before, self._fault[kind] = self._fault[kind], fault
            if fault == "refuse":
                await self._shut(kind)
            elif before == "refuse":
                await self._listen(kind)

    async def _listen(self, kind: str) -> None:
        serve = self._serve_http if kind == "http" else self._serve_mqtt

        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(_until_closed(serve(reader, writer), writer))
            self._open[kind].add(task)
            task.add_done_callback(self._open[kind].discard)

        server = await asyncio.start_server(accepted, "127.0.0.1", self.ports[kind])
        self._servers[kind] = server
        self.ports[kind] = server.sockets[0].getsockname()[1]

    async def _shut(self, kind: str) -> None:
        self._servers[kind].close()
        for task in tuple(self._open[kind]):
            task.cancel()
        await asyncio.gather(*self._open[kind], return_exceptions=True)

    # -- HTTP, question by question

    async def _serve_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self._gateway("http") as (from_gateway, to_gateway):
            while True:
                asked = await _message(reader)
                question = b" /v2/" in asked.partition(b"\r\n")[0]
                self.questions += question
                fault = self._fault["http"]
                if fault in QUESTIONS and not question:
                    fault = HEALTHY
                if fault in ("black_hole", "hang"):
                    await asyncio.sleep(_FOR_EVER_S)
                if fault in ("server_error", "busy"):
                    writer.write(_unavailable(fault))
                    continue
                to_gateway.write(asked)
                replied = await _message(from_gateway)
                await self._reply(writer, replied, fault, question=question)

    async def _reply(
        self, writer: asyncio.StreamWriter, replied: bytes, fault: str, *, question: bool
    ) -> None:
        match fault:
            case "half_open":
                await asyncio.sleep(_FOR_EVER_S)  # it was acted on, and nobody hears of it
            case "reset":
                writer.write(replied[: len(replied) // 2])
                await writer.drain()
                _reset(writer)
                raise ConnectionResetError
            case "slow_loris":
                for byte in replied:
                    writer.write(bytes((byte,)))
                    await writer.drain()  # ends where nobody reads any more
                    await asyncio.sleep(1)
            case "garbage":
                writer.write(self._chance.randbytes(300))
                raise ConnectionResetError
            case "portal":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(_PORTAL))
                writer.write(_PORTAL)
            case "late":
                await asyncio.sleep(LATE_S)
                writer.write(replied)
            case "other_request":
                writer.write(self._earlier or replied)
            case "twice":
                writer.write(replied + replied)
            case _:
                if question:
                    self._earlier = replied
                writer.write(replied)

    # -- MQTT, byte by byte

    async def _serve_mqtt(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self._gateway("mqtt") as (from_broker, to_broker):
            up = asyncio.ensure_future(self._pass_on(reader, to_broker))
            try:
                await self._pass_on(from_broker, writer)
            finally:
                up.cancel()
                await asyncio.gather(up, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if self._fault["mqtt"] != HEALTHY:
                    await asyncio.sleep(_FOR_EVER_S)  # a connection that missed bytes stays dead
                if writer.is_closing():
                    return
                writer.write(data)
                await writer.drain()

    @asynccontextmanager
    async def _gateway(
        self, kind: str
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._upstream[kind])
        try:
            yield reader, writer
        finally:
            writer.close()


class SickCloudThread:
    """The same for tests that are not coroutines."""

    def __init__(self, http: int, mqtt: int = 0) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._cloud = SickCloud(http, mqtt)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._cloud.start())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._cloud.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def http(self) -> int:
        return self._cloud.ports["http"]

    @property
    def mqtt(self) -> int:
        return self._cloud.ports["mqtt"]

    @property
    def questions(self) -> int:
        return self._cloud.questions

    def be(self, fault: str, *kinds: str) -> None:
        self._do(self._cloud.be(fault, *kinds))

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(timeout=20)


async def _until_closed(serving: Coroutine[Any, Any, None], writer: asyncio.StreamWriter) -> None:
    try:
        await serving
    except (OSError, EOFError, asyncio.IncompleteReadError):
        pass  # somebody hung up
    finally:
        writer.close()


async def _message(reader: asyncio.StreamReader) -> bytes:
    """One whole request or reply."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    return head + await reader.readexactly(length)


def _unavailable(fault: str) -> bytes:
    if fault == "busy":
        return b"HTTP/1.1 429 Slow\r\nRetry-After: %d\r\nContent-Length: 0\r\n\r\n" % BUSY_S
    return b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\noops"


def _reset(writer: asyncio.StreamWriter) -> None:
    one: socket.socket = writer.get_extra_info("socket")
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _obey(http: int, mqtt: int) -> None:
    cloud = SickCloud(http, mqtt)
    await cloud.start()
    print(cloud.ports["http"], cloud.ports["mqtt"], flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        fault, *kinds = line.split()
        await cloud.be(fault, *kinds)
        print("ok", flush=True)
    await cloud.close()


if __name__ == "__main__":
    asyncio.run(_obey(int(sys.argv[1]), int(sys.argv[2])))
