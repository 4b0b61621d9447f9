"""What the gateway can say of its fleet at one moment: frozen values, read by page and API alike.

1. `None` is "unknown": never heard, or not to be known now. It is never a zero.
2. Every number has a time beside it, `*_at`, by the gateway's clock: that of the data behind it.
3. What a device said of itself stays as it said it, with the time it was heard; whether that is
   still so is told by `state` and by the age, not by leaving it out.
"""

from typing import Literal

from msgspec import Struct

State = Literal["live", "silent", "unknown", "never"]
STATES: tuple[State, ...] = ("live", "silent", "unknown", "never")

Mark = Literal["behind", "owing", "refusing"]
MARKS: tuple[Mark, ...] = ("behind", "owing", "refusing")
"""`behind`: runs another version than desired. `owing`: holds escalations without an answer.
`refusing`: would not install a package version."""


class RiskFacts(Struct, frozen=True):
    """How far the device's own answers can be trusted, by its audits and in its own words."""

    mode: str
    certificate: str
    promised: float
    low: float
    high: float
    audits: int
    alarm_at: float | None
    why: str


class TaskFacts(Struct, frozen=True):
    """One task of one device. Without `version` the device has not said what it loaded."""

    task: str
    version: str | None
    digest: str | None
    state: str | None
    heard_at: float | None
    desired: str | None
    risk: RiskFacts | None = None
    """None where nothing is watched."""

    @property
    def behind(self) -> bool:
        return self.desired is not None and self.desired != self.version


class RefusalFacts(Struct, frozen=True):
    """A package version the device would not install, in its own words."""

    task: str
    version: str
    code: str
    reason: str
    at: float
    standing: bool
    """Whether the device is still asked for this version, and still runs another."""


class Answers(Struct, frozen=True):
    """Requests answered in the window, by the devices' clocks, as far as their records came."""

    edge: int = 0
    cloud: int = 0
    provisional: int = 0
    hard: int = 0

    @property
    def total(self) -> int:
        return self.edge + self.cloud + self.provisional

    @property
    def escalated(self) -> float | None:
        """The share judged hard; unknown where nothing was answered."""
        return self.hard / self.total if self.total else None


class DeviceFacts(Struct, frozen=True):
    """One row of the page's table."""

    name: str
    state: State
    added_at: float
    contact_at: float | None
    link: str | None
    agent_version: str | None
    tasks: tuple[TaskFacts, ...]
    answers: Answers | None
    """None when no record of the window has come and some may be on their way."""
    records_at: float | None
    """When the newest batch of records came."""
    issued: int | None
    pending: int | None
    escalations_waiting: int | None
    said_at: float | None
    """When the device said the three numbers above."""
    clock_ahead_s: float | None
    """How far its clock seemed ahead of ours when it last spoke; the way here makes it less."""
    refusals: tuple[RefusalFacts, ...]

    @property
    def marks(self) -> tuple[Mark, ...]:
        """What an operator should look at. A device that never spoke is not behind, but unheard."""
        found: list[Mark] = []
        if self.contact_at is not None and any(task.behind for task in self.tasks):
            found.append("behind")
        if self.escalations_waiting:
            found.append("owing")
        if any(refusal.standing for refusal in self.refusals):
            found.append("refusing")
        return tuple(found)


class Count(Struct, frozen=True):
    """A number of devices, and the list it is the length of."""

    name: str
    count: int
    link: str


class Summary(Struct, frozen=True):
    """The fleet in a few numbers.

    `pending` and `escalations_waiting` add up the devices' last words: what a silent device holds
    it still holds, and nobody can know of more.
    """

    at: float
    total: int
    states: tuple[Count, ...]
    marks: tuple[Count, ...]
    window_since: float
    """Where the window of every `answers` begins; it ends now."""
    answers: Answers | None
    records_at: float | None
    pending: int | None
    escalations_waiting: int | None
    said_at: float | None
    """The oldest word among those the two sums are made of; None when nobody has spoken."""


class Fleet(Struct, frozen=True):
    """Everything the page shows, read in one transaction and numbered."""

    id: str
    at: float
    summary: Summary
    devices: tuple[DeviceFacts, ...]
    """By name."""


class Bucket(Struct, frozen=True):
    """Answers given in one stretch of time, by the devices' own clocks."""

    start: float
    edge: int
    cloud: int
    provisional: int
    edge_p50_ms: float | None
    edge_p99_ms: float | None
    cloud_p50_ms: float | None
    cloud_p99_ms: float | None


class Series(Struct, frozen=True):
    """Buckets in order, those without an answer left out: not heard of is not zero."""

    at: float
    since: float
    step_s: int
    buckets: tuple[Bucket, ...]


class LostRange(Struct, frozen=True):
    """Records whose content is gone, summed by reason."""

    reason: str
    count: int
    newest_at: float


class Ledger(Struct, frozen=True):
    """Records of one incarnation of a device's outbox, each number read where it is kept.

    `issued` and `pending` are the device's word, `delivered`, `lost` and `refused` this database's.
    """

    incarnation: str
    boot: int
    issued: int
    pending: int
    said_at: float
    delivered: int
    undecoded: int
    """Of the delivered, those kept as dead letters: they are here and in no other number."""
    lost: int
    read_at: float

    @property
    def difference(self) -> int:
        """Records on neither side: in flight, or said at different moments; 0 once all is quiet."""
        return self.issued - self.delivered - self.lost - self.pending


class HealthFacts(Struct, frozen=True):
    """What a device uses, in its own words; bytes of uplink and flash since its day began."""

    at: float
    level: str
    why: str
    cpu_share: float
    supervisor_bytes: int
    worker_bytes: int
    workers: int
    disk_bytes: int
    disk_free_bytes: int
    uplink_bytes: int
    flash_bytes: int
    celsius: float | None
    over: str


class DevicePage(Struct, frozen=True):
    """One device in full."""

    device: DeviceFacts
    at: float
    window_since: float
    ledger: Ledger | None
    losses: tuple[LostRange, ...]
    health: HealthFacts | None = None
