"""What is asked on `agent.sock`, and what is answered: the JSON of a frame, typed.

The SDK writes and reads the same JSON with the standard library alone (`edge_agent.sdk.agent`).
Unknown keys are ignored on both sides; a key may be added with a default, none may change meaning.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from edge_agent.errors import BadRequest
from edge_agent.workplace import RiskReport, RunsOn, SourceState

MOST_REVISIONS = 100
LONGEST_WAIT_MS = 60_000
_Name = Annotated[str, Meta(min_length=1, max_length=128)]


class Tasks(Struct, frozen=True, tag_field="op", tag="tasks"):
    """Which tasks are served here?"""


class Status(Struct, frozen=True, tag_field="op", tag="status"):
    """How is the device?"""


class Revisions(Struct, frozen=True, tag_field="op", tag="revisions"):
    """What waits for this client? `taken`: what it is done with. Waits for the first one."""

    client: _Name
    taken: Annotated[tuple[_Name, ...], Meta(max_length=MOST_REVISIONS)] = ()
    limit: Annotated[int, Meta(ge=1, le=MOST_REVISIONS)] = 100
    wait_ms: Annotated[int, Meta(ge=0, le=LONGEST_WAIT_MS)] = 0


class Skipped(Struct, frozen=True, tag_field="op", tag="skipped"):
    """Inputs in a row that a program of the device's own left out, for its records."""

    task: _Name
    source: _Name
    reason: _Name
    count: Annotated[int, Meta(ge=1, le=1 << 40)]
    first_id: _Name
    last_id: _Name


class Feedback(Struct, frozen=True, tag_field="op", tag="feedback"):
    """The right answer to a request, by somebody who knows."""

    client: _Name
    task: _Name
    request_id: _Name
    label: Annotated[str, Meta(min_length=1, max_length=1024)]


class Modules(Struct, frozen=True, tag_field="op", tag="modules"):
    """Which modules has this process loaded? Answered only in debugging."""


Question = Tasks | Status | Revisions | Skipped | Feedback | Modules


class RefusedVersion(Struct, frozen=True):
    """A version this device will not run."""

    version: str
    code: str
    reason: str
    at: float


class TaskReport(Struct, frozen=True):
    """One task. None: there is none, or it is not known."""

    task: str
    state: Literal["waiting", "starting", "serving", "failed"]
    """Waiting for its first package, or what its worker does."""
    version: str | None
    digest: str | None
    pid: int | None
    restarts: int
    wanted: str | None
    update: Literal["idle", "fetching", "on_trial"]
    refused: tuple[RefusedVersion, ...]
    runs_on: RunsOn | None = None
    uncertified: str | None = None
    """Why no answer carries the package's promise here; None where its certificate holds."""
    source: SourceState | None = None
    """What its settings' source does; None where there is none, or none has spoken yet."""
    degraded: str | None = None
    """Why it does not run on what was chosen for it, after it crashed there."""
    last_end: str | None = None
    """Why the worker ended that was not asked to, the last time."""
    rss_bytes: int = 0
    """What its worker takes of the memory."""
    risk: RiskReport | None = None
    """How far its own answers can be trusted; None where nothing is watched."""
    unanswered: int = 0
    """Requests whose time was over before the model had said anything, since the agent started."""
    one_at_a_time: str | None = None
    """Why a swap would end the old worker before it starts the new one; None: both run at once."""


class Usage(Struct, frozen=True):
    """What the agent uses, by the governor's latest look."""

    cpu_share: float
    """Of all cores, by supervisor and workers."""
    supervisor_bytes: int
    worker_bytes: int
    disk_bytes: int
    """Of the data folder."""
    disk_free_bytes: int
    uplink_bytes: int
    flash_bytes: int
    """Since the day began that budgets count."""
    celsius: float | None
    over: tuple[str, ...] = ()
    """Budgets that are overdrawn."""


class BudgetReport(Struct, frozen=True):
    """What questions to the cloud cost in this hour, in bytes or money."""

    unit: Literal["bytes", "money"]
    limit: float
    spent: float
    left: float
    price: float | None
    """Right answers that a unit must bring to be spent; None: nothing is spent any more."""
    ends_in_s: float


class StatusReport(Struct, frozen=True):
    """The device as its supervisor sees it. Times are seconds since 1970."""

    device: str
    agent_version: str
    gateway: str
    link: str
    connected: bool
    last_contact: float | None
    turned_away: str | None
    started: float
    now: float
    incarnation: str
    boot: int
    issued: int
    pending: int
    lost_unreported: int
    escalations_waiting: int
    revisions_waiting: int
    tasks: tuple[TaskReport, ...]
    budget: BudgetReport | None = None
    """None: nothing is limited."""
    feedback_right: int = 0
    """Answers that somebody's feedback agreed with, ..."""
    feedback_compared: int = 0
    """... of so many that it could be compared with."""
    level: str = "normal"
    """How much the device spares itself: normal, spare, hot, refusing."""
    level_why: str = ""
    usage: Usage | None = None
    local_mqtt: str | None = None
    """Why programs cannot ask on the local broker; empty: they can, None: none is set."""


class Revision(Struct, frozen=True):
    """One revision as a client gets it."""

    request_id: str
    task: str
    label: str
    confidence: float | None
    version: str
    at: float
    answer: str = ""
    """As JSON, where the label does not say it all."""


class SaidTasks(Struct, frozen=True):
    tasks: tuple[str, ...]
    ok: Literal[True] = True


class SaidStatus(Struct, frozen=True):
    status: StatusReport
    ok: Literal[True] = True


class SaidRevisions(Struct, frozen=True):
    revisions: tuple[Revision, ...]
    ok: Literal[True] = True


class SaidDone(Struct, frozen=True):
    ok: Literal[True] = True


class SaidFeedback(Struct, frozen=True):
    counted: bool
    """False where somebody gave feedback on this request before."""
    ok: Literal[True] = True


class SaidModules(Struct, frozen=True):
    modules: tuple[str, ...]
    ok: Literal[True] = True


class SaidNo(Struct, frozen=True):
    code: str
    message: str
    ok: Literal[False] = False


Said = SaidTasks | SaidStatus | SaidRevisions | SaidDone | SaidFeedback | SaidModules | SaidNo

_question: msgspec.json.Decoder[Question] = msgspec.json.Decoder(Question)
_encoder = msgspec.json.Encoder()


def read_question(meta: bytes) -> Question:
    """What was asked. Raises `BadRequest`."""
    try:
        return _question.decode(meta)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(
            f"the agent does not understand this: {error}; it answers tasks, status, revisions and"
            " feedback"
        ) from error


def write_said(said: Said) -> bytes:
    """The JSON of an answer."""
    return _encoder.encode(said)
