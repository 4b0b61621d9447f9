"""What worker and supervisor say to each other over their private socket pair.

Frames are those of the local API (`edge_agent.sdk.wire`): JSON meta here, raw tensor bytes as body.
Records do not travel here but through a pipe, each preceded by its length in two bytes.

1. A worker says `Ready` once it serves, or `Failed` and ends with exit code 3.
2. `Escalate` is answered by `Answer` or `NoAnswer` with the same id, or never; the worker has
   answered its own caller by then. The body is the inputs' bytes, one after the other.
3. A provisional record may overtake its own `Escalate`: they take different ways.
4. `Conditions` and `Considered` are hints: one that is missed makes a choice worse, never wrong.
   What may be spent is decided by the supervisor alone, when it is asked to send.
5. After `Retire` a worker finishes what it has, says `Drained` and ends with exit code 0.
6. `Alive` is for the supervisor's watchdog: a worker that does not say so is killed.
7. When the socket closes, the other side is gone: a worker ends at once with exit code 4.
"""

import struct
from typing import Literal

import msgspec
from msgspec import Struct

from edge_agent.cloud.price import Weighed
from edge_agent.errors import BadOrder
from edge_agent.sdk import wire
from edge_agent.workplace import Given, RunsOn, SourceSettings, SourceState, Workplace
from models.calibrate.certificate import Certificate
from models.calibrate.curve import Curve
from sync.errors import MalformedMessage
from sync.wire import codec, v1

BEAT_S = 1.0
"""Between two `Alive`, and half of it while the model runs: each costs an idle device a wake-up."""
VARIABLE = "LONGSTOP_WORKER"
RECORD_LENGTH = struct.Struct("<H")
MAX_RECORD = 4096
"""With its length: the largest write to a pipe that is never torn (PIPE_BUF)."""


class Terms(Struct, frozen=True, tag_field="op", tag="terms", omit_defaults=True):
    """From where on the device answers by itself, and what that is worth. Comes after `Ready`,
    and again when it changes; until then the package's own certificate says so.
    """

    threshold: float | None
    certificate: str
    mode: Literal["certified", "safe", "uncertified"]
    why: str = ""
    certified_risk: float | None = None
    """At the threshold; None where nothing is promised."""
    curve: Curve | None = None
    """At every other one."""


class StandingTerms(Struct, frozen=True):
    """What was in force under this certificate of a package when its worker was last here."""

    signed: str
    terms: Terms


class WorkerOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """How a worker is started: the JSON in its environment variable LONGSTOP_WORKER."""

    listen_fd: int
    control_fd: int
    record_fd: int
    package: str
    task: str
    digest: str
    device: str
    source: SourceSettings | None = None
    """Where inputs come from beside what programs ask through the socket."""
    terms: tuple[StandingTerms, ...] = ()
    """A worker that starts after an alarm does not answer by what was found broken."""
    place: Workplace | None = None
    """None for a worker that keeps nothing and looks nothing up."""
    remembers: bool = False
    """Whether `Remember` is the first thing it hears, to be waited for before it serves."""
    queue: int = 64
    """Requests it may have at once."""
    nice: int = 0
    """How polite it is to the device's other programs."""


class TensorHead(Struct, frozen=True):
    """One input without its bytes; datatype as the Open Inference Protocol names it."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Ready(Struct, frozen=True, tag_field="op", tag="ready", omit_defaults=True):
    """Warmed up, golden outputs compared, serving."""

    task: str
    version: str
    digest: str
    pid: int
    runs_on: RunsOn | None = None
    uncertified: str | None = None
    """Why no answer carries the package's promise here; None where its certificate holds."""
    certificate: Certificate | None = None
    """The package's own."""
    given: Given | None = None
    """What an input looks like."""


class Failed(Struct, frozen=True, tag_field="op", tag="failed"):
    """This package does not run here."""

    code: str
    message: str


Kind = Literal["live", "later", "audit"]


class Escalate(Struct, frozen=True, tag_field="op", tag="escalate"):
    """A hard case. `timeout_ms`: how long the worker can make use of a live answer."""

    id: str
    client: str
    task: str
    version: str
    timeout_ms: int
    inputs: tuple[TensorHead, ...]
    kind: Kind = "live"
    """`live`: somebody waits. `later`: it is answered already, and the cloud's answer becomes its
    revision. `audit`: nobody waits for it, and nothing is revised."""
    value: float = 0.0
    """What the answer is expected to be worth, in right answers."""


class Considered(Struct, frozen=True, tag_field="op", tag="considered"):
    """Hard inputs in the order they came, escalated or not: what the price is made from."""

    inputs: tuple[Weighed, ...]


class Audited(Struct, frozen=True, tag_field="op", tag="audited"):
    """This request is audited: what the device says to it. Comes before any question about it.

    Where the cloud would not be asked, a question of kind `audit` follows.
    """

    id: str
    label: str
    score: float | None
    local: bool
    """Answered here because the terms in force allow it."""


class Unanswered(Struct, frozen=True, tag_field="op", tag="unanswered"):
    """Requests for which the model had produced nothing when their deadline came."""

    ids: tuple[str, ...]


class Missed(Struct, frozen=True, tag_field="op", tag="missed"):
    """Records that did not fit into the pipe and are gone."""

    count: int


class SourceSaid(Struct, frozen=True, tag_field="op", tag="source"):
    """How the task's source does; said again when it has changed, once a second at most."""

    state: SourceState


