"""MQTT topics: `v1/{tenant}/up/{device}/{kind}` and `v1/{tenant}/dn/{device}/{kind}`.

Every payload on them is an envelope: 8 bytes of correlation number (big endian, 0 = unasked), then
the message as `codec.encode` made it. Nothing depends on MQTT 5, so the correlation is ours.
"""

import re
from typing import NamedTuple

from sync.errors import MalformedMessage

TENANT = "default"
ALL_UP = "v1/+/up/+/+"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
_UP = re.compile(r"v1/([^/+#]+)/up/([^/+#]+)/([a-z]+)\Z")


class UpTopic(NamedTuple):
    """Who spoke, and in which class of traffic."""

    tenant: str
    device: str
    kind: str


def is_device_name(name: str) -> bool:
    """Whether a name may stand in a topic, a path and a password file."""
    return _NAME.match(name) is not None


def up(device: str, kind: str, *, tenant: str = TENANT) -> str:
    """Where a device writes; kind is `esc` for escalations and `rec` for all else."""
    return f"v1/{tenant}/up/{device}/{kind}"


def down(device: str, kind: str = "all", *, tenant: str = TENANT) -> str:
    """Where a device listens."""
    return f"v1/{tenant}/dn/{device}/{kind}"


def parse_up(topic: str) -> UpTopic:
    """Who wrote to this topic. Raises `MalformedMessage`."""
    found = _UP.match(topic)
    if found is None:
        raise MalformedMessage(f"topic {topic!r} is not one a device may write to")
    return UpTopic(*found.groups())


def wrap(correlation: int, message: bytes) -> bytes:
    """The envelope of one MQTT payload."""
    return correlation.to_bytes(8, "big") + message


def unwrap(payload: bytes) -> tuple[int, bytes]:
    """Correlation number and message. Raises `MalformedMessage`."""
    if len(payload) < 9:
        raise MalformedMessage(f"payload of {len(payload)} bytes is too short for an envelope")
    return int.from_bytes(payload[:8], "big"), payload[8:]
