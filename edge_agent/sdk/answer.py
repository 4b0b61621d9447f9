"""What a caller gets."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class AnswerTimings:
    """Where the time of one request went, in microseconds.

    `round_trip_us` is the SDK's own clock around the call; the others are the worker's.
    """

    prepare_us: int
    run_us: int
    wait_us: int
    total_us: int
    round_trip_us: int


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered request."""

    request_id: str
    task: str
    label: str
    confidence: float | None
    """None when the model's output had none: NaN, infinite or all equal."""
    source: Literal["edge", "cloud"]
    final: bool
    """False when the cloud's answer is still owed; it comes as a `Revision`."""
    reason: str
    """`confident`, `escalated`, or why a hard input has only the edge's answer: `deadline`,
    `link_down`, `refused`, `overloaded`."""
    hard: bool
    """Whether the device judged this input too hard to answer alone."""
    certified_risk: float | None
    model: str
    """First 12 hexadecimal digits of the digest of the package on the device."""
    version: str
    """Package version that gave this answer."""
    timings: AnswerTimings
    details: dict[str, object] | None = None
    """The whole answer where the label does not say it all: boxes, an interval, several classes."""
    uncertified: str | None = None
    """Why the package's certificate does not hold on this device, so that every input is hard and
    no answer of the device's own carries a promise; None where it holds."""
    degraded: bool = False
    """The certificate would have had the cloud answer; budget, link or deadline forbade it.
    `certified_risk` is then what it says of the threshold that was used instead."""
    certificate: str = ""
    """Id of the certificate in force; empty where none holds."""


@dataclass(frozen=True, slots=True)
class Revision:
    """The cloud's answer to a request that had been answered with `final=False`."""

    request_id: str
    task: str
    label: str
    confidence: float | None
    version: str
    at: float
    """Seconds since 1970 when the device took note of it."""
    details: dict[str, object] | None = None
    """As in `Answer`."""


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """One task on the device."""

    task: str
    version: str | None
    """Version as the worker has loaded it; None when none is loaded."""
    state: str
    """`waiting` for its first package, `starting`, `serving` or `failed`."""
    wanted: str | None
    """Version the gateway wants here, where that is known."""


@dataclass(frozen=True, slots=True)
class Status:
    """The device as its supervisor sees it. Times are seconds since 1970."""

    device: str
    agent_version: str
    gateway: str
    link: str
    """Name of the transport in use."""
    connected: bool
    last_contact: float | None
    """When the gateway was last heard of; None: not since the agent started."""
    tasks: tuple[TaskStatus, ...]
    issued: int
    """Records numbered so far."""
    pending: int
    """Of them, those still to be delivered."""
    escalations_waiting: int
    revisions_waiting: int
