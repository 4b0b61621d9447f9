"""What becomes of one hard request: the cloud's answer, a revision later, or a named end. (core)

Rules, each to be found again in the table below:
1. A caller that got the cloud's answer in time is owed nothing. One with a provisional answer is
   owed a revision, and the debt stands in the outbox from the moment its record is numbered.
2. So every hard request that was answered ends as exactly one of: cloud answer live; revision;
   standing in the outbox; abandoned with a reason.
3. The first record of a request id counts, later ones are not numbered: a worker killed between its
   record and its answer makes the SDK ask again. The caller has only the last answer, though, so a
   later provisional one earns its revision all the same.
4. An answer that comes after the worker gave up waits for the provisional record and becomes its
   revision. No revision is issued before the record it revises is numbered.
5. While the link is known to be down, or full, the worker is told at once and answers early.
6. A request nobody recorded was answered to nobody: it is forgotten after `PATIENCE_S`.
7. A refusal for good abandons the request; every other failure leaves it in the outbox.
8. What is found standing in the outbox is owed, whatever this process remembers: it may be from
   before a restart. One exchange at a time: live and backlog join each other.
"""

from enum import Enum

from msgspec import Struct
from msgspec.structs import replace

from sync.wire import v1

PATIENCE_S = 60.0
"""Longer than any deadline a caller sets, so that a record on its way is never missed."""
PARTED_S = 5.0
"""A provisional record may overtake a large question; a question later than this was cut off."""


class Phase(Enum):
    NEW = "new"
    ASKED = "asked"
    """The exchange is under way; no record yet."""
    ANSWERED = "answered"
    """The cloud's answer is here; no record yet."""
    UNANSWERED = "unanswered"
    """The worker was told that none comes in time; no record yet."""
    REFUSED = "refused"
    """None will ever come; no record yet."""
    PARTED = "parted"
    """The provisional record came before its question."""
    OWED = "owed"
    """In the outbox, and an exchange is under way."""
    STANDING = "standing"
    """In the outbox, and nothing under way."""
    CLOSED = "closed"
    """A final record: nothing is owed."""
    MADE_GOOD = "made_good"
    """Revised or abandoned: nothing is owed any more."""


class Case(Struct, frozen=True):
    """One request as the supervisor knows it."""

    phase: Phase = Phase.NEW
    counted: bool = False
    """Whether a record of this request id has been numbered."""
    answer: v1.Escalated | None = None
    refusal: str = ""
    until: float = 0.0
    """When waiting in this phase ends."""


class Asked(Struct, frozen=True):
    """A worker handed over its question. `obstacle`: why it cannot be sent now, or nothing."""

    obstacle: str = ""


class FoundStanding(Struct, frozen=True):
    """The outbox holds this question, and it is its turn."""


class AnswerCame(Struct, frozen=True):
    """The gateway answered."""

    answer: v1.Escalated


class ExchangeFailed(Struct, frozen=True):
    """The exchange ended without an answer; a later one may do better."""

    reason: str


class RefusedForGood(Struct, frozen=True):
    """The gateway will never answer this one."""

    code: str


class Recorded(Struct, frozen=True):
    """A record of this request came out of the worker's pipe."""

    provisional: bool


class Woke(Struct, frozen=True):
    """The time asked for by `WakeAt` has come."""


Event = Asked | FoundStanding | AnswerCame | ExchangeFailed | RefusedForGood | Recorded | Woke


class SendLive(Struct, frozen=True):
    """Ask the gateway now."""


class SendFromBacklog(Struct, frozen=True):
    """Ask the gateway now; nobody waits for it."""


class AnswerWorker(Struct, frozen=True):
    """Give the cloud's answer to whoever waits for it; nobody may be."""

    answer: v1.Escalated


class TellWorkerNo(Struct, frozen=True):
    """Tell whoever waits that no answer comes in time."""

    reason: str


class NumberRecord(Struct, frozen=True):
    """Number this record; nothing is owed for it."""


class NumberAndOwe(Struct, frozen=True):
    """Number this record and store its question, in one transaction."""


class Owe(Struct, frozen=True):
    """Store the question alone: a record of its id was numbered before."""


class IssueRevision(Struct, frozen=True):
    """Number the revision, keep it for its client and drop the question, in one transaction.

    A question that no longer stands was revised before, and then nothing happens; unless none ever
    stood (`settles` is false).
    """

    answer: v1.Escalated
    settles: bool = True


class Abandon(Struct, frozen=True):
    """Drop the question for ever and count its revision as lost, with the reason.

    As with a revision, nothing happens twice, unless none ever stood.
    """

    reason: str
    settles: bool = True


class WakeAt(Struct, frozen=True):
    at: float


class Forget(Struct, frozen=True):
    """Keep nothing of this request, not even its id."""


Effect = (
    SendLive
    | SendFromBacklog
    | AnswerWorker
    | TellWorkerNo
    | NumberRecord
    | NumberAndOwe
    | Owe
    | IssueRevision
    | Abandon
    | WakeAt
    | Forget
)


class Step(Struct, frozen=True):
    state: Case
    effects: tuple[Effect, ...] = ()


