"""The fault proxy behaves like a lost radio link: silence, and no word that it is over."""

import asyncio
import socket
import struct

import pytest

from sim.proxy import FaultProxy, Upstream


async def echo_server() -> asyncio.Server:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()

    return await asyncio.start_server(echo, "127.0.0.1", 0)


async def ask(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], text: bytes) -> bytes:
    connection[1].write(text)
    return await asyncio.wait_for(connection[0].read(100), 0.3)


def test_a_connection_open_in_a_cut_stays_dead_and_a_new_one_works() -> None:
    async def story() -> None:
        server = await echo_server()
        upstream_port: int = server.sockets[0].getsockname()[1]
        proxy = FaultProxy(Upstream("127.0.0.1", upstream_port, upstream_port))
        port = await proxy.start()
        before = await asyncio.open_connection("127.0.0.1", port)
        assert await ask(before, b"GET hello") == b"GET hello"

        proxy.cut()
        with pytest.raises(TimeoutError):
            await ask(before, b"GET into the void")
        during = await asyncio.open_connection("127.0.0.1", port)
        with pytest.raises(TimeoutError):
            await ask(during, b"GET anybody")

        proxy.repair()
        for dead in (before, during):
            with pytest.raises(TimeoutError):
                await ask(dead, b"GET still dead")
            assert not dead[0].at_eof()
        after = await asyncio.open_connection("127.0.0.1", port)
        assert await ask(after, b"GET again") == b"GET again"

        for connection in (before, during, after):
            connection[1].close()
        await proxy.close()
        server.close()

    asyncio.run(story())


def test_the_cloud_never_hears_that_a_device_gave_up_on_a_dead_connection() -> None:
    async def story() -> None:
        told = asyncio.Event()

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(1000):
                writer.write(b"heard")
            told.set()
            writer.close()

        server = await asyncio.start_server(listen, "127.0.0.1", 0)
        upstream_port: int = server.sockets[0].getsockname()[1]
        proxy = FaultProxy(Upstream("127.0.0.1", upstream_port, upstream_port))
        port = await proxy.start()
        connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for connection in connections:
            assert await ask(connection, b"GET hello") == b"heard"
        proxy.cut()
        connections[0][1].close()
        # A reset instead of a farewell: what a device does that has no patience left.
        sock: socket.socket = connections[1][1].get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connections[1][1].transport.abort()
        await asyncio.sleep(0.3)
        assert not told.is_set()
        await proxy.close()
        server.close()

    asyncio.run(story())
