"""What a client and a worker say to each other: the JSON of a frame, typed.

The worker reads and writes these same classes, so there is one definition of each message.
Unknown keys are ignored on both sides; a key may be added with a default, none may change meaning.
They are not frozen: making a frozen one takes twice as long, and there are several to a request.
"""

import json
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as _quoted
from typing import Literal

from edge_agent.sdk.errors import ProtocolMismatch


@dataclass(slots=True)
class Infer:
    """One input to answer; its raw bytes are the frame's body."""

    id: str
    client: str
    deadline_ms: int
    """What is left of the caller's deadline when this is sent."""
    dtype: str
    shape: tuple[int, ...]
    until: float | None = None
    """When the deadline passes by CLOCK_BOOTTIME, so that time spent in a queue counts too."""
    op: Literal["infer"] = "infer"
    at: int = 0
    size: int = 0
    """Where the input lies in the memory lent to this connection; a size of 0: in the body."""
    unanswered: tuple[str, ...] = ()
    """Earlier requests of this client whose deadline passed without a word."""


@dataclass(slots=True)
class MemoryAsked:
    """Lend this connection memory for inputs of up to so many bytes.

    The reply says `lent` and brings a descriptor, or it is `Refused`.
    """

    op: Literal["memory"]
    size: int


@dataclass(slots=True)
class Timings:
    """Where the time went, by the worker's clock."""

    prepare_us: int
    run_us: int
    wait_us: int
    """Waiting for the cloud."""
    total_us: int


@dataclass(slots=True)
class Reply:
    """An answer."""

    id: str
    label: str
    confidence: float | None
    source: Literal["edge", "cloud"]
    final: bool
    reason: str
    hard: bool
    version: str
    digest: str
    timings: Timings
    certified_risk: float | None = None
    answer: str = ""
    """The whole answer as JSON, where the label does not say it all."""
    uncertified: str | None = None
    """Why no answer of this worker carries the package's promise; None where they may."""
    degraded: bool = False
    """The certificate would have had the cloud answer, and it did not."""
    certificate: str = ""
    """Id of the certificate in force; empty where none holds."""
    go_away: bool = False
    """This worker is leaving: ask again on a new connection."""
    ok: Literal[True] = True


@dataclass(slots=True)
class Refused:
    """No answer, and why. `id` is empty when the request could not be read."""

    id: str
    code: str
    message: str
    go_away: bool = False
    ok: Literal[False] = False


_read = json.JSONDecoder().raw_decode
"""Without looking for white space around and guessing the encoding, as `json.loads` would."""


def details_of(answer: str) -> dict[str, object] | None:
    """What an answer's JSON holds; None for none. Raises `ProtocolMismatch`."""
    if not answer:
        return None
    try:
        details = json.loads(answer)
    except ValueError as error:
        raise ProtocolMismatch(
            f"the worker's answer cannot be read ({error}); install the SDK of this agent"
        ) from error
    return details if isinstance(details, dict) else None


def write_infer(infer: Infer) -> bytes:
    """The meta of a request. Written out: `json.dumps` takes five times as long."""
    text = (
        f'{{"op":"infer","id":{_quoted(infer.id)},"client":{_quoted(infer.client)},'
        f'"deadline_ms":{infer.deadline_ms},"dtype":{_quoted(infer.dtype)},'
        f'"shape":[{",".join(map(str, infer.shape))}]'
    )
    if infer.until is not None:
        text += f',"until":{infer.until!r}'
    if infer.size:
        text += f',"at":{infer.at},"size":{infer.size}'
    if infer.unanswered:
        text += f',"unanswered":[{",".join(map(_quoted, infer.unanswered))}]'
    return (text + "}").encode()


def write_memory_asked(size: int) -> bytes:
    """The meta of a request for memory."""
    return b'{"op":"memory","size":%d}' % size


def read_reply(meta: bytes) -> Reply | Refused:
    """What the worker said. Raises `ProtocolMismatch`."""
    try:
        said, _ = _read(meta.decode())
        if not said["ok"]:
            return Refused(said["id"], said["code"], said["message"], said.get("go_away", False))
        its, get = said["timings"], said.get
        return Reply(
            said["id"],
            said["label"],
            said["confidence"],
            said["source"],
            said["final"],
            said["reason"],
            said["hard"],
            said["version"],
            said["digest"],
            Timings(its["prepare_us"], its["run_us"], its["wait_us"], its["total_us"]),
            get("certified_risk"),
            get("answer", ""),
            get("uncertified"),
            get("degraded", False),
            get("certificate", ""),
            get("go_away", False),
        )
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ProtocolMismatch(
            f"the worker's reply cannot be read ({error!r});"
            " install the SDK that belongs to this agent"
        ) from error
