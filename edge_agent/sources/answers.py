"""What became of an input of a source, as one line of JSON for whoever waits for it on the device.

A file of such lines is kept within bounds: a full one is put aside as `<file>.1`, in place of the
one before.
"""

import contextlib
import os
from pathlib import Path

import msgspec
from msgspec import Struct

from edge_agent.sdk.messages import Refused, Reply

MOST_BYTES = 16 << 20
_NOTHING = msgspec.Raw()
"""Left out when it is written: msgspec knows the default by its identity."""


class Told(Struct, frozen=True, omit_defaults=True):
    """One line."""

    input: str
    """What the source calls it, as in the records of those it skips."""
    ok: bool
    request_id: str = ""
    label: str = ""
    confidence: float | None = None
    source: str = ""
    final: bool | None = None
    reason: str = ""
    version: str = ""
    degraded: bool = False
    certified_risk: float | None = None
    certificate: str = ""
    code: str = ""
    message: str = ""
    answer: msgspec.Raw = _NOTHING
    """The whole answer as JSON, where the label does not say it all."""


def told(name: str, reply: Reply | Refused) -> bytes:
    """The line of this input, without its end."""
    if isinstance(reply, Refused):
        return msgspec.json.encode(Told(name, ok=False, code=reply.code, message=reply.message))
    return msgspec.json.encode(
        Told(
            name,
            ok=True,
            request_id=reply.id,
            label=reply.label,
            confidence=reply.confidence,
            source=reply.source,
            final=reply.final,
            reason=reply.reason,
            version=reply.version,
            degraded=reply.degraded,
            certified_risk=reply.certified_risk,
            certificate=reply.certificate,
            answer=msgspec.Raw(reply.answer.encode()) if reply.answer else _NOTHING,
        )
    )


def append(path: Path, line: bytes, *, most_bytes: int = MOST_BYTES) -> None:
    """Add a line to a file. Raises `OSError`."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size + len(line) >= most_bytes:
            os.replace(path, path.with_name(f"{path.name}.1"))
    with path.open("ab") as file:
        file.write(line + b"\n")


def matches(pattern: str, topic: str) -> bool:
    """Whether an MQTT subscription takes this topic; `+` is one level, `#` all that follow."""
    levels, names = pattern.split("/"), topic.split("/")
    for at, level in enumerate(levels):
        if level == "#":
            return True
        if at >= len(names) or level not in ("+", names[at]):
            return False
    return len(levels) == len(names)
