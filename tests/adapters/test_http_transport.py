"""What is HTTP's own: kept connections, replies that trickle, statuses on the way back."""

import asyncio
import time
from collections.abc import Callable, Coroutine

import pytest

from sync.errors import LinkDown, LinkTimeout, MalformedMessage
from sync.transport.http import HttpTransport
from sync.wire import codec, v1
from tests.contracts.links import (
    TOKEN,
    Brokers,
    Gateway,
    HttpGateway,
    HttpWorld,
    batch,
    beat,
    escalation,
    reply_to,
    world,
)

Story = Callable[[HttpWorld], Coroutine[None, None, None]]


def run(story: Story) -> None:
    async def told() -> None:
        async with asyncio.timeout(30), world("http", Brokers()) as made:
            assert isinstance(made, HttpWorld)
            await story(made)

    asyncio.run(told())


def test_questions_one_after_another_share_a_connection() -> None:
    async def story(made: HttpWorld) -> None:
        before = made.server.connections
        for lo in range(1, 50, 5):
            await made.transport.exchange(batch(lo), timeout_s=5.0)
            await made.transport.exchange(escalation(f"r{lo}"), timeout_s=5.0)
        assert made.server.connections == before

    run(story)


def test_a_server_that_closes_after_each_answer_is_no_trouble() -> None:
    async def story(made: HttpWorld) -> None:
        made.server.closes_after_each = True
        for lo in range(1, 50, 5):
            reply = await made.transport.exchange(batch(lo), timeout_s=5.0)
            assert reply == reply_to(batch(lo))
            assert made.transport.connected

    run(story)


def test_a_server_that_hangs_up_on_a_kept_connection_is_asked_again_on_a_new_one() -> None:
    async def story(made: HttpWorld) -> None:
        made.server.hangs_up_on_next = True
        reply = await made.transport.exchange(batch(1), timeout_s=5.0)
        assert reply == reply_to(batch(1))
        assert not made.server.hangs_up_on_next

    run(story)


def test_a_status_comes_back_as_a_refusal() -> None:
    async def story(made: HttpWorld) -> None:
        problem = b'{"code": "token_revoked", "detail": "enrol again"}'
        made.server.answers_with = (401, {"content-type": "application/problem+json"}, problem)
        for message in (batch(1), escalation("live")):
            reply = await made.transport.exchange(message, timeout_s=5.0)
            assert isinstance(reply, v1.Refused)
            assert (reply.code, reply.message, reply.permanent) == (
                "token_revoked",
                "enrol again",
                False,
            )
        assert made.transport.connected, "a refusal was heard, so the link works"

    run(story)


def test_a_reply_over_the_limit_is_not_read_to_its_end() -> None:
    async def story(made: HttpWorld) -> None:
        made.server.answers_with = (200, {}, bytes(codec.MAX_MESSAGE + 100_000))
        with pytest.raises(MalformedMessage, match="is over"):
            await made.transport.exchange(beat(), timeout_s=10.0)

    run(story)


def test_a_reply_that_trickles_ends_with_the_timeout() -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        try:
            for byte in b"HTTP/1.1 200 fine\r\nX-Slow: " + b"x" * 1000:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.02)
        except OSError:
            return
        finally:
            writer.close()

    async def story() -> None:
        server = await asyncio.start_server(trickle, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        transport = HttpTransport(f"http://{host}:{port}", TOKEN)
        await transport.open(lambda _: None)
        began = time.monotonic()
        with pytest.raises(LinkTimeout):
            await transport.exchange(beat(), timeout_s=0.4)
        assert time.monotonic() - began < 0.8
        await transport.close()
        server.close()

    asyncio.run(story())


def test_no_proxy_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def story(made: HttpWorld) -> None:
        assert await made.transport.exchange(beat(), timeout_s=5.0) == reply_to(beat())

    run(story)


def test_an_address_may_have_a_path_of_its_own() -> None:
    async def story() -> None:
        server = HttpGateway(Gateway())
        server.answers_with = (200, {}, codec.encode(reply_to(beat())))
        port = await server.start()
        transport = HttpTransport(f"http://127.0.0.1:{port}/edge/", TOKEN)
        await transport.open(lambda _: None)
        assert await transport.exchange(beat(), timeout_s=5.0) == reply_to(beat())
        assert server.paths == ["/edge/v1/up"]
        await transport.close()
        await server.stop()

    asyncio.run(story())


@pytest.mark.parametrize("address", ["", "gateway:80", "mqtt://gateway", "ftp://x", "http://"])
def test_an_address_that_is_none_is_named_at_once(address: str) -> None:
    with pytest.raises(ValueError, match="http://host:port"):
        HttpTransport(address, TOKEN)


def test_nobody_listens_is_down_at_once() -> None:
    async def story() -> None:
        transport = HttpTransport("http://127.0.0.1:9", TOKEN)
        await transport.open(lambda _: None)
        began = time.monotonic()
        with pytest.raises(LinkDown, match=r"127\.0\.0\.1:9"):
            await transport.exchange(beat(), timeout_s=5.0)
        assert time.monotonic() - began < 1.0
        await transport.close()

    asyncio.run(story())
