"""A transport that tells a third party how its exchanges went.

Heartbeats, questions and batches all travel the same link: each reply and each silence is evidence.
"""

from collections.abc import Callable

from sync.errors import LinkError, LinkTimeout, MessageTooLarge, WireError
from sync.transport.base import Transport
from sync.wire import codec, v1


class Overheard:
    """Stands before a transport; what it carries is not changed."""

    def __init__(
        self,
        transport: Transport,
        *,
        on_reply: Callable[[v1.Up, v1.Down], None],
        on_silence: Callable[[v1.Up, float], None],
        on_failure: Callable[[], None],
        now: Callable[[], float],
        on_send: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._transport = transport
        self._on_reply = on_reply
        self._on_silence = on_silence
        self._on_failure = on_failure
        self._now = now
        self._on_send = on_send

    @property
    def name(self) -> str:
        return self._transport.name

    @property
    def connected(self) -> bool:
        return self._transport.connected

    async def open(self, on_notice: Callable[[v1.Notice], None]) -> None:
        await self._transport.open(on_notice)

    async def exchange(self, message: v1.Up, *, timeout_s: float) -> v1.Down:
        asked_at = self._now()
        self._on_send(_size(message))
        try:
            reply = await self._transport.exchange(message, timeout_s=timeout_s)
        except MessageTooLarge:
            raise  # that is the message's fault
        except (LinkTimeout, WireError):
            # What is no reply is as good as none: something else than our gateway may be there.
            self._on_silence(message, asked_at)
            raise
        except LinkError:
            self._on_failure()
            raise
        self._on_reply(message, reply)
        return reply

    async def close(self) -> None:
        await self._transport.close()


_HEAD = 64
"""About what stands around the content of a long message."""


def _size(message: v1.Up) -> int:
    """Bytes of a message, without what the transport puts around it."""
    match message:
        case v1.Batch(body=body):
            return _HEAD + len(body)
        case v1.Escalation(inputs=inputs):
            return _HEAD + sum(len(tensor.data) for tensor in inputs)
        case _:
            return len(codec.encode(message))
