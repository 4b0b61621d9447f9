"""When a device speaks to its gateway unasked: heartbeats, probes, the pace of the backlog. (core)

Rules:
1. The link is up from the first reply and down from the first exchange that failed. Nothing is
   guessed: a link nobody has used is down until the first heartbeat is answered.
2. Up, a heartbeat goes every `beat_s`. Down, heartbeats are the probes: the first at once, the next
   ones after a jittered share of the time it has been down. One heartbeat at a time.
3. Live before backlog: all exchanges share `window` places, and the backlog gets only those that
   live ones leave. It always gets one, so that it never starves.
   Live ones are declined from `most_live` on: what waits longer than its caller helps nobody.
4. Down, nothing is sent from the backlog. A busy gateway is left alone for as long as it asks.
5. A notice or news from the device itself (a version refused, a task serving) is worth a heartbeat
   at once; news that comes while one is under way gets another after it.
"""

from msgspec import Struct
from msgspec.structs import replace

from sync.backoff import Backoff, delay_by_outage_s


class Pace(Struct, frozen=True, forbid_unknown_fields=True):
    """The numbers of the rules above."""

    beat_s: float = 15.0
    probe: Backoff = Backoff(base_s=0.5, cap_s=15.0)
    window: int = 4
    most_live: int = 32


class Circuit(Struct, frozen=True):
    """What the device knows of its link."""

    pace: Pace = Pace()
    up: bool = False
    down_since: float | None = None
    """When it went down, or was first found to be."""
    live: int = 0
    from_backlog: int = 0
    more_waiting: bool = True
    """Whether the outbox may hold a question nobody is asking; after a start nobody knows."""
    backlog_at: float = 0.0
    beating: bool = False
    beat_at: float = 0.0
    news: bool = False


class Replied(Struct, frozen=True):
    """The gateway said something to anything but a heartbeat."""


class ExchangeFailed(Struct, frozen=True):
    """It did not."""


class BeatReplied(Struct, frozen=True):
    """The heartbeat under way was answered."""


class BeatFailed(Struct, frozen=True):
    """It was not; `chance` from [0, 1) spreads the probes of a fleet."""

    chance: float


class LiveBegan(Struct, frozen=True):
    """A question with somebody waiting for it went out."""


class LiveEnded(Struct, frozen=True):
    """It has its outcome."""


class QuestionStored(Struct, frozen=True):
    """The outbox holds one more question."""


class BacklogTaken(Struct, frozen=True):
    """Of the places offered by `SendBacklog`, so many were used; and whether there is more."""

    offered: int
    used: int
    more: bool


class BacklogEnded(Struct, frozen=True):
    """A question from the backlog has its outcome. `busy_s`: how long the gateway asks to wait."""

    busy_s: float = 0.0


class NewsCame(Struct, frozen=True):
    """The gateway ought to hear something now, or has something to say."""


class Woke(Struct, frozen=True):
    """The agent came up, or the time asked for by `WakeAt` has come."""


Event = (
    Replied
    | ExchangeFailed
    | BeatReplied
    | BeatFailed
    | LiveBegan
    | LiveEnded
    | QuestionStored
    | BacklogTaken
    | BacklogEnded
    | NewsCame
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


def obstacle(state: Circuit, *, connected: bool) -> str:
    """Why a live question cannot be sent now; empty when it can."""
    if not (state.up and connected):
        return "link_down"
    return "overloaded" if state.live >= state.pace.most_live else ""


def step(state: Circuit, event: Event, now: float) -> Step:
    """Take note of the event, then do whatever is due."""
    return _due(_noted(state, event, now), now)


def _noted(state: Circuit, event: Event, now: float) -> Circuit:
    match event:
        case Replied():
            return replace(state, up=True, down_since=None)
        case ExchangeFailed() if state.up:
            return replace(state, up=False, down_since=now, beat_at=now)
        case ExchangeFailed() | Woke():
            return state  # several fail together when a link goes; the probes are under way
        case BeatReplied():
            return replace(
                state,
                up=True,
                down_since=None,
                beating=False,
                news=False,
                beat_at=now if state.news else now + state.pace.beat_s,
            )
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
        case LiveEnded():
            return replace(state, live=state.live - 1)
        case QuestionStored():
            return replace(state, more_waiting=True)
        case BacklogTaken(offered, used, more):
            in_use = state.from_backlog - (offered - used)
            return replace(state, from_backlog=in_use, more_waiting=more)
        case BacklogEnded(busy_s):
            later = now + busy_s if busy_s else 0.0
            return replace(
                state,
                from_backlog=state.from_backlog - 1,
                backlog_at=max(state.backlog_at, later),
                more_waiting=True,  # it may be standing again
            )
        case NewsCame() if state.beating:
            return replace(state, news=True)
        case NewsCame() if state.up:
            return replace(state, beat_at=now)
        case NewsCame():
            return state  # the next probe carries it


def _due(state: Circuit, now: float) -> Step:
    effects: list[Effect] = []
    if not state.beating and now >= state.beat_at:
        state = replace(state, beating=True)
        effects.append(Beat())
    places = max(1, state.pace.window - state.live) - state.from_backlog
    wants_backlog = state.up and state.more_waiting and places > 0
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
