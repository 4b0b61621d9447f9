"""Counts what a device sends upward, class by class, from the bytes alone.

The proxy must not ask the device how much it sent, so a meter reads just enough of MQTT 3.1.1
(packet length and topic) and HTTP/1.1 (request line and content length) to tell an escalation
from the rest. It never holds a payload: what follows the part it needs is counted and skipped.
"""

from dataclasses import dataclass
from typing import Protocol

_PUBLISH = 3
_HEAD_LIMIT = 64 << 10


@dataclass
class Tally:
    """Upward traffic of one device. A message counts when its first bytes name it."""

    escalations: int = 0
    escalation_bytes: int = 0
    other_bytes: int = 0


class Meter(Protocol):
    """Reads one connection's upward bytes into a tally."""

    def feed(self, data: bytes) -> None: ...


def meter_for(first: bytes, tally: Tally) -> Meter:
    """The meter of the protocol a connection opens with: MQTT's CONNECT is 0x10, HTTP a letter."""
    return MqttMeter(tally) if first[:1] == b"\x10" else HttpMeter(tally)


class MqttMeter:
    """PUBLISH packets to a topic that ends in `/esc` are escalations."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._pending = b""
        self._skip = 0
        self._escalation = False

    def feed(self, data: bytes) -> None:
        data = self._pending + data
        self._pending = b""
        while data:
            if self._skip:
                taken = min(self._skip, len(data))
                self._count(taken)
                self._skip -= taken
                data = data[taken:]
                continue
            head = _mqtt_head(data)
            if head is None:
                self._pending = data
                return
            length, topic = head
            self._escalation = topic.endswith(b"/esc")
            if self._escalation:
                self._tally.escalations += 1
            self._skip = length

    def _count(self, size: int) -> None:
        if self._escalation:
            self._tally.escalation_bytes += size
        else:
            self._tally.other_bytes += size


def _mqtt_head(data: bytes) -> tuple[int, bytes] | None:
    """Length of the whole packet and the topic of a PUBLISH; None while bytes are missing."""
    remaining, shift, position = 0, 0, 1
    while True:
        if position >= len(data):
            return None
        byte = data[position]
        remaining |= (byte & 0x7F) << shift
        shift += 7
        position += 1
        if not byte & 0x80 or shift > 21:
            break
    if data[0] >> 4 != _PUBLISH:
        return position + remaining, b""
    if len(data) < position + 2:
        return None
    topic_length = int.from_bytes(data[position : position + 2], "big")
    if len(data) < position + 2 + topic_length:
        return None
    return position + remaining, data[position + 2 : position + 2 + topic_length]


class HttpMeter:
    """Requests to `/v2/models/…/infer` are escalations."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._head = b""
        self._body_left = 0
        self._escalation = False

    def feed(self, data: bytes) -> None:
        while data:
            if self._body_left:
                taken = min(self._body_left, len(data))
                self._count(taken)
                self._body_left -= taken
                data = data[taken:]
                continue
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                # Cannot be a request of ours: count it and let go, rather than hold it for ever.
                if len(self._head) > _HEAD_LIMIT:
                    self._tally.other_bytes += len(self._head)
                    self._head = b""
                return
            head, data = self._head[: end + 4], self._head[end + 4 :]
            self._head = b""
            self._escalation = _is_infer(head)
            self._body_left = _content_length(head)
            if self._escalation:
                self._tally.escalations += 1
            self._count(len(head))

    def _count(self, size: int) -> None:
        if self._escalation:
            self._tally.escalation_bytes += size
        else:
            self._tally.other_bytes += size


def _is_infer(head: bytes) -> bool:
    parts = head.split(b" ", 2)
    return len(parts) == 3 and parts[1].startswith(b"/v2/models/") and parts[1].endswith(b"/infer")


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0