class Alive(Struct, frozen=True, tag_field="op", tag="alive"):
    """The worker's loop turns; said every `BEAT_S` once it serves."""

    running_s: float
    """How long the model has been on the run it is on; 0 for none."""
    p99_s: float
    """What all but one of a hundred of its runs took."""
    rss_bytes: int


class Drained(Struct, frozen=True, tag_field="op", tag="drained"):
    """Nothing is left to answer."""


class Answer(Struct, frozen=True, tag_field="op", tag="answer"):
    """The cloud's answer."""

    id: str
    label: str
    confidence: float | None
    version: str
    answer: str = ""
    """As JSON, where the label does not say it all."""


class NoAnswer(Struct, frozen=True, tag_field="op", tag="no_answer"):
    """There will be no live answer, and why: link_down, refused, overloaded."""

    id: str
    reason: str


class Conditions(Struct, frozen=True, tag_field="op", tag="conditions", omit_defaults=True):
    """What escalating costs now, and how the link is.

    Comes right after `Ready`, and again when something has changed, every 100 ms at most.
    """

    up: bool
    round_trips: tuple[float, ...] = ()
    """Seconds, of the last exchanges in the link's present state; 64 at most, the newest last."""
    left: int | None = None
    """Units of the budget that one question may cost now; None: there is no budget."""
    price: float = 0.0
    """What a unit must be worth, in right answers, to be spent."""
    call_cost: int = 0
    """Units of one escalation, whatever its size."""
    byte_cost: float = 1.0
    """Units of each byte of it."""
    revision_worth: float = 0.5
    """What an answer after the deadline is worth, beside one in time."""
    wait_cost: float = 0.02
    """What a second of waiting costs, in right answers."""


class Remember(Struct, frozen=True, tag_field="op", tag="remember"):
    """What workers before and beside this one answered. The body is records as in the pipe."""


class Retire(Struct, frozen=True, tag_field="op", tag="retire"):
    """Stop accepting, finish, end."""


class Sparing(Struct, frozen=True, tag_field="op", tag="sparing", omit_defaults=True):
    """How much the device spares itself from now on. The last one counts."""

    audits: float = 1.0
    """Share of the usual audits that is made."""
    sources: float = 1.0
    """Share of their usual rate that sources may have."""
    refusing: str = ""
    """Why new inputs are refused; empty where they are not."""


FromWorker = (
    Ready
    | Failed
    | Alive
    | Escalate
    | Audited
    | Considered
    | Unanswered
    | Missed
    | SourceSaid
    | Drained
)
ToWorker = Answer | NoAnswer | Conditions | Terms | Sparing | Remember | Retire

_encoder = msgspec.json.Encoder()
_from_worker = msgspec.json.Decoder(FromWorker)
_to_worker = msgspec.json.Decoder(ToWorker)


def read_order(text: str) -> WorkerOrder:
    """The order in an environment variable. Raises `BadOrder`."""
    try:
        return msgspec.json.decode(text, type=WorkerOrder)
    except msgspec.DecodeError as error:
        raise BadOrder(
            f"{VARIABLE} does not say what a worker needs: {error};"
            " workers are started by the supervisor (longstop-agent run)"
        ) from error


def write_order(order: WorkerOrder) -> str:
    """The text for the environment variable."""
    return _encoder.encode(order).decode()


def frame(message: FromWorker | ToWorker, body: bytes | bytearray | memoryview = b"") -> bytes:
    """The whole frame of a message."""
    return wire.head(_encoder.encode(message), len(body)) + body


def read_from_worker(meta: bytes) -> FromWorker:
    """What a worker said. Raises `MalformedMessage`."""
    try:
        said: FromWorker = _from_worker.decode(meta)
    except msgspec.DecodeError as error:
        raise MalformedMessage(f"not a message of a worker: {error}") from error
    return said


def read_to_worker(meta: bytes) -> ToWorker:
    """What the supervisor said. Raises `MalformedMessage`."""
    try:
        said: ToWorker = _to_worker.decode(meta)
    except msgspec.DecodeError as error:
        raise MalformedMessage(f"not a message of a supervisor: {error}") from error
    return said


def escalation_of(said: Escalate, body: bytes | bytearray, device: str) -> v1.Escalation:
    """The escalation as the wire to the gateway has it. Raises `MalformedMessage`."""
    # One input for now: a manifest declares exactly one.
    if len(said.inputs) != 1:
        raise MalformedMessage(f"escalation {said.id} has {len(said.inputs)} inputs, not one")
    (head,) = said.inputs
    return v1.Escalation(
        device=device,
        request_id=said.id,
        task=said.task,
        version=said.version,
        timeout_ms=said.timeout_ms,
        inputs=(v1.Tensor(head.name, head.datatype, head.shape, bytes(body)),),
    )


def split_records(data: bytes | bytearray) -> tuple[list[bytes], int]:
    """Whole records, each with its length before it, and where the first that is cut off begins."""
    found, start, size = [], 0, RECORD_LENGTH.size
    while len(data) - start >= size:
        (length,) = RECORD_LENGTH.unpack_from(data, start)
        end = start + size + length
        if len(data) < end:
            break
        found.append(bytes(data[start:end]))
        start = end
    return found, start


def pack_record(record: v1.Record) -> bytes | None:
    """A record as it stands in the pipe; None where it is too large to be written in one piece."""
    body = codec.encode_record(record)
    if RECORD_LENGTH.size + len(body) > MAX_RECORD:
        return None
    return RECORD_LENGTH.pack(len(body)) + body
