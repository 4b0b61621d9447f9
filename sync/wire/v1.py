"""Version 1 of the wire: records, what a device says, what the gateway says.

Rules of this file:
1. Frozen once released: fields are only ever appended, with a default; tags never change meaning.
2. Every struct is a msgpack array whose first element is its tag. Unknown trailing fields are
   ignored.
3. A *record* is one answered request, one revision, a run of inputs a source left out, one
   feedback, or one turn of the live risk. The outbox numbers it; numbers count records in one
   series per (device, incarnation) and are never reused.
4. A *batch* is the range `lo..hi` of such numbers, both ends included; its key is (device,
   incarnation, lo).

Times ending in `_ms` or `_us` are durations; `at` is seconds since 1970 by the sender's clock.
"""

from typing import Literal

from msgspec import Struct


class Answered(Struct, frozen=True, array_like=True, tag="answered"):
    """One request answered on a device."""

    request_id: str
    client: str
    task: str
    version: str
    digest: str
    """First 12 hexadecimal digits of the package digest the worker had loaded."""
    route: Literal["edge", "cloud"]
    final: bool
    """False for an answer given at the deadline while the cloud's was still owed."""
    reason: str
    label: str
    confidence: float | None
    """None where the model's output had no usable confidence (NaN, infinite, degenerate)."""
    hard: bool
    deadline_ms: int
    prepare_us: int
    run_us: int
    wait_us: int
    """Time spent waiting for the cloud."""
    total_us: int
    at: float
    feature_age_s: float | None = None
    """How old the oldest looked-up features were; -1 when a declared default stood in for them;
    None when the pipeline looks up none."""
    degraded: bool = False
    """The certificate would have had the cloud answer; budget, link or deadline forbade it."""
    certified_risk: float | None = None
    """What the certificate says of answering here at the threshold in use; None: nothing."""
    certificate: str = ""
    """Id of the certificate in force; empty where none holds."""
    audited: bool = False
    """Drawn, before the outcome was known, to be checked against the cloud."""
    sent_bytes: int = 0
    """Size of the input that was handed over for the cloud; 0 where it was not."""


class Revised(Struct, frozen=True, array_like=True, tag="revised"):
    """The cloud's answer to a request that had been answered provisionally."""

    request_id: str
    client: str
    task: str
    label: str
    confidence: float | None
    version: str
    """Package version the gateway answered with."""
    at: float
    answer: str = ""
    """The whole answer as JSON, where the label does not say it all."""


class Skipped(Struct, frozen=True, array_like=True, tag="skipped"):
    """Inputs in a row that a source left out for the same reason. None of them was answered."""

    task: str
    source: str
    """What the inputs come from: directory, mqtt, camera, stdin."""
    reason: str
    """As in rate_limited, near_duplicate, backlog_full, unreadable, stopped."""
    count: int
    first_id: str
    last_id: str
    """What the source calls the first and the last of them: a file's name, a frame, a time."""
    at: float


class Feedback(Struct, frozen=True, array_like=True, tag="feedback"):
    """What the right answer to a request was, by somebody who knows. One for each request id."""

    request_id: str
    client: str
    task: str
    label: str
    at: float


class Alarm(Struct, frozen=True, array_like=True, tag="alarm"):
    """A turn in how far a device's own answers can be trusted."""

    task: str
    certificate: str
    """Id of the certificate this is about; of a recalibration, the new one's."""
    kind: Literal["broken", "recalibrated", "cloud_changed"]
    """The promise is broken in the field; there is a new certificate; the cloud has another model,
    and what was known of its answers counts no more."""
    why: str
    at: float


HealthLevel = Literal["normal", "spare", "hot", "refusing"]


class Health(Struct, frozen=True, array_like=True, tag="health"):
    """What a device uses, and how much it spares itself; every few minutes."""

    at: float
    level: HealthLevel
    why: str
    """What asks it to spare itself, in words; empty where nothing does."""
    cpu_share: float
    """Of all cores, by supervisor and workers."""
    supervisor_bytes: int
    worker_bytes: int
    """Resident, of all workers together."""
    workers: int
    disk_bytes: int
    """Of the data folder."""
    disk_free_bytes: int
    uplink_bytes: int
    flash_bytes: int
    """Sent to the gateway, and written to the disk, since the day began that budgets count."""
    celsius: float | None
    """Of the hottest sensor; None where there is none."""
    over: tuple[str, ...] = ()
    """Budgets that are overdrawn: ram, disk, cpu, uplink, flash."""


