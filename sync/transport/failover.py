"""Which of two ways to the gateway is used, and when to go back to the better one. (core)

Rules, each to be found again in the table below:
1. There is a preferred way and another. The preferred one is used until it fails.
2. A way fails when it has no connection, or when `most_unanswered` exchanges in a row got no reply
   over it: a broker may take messages in and nobody answer them. Just after the start a connection
   is still being made; that is no failure.
3. Then the other way is used, unless it failed too, not long ago. Where both have failed the
   preferred one is used: that is where things are looked for when they mend.
4. Away from the preferred way it is probed, after full jitter. It is used again once all probes of
   `hold_s` were answered. A way that fails again soon after has to hold twice as long.
5. A question that meets silence may be asked over the other way as well, before its time is up. Not
   where that way has failed, nor for a while after the first way answered all the same: then the
   gateway is slow, and asking twice costs bytes for nothing.
"""

from enum import Enum
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from sync.backoff import Backoff, delay_s


class Way(Enum):
    PREFERRED = "preferred"
    OTHER = "other"


class Policy(Struct, frozen=True, forbid_unknown_fields=True):
    """The numbers of the rules above, in seconds where they are times."""

    most_unanswered: int = 2
    settle_s: float = 3.0
    """How long after the start a missing connection means nothing."""
    forget_s: float = 30.0
    """A failure longer ago than this says nothing about now."""
    probe: Backoff = Backoff(base_s=1.0, cap_s=60.0)
    hold_s: float = 10.0
    longest_hold_s: float = 300.0
    steady_s: float = 60.0
    """A way used for this long without failing has held."""
    single_s: float = 60.0
    """How long questions are asked once only, after a second asking brought nothing."""


class Failover(Struct, frozen=True):
    """What is known of both ways."""

    policy: Policy = Policy()
    using: Way = Way.PREFERRED
    settled_at: float = 0.0
    unanswered: int = 0
    """In a row, over the way in use."""
    preferred_failed_at: float | None = None
    other_failed_at: float | None = None
    returned_at: float | None = None
    hold_s: float = 0.0
    good_since: float | None = None
    """Since when the preferred way has answered every probe."""
    probing: bool = False
    probes_failed: int = 0
    probe_at: float = 0.0
    single_until: float = 0.0


class Opened(Struct, frozen=True):
    """Both ways began to connect."""


class Answered(Struct, frozen=True):
    """The gateway replied over this way."""

    way: Way


class AnsweredAllTheSame(Struct, frozen=True):
    """The way asked first replied, after silence had made us ask over the other as well."""

    way: Way


class NotConnected(Struct, frozen=True):
    """Nothing could be handed over. `chance` from [0, 1) spreads the probes of a fleet."""

    way: Way
    chance: float


class NotAnswered(Struct, frozen=True):
    """It was handed over, and no reply came; or one that is none."""

    way: Way
    chance: float


class ProbeAnswered(Struct, frozen=True):
    """The preferred way carried a probe and its reply."""


class ProbeFailed(Struct, frozen=True):
    """It did not."""

    chance: float


class Woke(Struct, frozen=True):
    """The time asked for by `WakeAt` has come."""


Event = (
    Opened
    | Answered
    | AnsweredAllTheSame
    | NotConnected
    | NotAnswered
    | ProbeAnswered
    | ProbeFailed
    | Woke
)


class Use(Struct, frozen=True):
    """From now on, ask over this way first."""

    way: Way


class Probe(Struct, frozen=True):
    """Ask something harmless over the preferred way."""


class WakeAt(Struct, frozen=True):
    """The only wake-up wanted; it replaces the one before."""

    at: float


Effect = Use | Probe | WakeAt


class Step(Struct, frozen=True):
    state: Failover
    effects: tuple[Effect, ...] = ()


def opposite(way: Way) -> Way:
    """The other one of the two."""
    return Way.OTHER if way is Way.PREFERRED else Way.PREFERRED