def step(state: Case, event: Event, now: float) -> Step:
    """The table."""
    match state.phase, event:
        # -- a worker asks, for the first time or again under the same id
        case Phase.ASKED | Phase.OWED, Asked():
            return Step(state)  # joins the exchange under way
        case Phase.PARTED, Asked():
            return _owed(state, Phase.STANDING, TellWorkerNo("deadline"))
        case _, Asked() if state.answer is not None:
            return Step(state, (AnswerWorker(state.answer),))
        case Phase.REFUSED | Phase.MADE_GOOD, Asked():
            return Step(state, (TellWorkerNo("refused"),))
        case Phase.STANDING, Asked(obstacle):
            if obstacle:
                return Step(state, (TellWorkerNo(obstacle),))
            return Step(replace(state, phase=Phase.OWED), (SendLive(),))
        case _, Asked(obstacle):
            if obstacle:
                return _waits(state, Phase.UNANSWERED, now, TellWorkerNo(obstacle))
            return Step(replace(state, phase=Phase.ASKED), (SendLive(),))

        # -- the gateway answers
        case Phase.ASKED | Phase.UNANSWERED, AnswerCame(answer):
            answered = replace(state, answer=answer)
            return _waits(answered, Phase.ANSWERED, now, AnswerWorker(answer))
        case Phase.OWED, AnswerCame(answer):
            settled = replace(state, phase=Phase.MADE_GOOD, answer=answer)
            return Step(settled, (AnswerWorker(answer), IssueRevision(answer)))
        case _, AnswerCame():
            return Step(state)  # answered twice, or no longer wanted

        # -- the gateway does not
        case Phase.ASKED, ExchangeFailed(reason):
            return _waits(state, Phase.UNANSWERED, now, TellWorkerNo(reason))
        case Phase.OWED, ExchangeFailed(reason):
            return Step(replace(state, phase=Phase.STANDING), (TellWorkerNo(reason),))
        case Phase.ASKED, RefusedForGood(code):
            refused = replace(state, refusal=code)
            return _waits(refused, Phase.REFUSED, now, TellWorkerNo("refused"))
        case Phase.OWED, RefusedForGood(code):
            settled = replace(state, phase=Phase.MADE_GOOD, refusal=code)
            return Step(settled, (TellWorkerNo("refused"), Abandon(code)))
        case _, ExchangeFailed() | RefusedForGood():
            return Step(state)  # nobody waits for this exchange any more

        # -- the worker has answered its caller
        case Phase.OWED | Phase.STANDING | Phase.MADE_GOOD | Phase.PARTED, Recorded():
            return Step(state)  # the first record counts, and its debt is in the books
        case _, Recorded(provisional=False):
            closed = replace(state, phase=Phase.CLOSED, counted=True)
            return Step(closed, () if state.counted else (NumberRecord(),))
        case Phase.ASKED, Recorded():
            return _owed(state, Phase.OWED)
        case Phase.UNANSWERED, Recorded():
            return _owed(state, Phase.STANDING)
        case Phase.REFUSED, Recorded():
            return _owed(state, Phase.MADE_GOOD, Abandon(state.refusal))
        case _, Recorded() if state.answer is not None and state.counted:
            revised = replace(state, phase=Phase.MADE_GOOD)
            return Step(revised, (IssueRevision(state.answer, settles=False),))
        case _, Recorded() if state.answer is not None:
            return _owed(state, Phase.MADE_GOOD, IssueRevision(state.answer))
        case _, Recorded():
            parted = replace(state, phase=Phase.PARTED, until=now + PARTED_S)
            return Step(parted, (WakeAt(parted.until),))

        # -- the backlog's turn; whatever stands there had its record numbered
        case Phase.OWED, FoundStanding():
            return Step(state)
        case Phase.ASKED, FoundStanding():
            return Step(replace(state, phase=Phase.OWED, counted=True))
        case _, FoundStanding() if state.answer is not None:
            settled = replace(state, phase=Phase.MADE_GOOD, counted=True)
            return Step(settled, (IssueRevision(state.answer),))
        case Phase.REFUSED | Phase.MADE_GOOD, FoundStanding():
            settled = replace(state, phase=Phase.MADE_GOOD, counted=True)
            return Step(settled, (Abandon(state.refusal),))
        case _, FoundStanding():
            return Step(replace(state, phase=Phase.OWED, counted=True), (SendFromBacklog(),))

        # -- nothing more came
        case Phase.ANSWERED | Phase.UNANSWERED | Phase.REFUSED, Woke() if now >= state.until:
            if state.counted:
                return Step(replace(state, phase=Phase.CLOSED))
            return Step(Case(), (Forget(),))
        case Phase.PARTED, Woke() if now >= state.until:
            lost = replace(state, counted=True, refusal="question_cut_off")
            ends = (NumberRecord(), Abandon(lost.refusal, settles=False))
            return Step(replace(lost, phase=Phase.MADE_GOOD), ends[1:] if state.counted else ends)
        case _, Woke():
            return Step(state)  # a wake-up for a phase that has passed


_ABOUT_THE_DEVICE = frozenset({"unauthorised", "token_revoked", "forbidden", "wrong_device"})


def event_of(reply: v1.Down) -> AnswerCame | ExchangeFailed | RefusedForGood:
    """What a reply means for the question. A device turned away keeps its questions."""
    match reply:
        case v1.Escalated():
            return AnswerCame(reply)
        case v1.Refused(code) if code in _ABOUT_THE_DEVICE:
            return ExchangeFailed("refused")
        case v1.Refused(code, permanent=True):
            return RefusedForGood(code)
        case v1.Refused():
            return ExchangeFailed("overloaded")
        case _:
            return ExchangeFailed("odd_reply")


def _waits(state: Case, phase: Phase, now: float, *effects: Effect) -> Step:
    """No record yet: wait for it, but not for ever."""
    waiting = replace(state, phase=phase, until=now + PATIENCE_S)
    return Step(waiting, (*effects, WakeAt(waiting.until)))


def _owed(state: Case, phase: Phase, *effects: Effect) -> Step:
    """The caller holds a provisional answer: number its record once, store its question."""
    owe = Owe() if state.counted else NumberAndOwe()
    return Step(replace(state, phase=phase, counted=True), (owe, *effects))
