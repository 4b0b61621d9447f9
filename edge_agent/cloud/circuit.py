"""When a device speaks to its gateway unasked: heartbeats, probes, the pace of the backlog. (core)

Rules:
1. The link is up from the first reply and down once an exchange finds no connection, or
   `most_unanswered` in a row got no reply: a broker's acknowledgement is none. Questions are also
   counted among themselves, so that answered heartbeats hide nothing. What was asked before the
   last reply is not counted, be it a heartbeat: since then the link was seen to work. Nothing is
   guessed: a link nobody has used is down until the first heartbeat is answered.
2. Up, a heartbeat goes every `beat_s`, and at once when an exchange got no reply. Down, heartbeats
   are the probes: the first at once, the next ones after a jittered share of the time it has been
   down. One heartbeat at a time.
3. Live before backlog: all exchanges share `window` places, and the backlog gets only those that
   live ones leave. It always gets one, so that it never starves.
   Live ones are declined from `most_live` on: what waits longer than its caller helps nobody.
4. Down or held, nothing is sent from the backlog. A busy gateway is left alone as long as it asks
   (`Retry-After`): by the backlog, by heartbeats it refused, and by live questions, which are
   declined at once and answered on the device.
5. Silence is not mended by a heartbeat alone: a gateway whose models hang answers those. After it
   the link is on trial: one question at a time, until one is answered. If it is not, the link is
   down again, for longer each time.
6. A notice or news from the device itself (a version refused, a task serving) is worth a heartbeat
   at once; news that comes while one is under way gets another after it.
"""

from math import inf

from msgspec import Struct
from msgspec.structs import replace

from sync.backoff import Backoff, delay_by_outage_s, delay_s


class Pace(Struct, frozen=True, forbid_unknown_fields=True):
    """The numbers of the rules above."""

    beat_s: float = 15.0
    probe: Backoff = Backoff(base_s=0.5, cap_s=15.0)
    window: int = 4
    most_live: int = 32
    most_unanswered: int = 2


class Circuit(Struct, frozen=True):
    """What the device knows of its link."""

    pace: Pace = Pace()
    up: bool = False
    down_since: float | None = None
    """When it went down, or was first found to be."""
    unanswered: int = 0
    """Exchanges without a reply since the last one with."""
    questions_unanswered: int = 0
    """Questions without one since the last question with."""
    replied_at: float = -inf
    question_replied_at: float = -inf
    doubted: bool = False
    """Whether it went down for want of replies, and no question has been answered since."""
    trials_failed: int = 0
    left_alone_until: float = 0.0
    """Until when the gateway asks to be left alone."""
    live: int = 0
    from_backlog: int = 0
    more_waiting: bool = True
    """Whether the outbox may hold a question nobody is asking; after a start nobody knows."""
    backlog_at: float = 0.0
    beating: bool = False
    beat_began: float = 0.0
    beat_at: float = 0.0
    news: bool = False
    held: bool = False
    """Whether the backlog has to wait, because the device spares itself or its uplink."""


class Replied(Struct, frozen=True):
    """The gateway said something to anything but a heartbeat."""

    question: bool = False


class ExchangeFailed(Struct, frozen=True):
    """There is no connection."""


class NoReply(Struct, frozen=True):
    """It was sent, and no reply came in time, or one that is none; `chance` as in `BeatFailed`."""

    chance: float
    asked_at: float
    question: bool = False


class BeatReplied(Struct, frozen=True):
    """The heartbeat under way was answered. `asked_s`: how long the gateway asks to wait."""

    asked_s: float = 0.0


class BeatFailed(Struct, frozen=True):
    """It was not; `chance` from [0, 1) spreads the probes of a fleet."""

    chance: float


class LiveBegan(Struct, frozen=True):
    """A question with somebody waiting for it went out."""


class LiveEnded(Struct, frozen=True):
    """It has its outcome. `asked_s`: how long the gateway asks to be left alone."""

    asked_s: float = 0.0


class QuestionStored(Struct, frozen=True):
    """The outbox holds one more question."""


class BacklogTaken(Struct, frozen=True):
    """Of the places offered by `SendBacklog`, so many were used; and whether there is more."""

    offered: int
    used: int
    more: bool


class BacklogEnded(Struct, frozen=True):
    """A question from the backlog has its outcome.

    `busy_s`: how long the backlog rests; `asked_s`: how long the gateway asks to be left alone.
    """

    busy_s: float = 0.0
    asked_s: float = 0.0


class NewsCame(Struct, frozen=True):
    """The gateway ought to hear something now, or has something to say."""


class Held(Struct, frozen=True):
    """The backlog has to wait, or may go on."""

    on: bool


class Woke(Struct, frozen=True):
    """The agent came up, or the time asked for by `WakeAt` has come."""


Event = (
    Replied
    | ExchangeFailed
    | NoReply
    | BeatReplied
    | BeatFailed
    | LiveBegan
    | LiveEnded
    | QuestionStored
    | BacklogTaken
    | BacklogEnded
    | NewsCame
    | Held
    | Woke
)


class Beat(Struct, frozen=True):
    """Send a heartbeat now."""


class SendBacklog(Struct, frozen=True):
    """Send up to so many of the oldest questions; answer with `BacklogTaken`."""

    places: int


class WakeAt(Struct, frozen=True):
    """The only wake-up wanted; it replaces the one before."""

    at: float