def may_ask_twice(state: Failover, first: Way, now: float) -> bool:
    """Rule 5: whether a question that meets silence may be asked over the other way as well."""
    return now >= state.single_until and not _failed(state, opposite(first), now)


def step(state: Failover, event: Event, now: float) -> Step:
    """Take note of the event, then do whatever is due."""
    noted = _noted(state, event, now)
    effects: list[Effect] = [] if noted.using is state.using else [Use(noted.using)]
    if noted.using is Way.OTHER and not noted.probing:
        if now >= noted.probe_at:
            noted = replace(noted, probing=True)
            effects.append(Probe())
        else:
            effects.append(WakeAt(noted.probe_at))
    return Step(noted, tuple(effects))


def _noted(state: Failover, event: Event, now: float) -> Failover:
    match event:
        case Opened():
            return replace(state, settled_at=now + state.policy.settle_s)
        case Answered(way):
            return _works(state, way)
        case AnsweredAllTheSame(way):
            return replace(_works(state, way), single_until=now + state.policy.single_s)
        case NotConnected(Way.PREFERRED) if now < state.settled_at:
            return state
        case NotConnected(way, chance):
            return _fails(state, way, now, chance)
        case NotAnswered(way, chance) if way is state.using:
            counted = replace(state, unanswered=state.unanswered + 1)
            if counted.unanswered < state.policy.most_unanswered:
                return counted
            return _fails(counted, way, now, chance)
        case NotAnswered(way, chance):
            return _fails(state, way, now, chance)
        case ProbeAnswered():
            return _holds(replace(state, probing=False, probes_failed=0), now)
        case ProbeFailed(chance):
            pause_s = delay_s(state.policy.probe, state.probes_failed, chance)
            return replace(
                state,
                probing=False,
                good_since=None,
                probes_failed=state.probes_failed + 1,
                probe_at=now + pause_s,
            )
        case Woke():
            return state
        case _:
            assert_never(event)


def _works(state: Failover, way: Way) -> Failover:
    if way is state.using:
        state = replace(state, unanswered=0)
    if way is Way.PREFERRED:
        return replace(state, preferred_failed_at=None)
    return replace(state, other_failed_at=None)


def _fails(state: Failover, way: Way, now: float, chance: float) -> Failover:
    if way is Way.PREFERRED:
        state = replace(state, preferred_failed_at=now)
    else:
        state = replace(state, other_failed_at=now)
    if way is not state.using:
        return state
    if way is Way.OTHER:
        # Either the preferred one has mended, or both are down: rule 3.
        return _returned(state, now)
    if _failed(state, Way.OTHER, now):
        return state
    held = state.returned_at is None or now - state.returned_at >= state.policy.steady_s
    hold_s = state.policy.hold_s if held else 2 * state.hold_s
    return replace(
        state,
        using=Way.OTHER,
        unanswered=0,
        hold_s=min(max(hold_s, state.policy.hold_s), state.policy.longest_hold_s),
        good_since=None,
        probes_failed=1,
        probe_at=now + delay_s(state.policy.probe, 0, chance),
    )


def _holds(state: Failover, now: float) -> Failover:
    """A probe was answered: rule 4."""
    since = now if state.good_since is None else state.good_since
    if state.using is Way.OTHER and now - since >= state.hold_s:
        return _returned(replace(state, preferred_failed_at=None), now)
    return replace(state, good_since=since, probe_at=now + state.hold_s / 4)


def _returned(state: Failover, now: float) -> Failover:
    # A probe may be under way still; it ends by itself, and there is never a second.
    return replace(state, using=Way.PREFERRED, unanswered=0, good_since=None, returned_at=now)


def _failed(state: Failover, way: Way, now: float) -> bool:
    at = state.preferred_failed_at if way is Way.PREFERRED else state.other_failed_at
    return at is not None and now - at < state.policy.forget_s
