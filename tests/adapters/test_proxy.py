"""The fault proxy behaves like a lost radio link: silence, and no word that it is over."""

import asyncio

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