Effect = Beat | SendBacklog | WakeAt


class Step(Struct, frozen=True):
    state: Circuit
    effects: tuple[Effect, ...] = ()


def obstacle(state: Circuit, now: float, *, connected: bool) -> str:
    """Why a live question cannot be sent now; empty when it can."""
    if not (state.up and connected):
        return "link_down"
    if state.doubted and state.live + state.from_backlog:
        return "link_down"  # one question at a time, and that one is under way
    if now < state.left_alone_until or state.live >= state.pace.most_live:
        return "overloaded"
    return ""


def quiet(state: Circuit) -> bool:
    """Whether the link is up and has nothing else to do: the turn of what nobody waits for."""
    return state.up and not (state.live or state.from_backlog or state.more_waiting)


def step(state: Circuit, event: Event, now: float) -> Step:
    """Take note of the event, then do whatever is due."""
    return _due(_noted(state, event, now), now)


def _noted(state: Circuit, event: Event, now: float) -> Circuit:
    match event:
        case Replied(question=True):
            return replace(
                state,
                up=True,
                down_since=None,
                unanswered=0,
                questions_unanswered=0,
                replied_at=now,
                question_replied_at=now,
                doubted=False,
                trials_failed=0,
            )
        case Replied() if state.doubted and not state.up:
            return state  # that records get through says nothing of questions
        case Replied():
            return replace(state, up=True, down_since=None, unanswered=0, replied_at=now)
        case ExchangeFailed() if state.up:
            return _down(state, now, beat_at=now)
        case NoReply(_, asked_at, question) if asked_at <= (
            state.question_replied_at if question else state.replied_at
        ):
            return state
        case NoReply(chance) if state.up and state.doubted:
            pause_s = delay_s(state.pace.probe, state.trials_failed, chance)
            failed = replace(state, trials_failed=state.trials_failed + 1)
            return _down(failed, now, beat_at=now + pause_s)
        case NoReply(question=question) if state.up:
            missed = replace(
                state,
                unanswered=state.unanswered + 1,
                questions_unanswered=state.questions_unanswered + question,
            )
            most = max(missed.unanswered, missed.questions_unanswered)
            if most >= state.pace.most_unanswered:
                return _down(replace(missed, doubted=True), now, beat_at=now)
            return replace(missed, beat_at=min(state.beat_at, now))
        case ExchangeFailed() | NoReply() | Woke():
            return state  # several fail together when a link goes; the probes are under way
        case BeatReplied(asked_s):
            return replace(
                state,
                up=True,
                down_since=None,
                unanswered=0,
                replied_at=now,
                beating=False,
                news=False,
                beat_at=now + max(asked_s, 0.0 if state.news else state.pace.beat_s),
            )
        case BeatFailed() if state.up and state.beat_began < state.replied_at:
            return replace(state, beating=False, beat_at=now)
        case BeatFailed(chance):
            since = now if state.down_since is None else state.down_since
            pause_s = delay_by_outage_s(state.pace.probe, now - since, chance)
            return replace(
                state,
                up=False,
                down_since=since,
                beating=False,
                news=False,
                beat_at=now + pause_s,
            )
        case LiveBegan():
            return replace(state, live=state.live + 1)
        case LiveEnded(asked_s):
            return _left_alone(replace(state, live=state.live - 1), now, asked_s)
        case QuestionStored():
            return replace(state, more_waiting=True)
        case BacklogTaken(offered, used, more):
            in_use = state.from_backlog - (offered - used)
            return replace(state, from_backlog=in_use, more_waiting=more)
        case BacklogEnded(busy_s, asked_s):
            later = now + busy_s if busy_s else 0.0
            ended = replace(
                state,
                from_backlog=state.from_backlog - 1,
                backlog_at=max(state.backlog_at, later),
                more_waiting=True,  # it may be standing again
            )
            return _left_alone(ended, now, asked_s)
        case Held(on):
            return replace(state, held=on)
        case NewsCame() if state.beating:
            return replace(state, news=True)
        case NewsCame() if state.up:
            return replace(state, beat_at=now)
        case NewsCame():
            return state  # the next probe carries it


def _down(state: Circuit, now: float, *, beat_at: float) -> Circuit:
    return replace(
        state, up=False, down_since=now, unanswered=0, questions_unanswered=0, beat_at=beat_at
    )


def _left_alone(state: Circuit, now: float, asked_s: float) -> Circuit:
    if asked_s <= 0:
        return state
    until = max(state.left_alone_until, now + asked_s)
    return replace(state, left_alone_until=until, backlog_at=max(state.backlog_at, until))


def _due(state: Circuit, now: float) -> Step:
    effects: list[Effect] = []
    if not state.beating and now >= state.beat_at:
        state = replace(state, beating=True, beat_began=now)
        effects.append(Beat())
    room = 1 - state.live if state.doubted else max(1, state.pace.window - state.live)
    places = room - state.from_backlog
    wants_backlog = state.up and state.more_waiting and places > 0 and not state.held
    if wants_backlog and now >= state.backlog_at:
        state = replace(state, from_backlog=state.from_backlog + places)
        effects.append(SendBacklog(places))
        wants_backlog = False
    wakes = [] if state.beating else [state.beat_at]
    if wants_backlog:
        wakes.append(state.backlog_at)
    if wakes:
        effects.append(WakeAt(min(wakes)))
    return Step(state, tuple(effects))