Record = Answered | Revised | Skipped | Feedback | Alarm | Health


class Lost(Struct, frozen=True, array_like=True, tag="lost"):
    """A range of record numbers whose content is gone, and why. Delivered like data."""

    lo: int
    hi: int
    reason: str


class Batch(Struct, frozen=True, array_like=True, tag="batch"):
    """Records `lo..hi` of one device, packed (see `codec.pack_records`)."""

    device: str
    incarnation: str
    boot: int
    lo: int
    hi: int
    at: float
    body: bytes


class LossReport(Struct, frozen=True, array_like=True, tag="losses"):
    """Ranges this device has lost since its last acknowledged report."""

    device: str
    incarnation: str
    losses: tuple[Lost, ...]
    at: float


class Tensor(Struct, frozen=True, array_like=True):
    """One raw input or output: Open Inference Protocol datatype, shape without batch axis."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes


class Escalation(Struct, frozen=True, array_like=True, tag="escalation"):
    """A hard case on its way to the cloud model. Repeating it under its id does no harm."""

    device: str
    request_id: str
    task: str
    version: str
    timeout_ms: int
    """How long the device will still make use of a live answer; 0 for one from the backlog."""
    inputs: tuple[Tensor, ...]


class TaskRisk(Struct, frozen=True, array_like=True):
    """How far a device's own answers to one task can be trusted, by its audits."""

    mode: Literal["certified", "safe", "uncertified"]
    certificate: str
    promised: float
    low: float
    high: float
    """Where the live risk lies."""
    audits: int
    """Rounded down, so that a heartbeat seldom differs from the one before."""
    alarm_at: float | None
    why: str


class TaskState(Struct, frozen=True, array_like=True):
    """What one device runs for one task, as its worker has loaded it."""

    task: str
    version: str
    digest: str
    state: Literal["starting", "serving", "failed"]
    degraded: str = ""
    """Why it does not run on what was chosen for it; empty where it does."""
    risk: TaskRisk | None = None
    """None where nothing is watched."""


class Refusal(Struct, frozen=True, array_like=True):
    """A package version this device would not install, and the reason in words."""

    task: str
    version: str
    code: str
    reason: str
    at: float


class Beat(Struct, frozen=True, array_like=True, tag="beat"):
    """A device's heartbeat, and its greeting after a start or a reconnect."""

    device: str
    incarnation: str
    boot: int
    at: float
    link: str
    """Name of the transport in use: memory, http, mqtt."""
    tasks: tuple[TaskState, ...]
    refusals: tuple[Refusal, ...]
    issued: int
    pending: int
    """Records waiting in the outbox."""
    escalations_waiting: int
    agent_version: str


Up = Beat | Batch | LossReport | Escalation


class Desired(Struct, frozen=True, array_like=True):
    """The package version this device should run for a task."""

    task: str
    version: str


class BeatReply(Struct, frozen=True, array_like=True, tag="beat_reply"):
    """What the gateway wants of the device, and the gateway's clock."""

    at: float
    desired: tuple[Desired, ...]


class BatchAck(Struct, frozen=True, array_like=True, tag="batch_ack"):
    """Sent after the gateway's commit, never before. A dead letter is kept, not sent again."""

    incarnation: str
    lo: int
    hi: int
    outcome: Literal["committed", "duplicate", "dead_letter"]
    reason: str = ""


class LossAck(Struct, frozen=True, array_like=True, tag="loss_ack"):
    """The gateway has committed these losses."""

    incarnation: str
    losses: tuple[Lost, ...]


class Escalated(Struct, frozen=True, array_like=True, tag="escalated"):
    """The cloud model's answer to one escalation."""

    request_id: str
    task: str
    label: str
    confidence: float | None
    version: str
    run_us: int
    answer: str = ""
    """The whole answer as JSON, where the label does not say it all."""


class Refused(Struct, frozen=True, array_like=True, tag="refused"):
    """The gateway would not do it. `permanent` says that sending the same again is useless."""

    code: str
    message: str
    permanent: bool
    retry_after_s: float = 0.0


class Notice(Struct, frozen=True, array_like=True, tag="notice"):
    """Unasked word from the gateway where the transport can push: beat now, something is new."""

    what: Literal["desired"]


Down = BeatReply | BatchAck | LossAck | Escalated | Refused | Notice
