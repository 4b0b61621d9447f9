"""What a question really takes on a wire is no more than the budget counts for it."""

import asyncio
import contextlib

from edge_agent.cloud.budget import ENVELOPE
from sync.errors import LinkError
from sync.transport.http import HttpTransport
from sync.wire import codec, v1

LONGEST = 63
REPLY = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"date: Fri, 20 Nov 2026 12:00:00 GMT\r\nserver: uvicorn\r\n\r\n%s"
)


def question(size: int) -> v1.Escalation:
    tensor = v1.Tensor("i" * LONGEST, "FP32", (size // 4,), bytes(size))
    return v1.Escalation("d" * LONGEST, "r" * 48, "t" * LONGEST, "1.0.0-rc.1", 30_000, (tensor,))


async def sent_over_http(asked: v1.Escalation) -> int:
    """Bytes of one request, heads and all."""
    heard = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        head = await reader.readuntil(b"\r\n\r\n")
        heard += len(head)
        lengths = [line for line in head.lower().split(b"\r\n") if b"content-length" in line]
        body = await reader.readexactly(int(lengths[0].split(b":")[1]))
        heard += len(body)
        writer.write(REPLY % (2, b"{}"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport = HttpTransport(f"http://127.0.0.1:{port}", "k" * 64)
    await transport.open(lambda _: None)
    with contextlib.suppress(LinkError, Exception):  # what it makes of the reply is not asked here
        await transport.exchange(asked, timeout_s=10)
    await transport.close()
    server.close()
    return heard


def test_over_http_with_the_longest_names_there_is_room_for_the_answer() -> None:
    for size in (24, 4096, 150_000):
        asked = question(size)
        heads = asyncio.run(sent_over_http(asked)) - size
        answered = v1.Escalated(asked.request_id, asked.task, "l" * LONGEST, 0.5, "1.0.0-rc.1", 100)
        assert heads > 0
        assert heads + len(codec.encode(answered)) + len(REPLY) <= ENVELOPE


def test_over_mqtt_it_is_less() -> None:
    asked = question(4096)
    topic = len(f"v1/default/up/{'d' * LONGEST}/esc") + 8 + 5
    assert len(codec.encode(asked)) - 4096 + topic <= ENVELOPE
