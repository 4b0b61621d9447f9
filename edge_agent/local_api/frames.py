"""Requests and replies of the local socket, from bytes and to bytes. No I/O.

Who asks is believed nothing: every field is checked and bounded, and what is wrong is said in a
reply that carries the request's own id where it could be read.
"""

import re
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from edge_agent.errors import BadRequest
from edge_agent.sdk import wire
from edge_agent.sdk.messages import Infer, MemoryAsked, Refused, Reply, Timings

LONGEST_WAIT_S = 30.0
"""Beyond it an answer is a batch job; the supervisor remembers open requests for longer."""
_STALE_S = 10.0
_SOURCE = '{"op":"infer"} needs id, client, deadline_ms, dtype and shape'


class _Bounds(Struct, frozen=True):
    """What the fields of `Infer` may hold; its own types are checked when it is read."""

    id: Annotated[str, Meta(min_length=1, max_length=128)]
    client: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")]
    deadline_ms: Annotated[int, Meta(ge=1, le=int(LONGEST_WAIT_S * 1000))]
    dtype: Annotated[str, Meta(max_length=16)]
    shape: Annotated[tuple[Annotated[int, Meta(ge=0)], ...], Meta(max_length=16)]
    unanswered: Annotated[tuple[str, ...], Meta(max_length=64)] = ()


class _IdOnly(Struct, frozen=True):
    id: str = ""


_infer = msgspec.json.Decoder(Infer)
_bounds = msgspec.json.Decoder(_Bounds)
_id_only = msgspec.json.Decoder(_IdOnly)
_memory = msgspec.json.Decoder(MemoryAsked)
_encoder = msgspec.json.Encoder()
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z").match


def read_request(meta: bytes) -> Infer:
    """The request in a frame. Raises `BadRequest`."""
    try:
        infer: Infer = _infer.decode(meta)
        if not _within(infer):
            _bounds.decode(meta)  # which says what is wrong
            raise BadRequest(f"request {infer.id!r} is out of bounds; {_SOURCE}")
    except _UNREADABLE as error:
        raise BadRequest(f"request cannot be read: {error}; {_SOURCE}") from error
    return infer


def read_memory(meta: bytes) -> MemoryAsked | None:
    """The memory asked for, in a frame that is no request; None where it is not even that."""
    try:
        asked: MemoryAsked = _memory.decode(meta)
    except _UNREADABLE:
        return None
    return asked


def _within(infer: Infer) -> bool:
    """Whether the fields hold what `_Bounds` allows; a second reading would take as long again."""
    return (
        0 < len(infer.id) <= 128
        and 1 <= infer.deadline_ms <= LONGEST_WAIT_S * 1000
        and len(infer.dtype) <= 16
        and len(infer.shape) <= 16
        and len(infer.unanswered) <= 64
        and min(infer.shape, default=0) >= 0
        and _name(infer.client) is not None
    )


def id_of(meta: bytes) -> str:
    """The id in a request that is otherwise unreadable, or nothing."""
    try:
        return str(_id_only.decode(meta).id)[:128]
    except _UNREADABLE:
        return ""


def moment(infer: Infer, received: float) -> float:
    """When the caller stops waiting, by the worker's clock.

    What the request says of its own age counts only when it can be true: the caller may live in a
    container whose clock began elsewhere.
    """
    latest = received + infer.deadline_ms / 1000
    if infer.until is None or not received - _STALE_S <= infer.until <= latest:
        return latest
    return infer.until


class _Said(Struct, omit_defaults=True):
    """A `Reply` as it is written: what has its default is left out, and need not be read."""

    id: str
    label: str
    confidence: float | None
    source: str
    final: bool
    reason: str
    hard: bool
    version: str
    digest: str
    timings: Timings
    certified_risk: float | None = None
    answer: str = ""
    uncertified: str | None = None
    degraded: bool = False
    certificate: str = ""
    go_away: bool = False
    ok: bool | None = None


def write_reply(reply: Reply | Refused) -> bytes:
    """The frame of a reply."""
    if isinstance(reply, Refused):
        return wire.head(_encoder.encode(reply))
    said = _Said(
        reply.id,
        reply.label,
        reply.confidence,
        reply.source,
        reply.final,
        reply.reason,
        reply.hard,
        reply.version,
        reply.digest,
        reply.timings,
        reply.certified_risk,
        reply.answer,
        reply.uncertified,
        reply.degraded,
        reply.certificate,
        reply.go_away,
        True,
    )
    return wire.head(_encoder.encode(said))
