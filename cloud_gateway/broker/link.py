"""The gateway's own end of MQTT: topics in, replies out, the desk in between.

1. Who sent a message is said by its topic, which the broker let only that device write to; the desk
   compares the message with it, so a mistake in a broker's rules opens nothing.
2. No message waits here: what cannot be worked on now is dropped, and its device repeats it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from sync.errors import MalformedMessage
from sync.wire import codec, topics, v1

_log = logging.getLogger(__name__)
_NOTICE = codec.encode(v1.Notice("desired"))


class Peer(Protocol):
    """A connection that makes itself again; `sync.transport.mqtt.MqttPeer` is the real one."""

    async def start(
        self,
        on_message: Callable[[str, bytes], None],
        on_connected: Callable[[], None] | None = None,
    ) -> None: ...

    def publish(self, topic: str, payload: bytes) -> None: ...

    async def close(self) -> None: ...


class Hears(Protocol):
    """`desk.Desk`."""

    async def hear(self, device: str, message: bytes) -> bytes: ...


class Fleet(Protocol):
    """Who may speak; `auth.Door`."""

    def knows(self, name: str) -> bool: ...


class Counters(Protocol):
    """Where the link says what it did."""

    def message_heard(self, link: str) -> None: ...

    def message_dropped(self, reason: str) -> None: ...

    def broker_started(self) -> None: ...


class Link:
    """Carries messages between one broker and the desk."""

    def __init__(
        self, peer: Peer, desk: Hears, fleet: Fleet, counters: Counters, *, max_in_flight: int
    ) -> None:
        self._peer = peer
        self._desk = desk
        self._fleet = fleet
        self._counters = counters
        self._max_in_flight = max_in_flight
        self._working: set[asyncio.Task[None]] = set()
        self.connected = asyncio.Event()
        """Set when the first connection stands."""

    async def start(self) -> None:
        await self._peer.start(self.on_message, self.connected.set)

    async def close(self) -> None:
        """Hear nothing more, and finish what was begun."""
        await self._peer.close()
        await asyncio.gather(*self._working, return_exceptions=True)

    def notify(self, devices: Iterable[str]) -> None:
        """Tell devices that something is new; who is away asks when it is back."""
        for device in devices:
            self._peer.publish(topics.down(device), topics.wrap(0, _NOTICE))

    def on_message(self, topic: str, payload: bytes) -> None:
        """Take one message in. Called in the event loop."""
        if len(self._working) >= self._max_in_flight:
            self._drop("busy", topic)
            return
        self._begin(self._answer(topic, payload))

    async def _answer(self, topic: str, payload: bytes) -> None:
        try:
            heard = topics.parse_up(topic)
            correlation, message = topics.unwrap(payload)
        except MalformedMessage:
            self._drop("malformed", topic)
            return
        if heard.tenant != topics.TENANT or not self._fleet.knows(heard.device):
            self._drop("unknown_device", topic)
            return
        self._counters.message_heard("mqtt")
        reply = await self._desk.hear(heard.device, message)
        # 0 would make the reply look unasked.
        if correlation and self._fleet.knows(heard.device):
            self._peer.publish(topics.down(heard.device), topics.wrap(correlation, reply))

    def _begin(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    def _drop(self, reason: str, topic: str) -> None:
        _log.warning("mqtt.dropped reason=%s topic=%.120r", reason, topic)
        self._counters.message_dropped(reason)
