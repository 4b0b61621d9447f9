"""What a unit of the budget must be worth to be spent: found anew as the hour goes on. (core)

The smallest price at which what lately was worth more would, at the present pace, use up no more
than is left by the end of the hour (re-solving; cascade note, section 5). Rules:
1. The last `WINDOW` hard inputs of all tasks stand for those to come, escalated or not.
2. The pace is that of this hour; in its first `SOON_S` also of the one before. An hour may still
   become busier, so `HEDGE` times as much again is expected at its beginning, and less and less as
   it goes on: what a rush would need is not spent on little before it.
3. Solved again after every `EVERY` inputs, and when an hour begins.
4. The more is left, the lower the price; all of it affordable is 0, nothing left is `DEAREST`.
5. A price outlives a restart, so that a device that restarts often does not begin free of charge.
"""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

WINDOW = 800
EVERY = 25
FEWEST = 10
"""Fewer inputs say too little."""
SOON_S = 600.0
HEDGE = 1.5
"""Found in `./just bench budget`, where an hour has a rush in its middle; at 0 it lost up to five
of a hundred parts of the gain there."""
HOUR_S = 3600.0
DEAREST = 1e300
"""More than anything is worth; infinity cannot be said in JSON."""


class Weighed(NamedTuple):
    """One hard input: worth per unit, and units."""

    worth: float
    cost: int


class Market(Struct, frozen=True):
    """What the price is made from, and the price."""

    price: float = 0.0
    recent: tuple[Weighed, ...] = ()
    seen: int = 0
    """In this hour."""
    began: float = 0.0
    """When this hour began, or when watching did if that was later."""
    before: float = 0.0
    """Inputs per second of the hour before; 0 where nobody watched it."""
    unsolved: int = 0
    """Inputs since the price was found."""


class Considered(Struct, frozen=True):
    """Hard inputs came. `left`: units of the budget; `ends`: when the hour does."""

    inputs: tuple[Weighed, ...]
    left: int
    ends: float


class HourBegan(Struct, frozen=True):
    """A new budget, until then."""

    left: int
    ends: float


Event = Considered | HourBegan


class Step(Struct, frozen=True):
    """The price is in the state; there is nothing to perform."""

    state: Market


def step(state: Market, event: Event, now: float) -> Step:
    match event:
        case HourBegan(left, ends):
            spent_s = now - state.began
            pace = state.seen / spent_s if spent_s > SOON_S else state.before
            state = replace(state, seen=0, began=now, before=pace)
            return Step(_solved(state, left, ends, now))
        case Considered(inputs, left, ends):
            unsolved = state.unsolved + len(inputs)
            state = replace(
                state,
                recent=(*state.recent, *inputs)[-WINDOW:],
                seen=state.seen + len(inputs),
                unsolved=unsolved,
            )
            few = len(state.recent) < FEWEST
            if few or (unsolved < EVERY and len(state.recent) > EVERY):
                return Step(state)
            return Step(_solved(state, left, ends, now))


def pace(state: Market, now: float) -> float:
    """Hard inputs per second to be expected, by rule 2."""
    watched_s = max(now - state.began, 1.0)
    here = state.seen / watched_s
    if not state.before or watched_s >= SOON_S:
        return here
    share = watched_s / SOON_S
    return share * here + (1 - share) * state.before


def to_come(state: Market, ends: float, now: float) -> float:
    """Hard inputs to be prepared for until the hour ends."""
    rest_s = max(ends - now, 0.0)
    busier = 1 + HEDGE * min(rest_s / HOUR_S, 1.0) ** 3
    return max(1.0, pace(state, now) * rest_s * busier)


def solve(recent: Sequence[Weighed], each: float) -> float:
    """The smallest price at which, of inputs like these, those worth more cost `each` on average.

    `each`: units that may be spent for each input to come, escalated or not.
    """
    most = each * len(recent)
    total = 0
    for worth, cost in sorted(recent, reverse=True):
        total += cost
        if total > most:
            return max(worth, 0.0)
    return 0.0


def _solved(state: Market, left: int, ends: float, now: float) -> Market:
    if left <= 0:
        return replace(state, price=DEAREST, unsolved=0)
    if len(state.recent) < FEWEST:
        return replace(state, price=0.0 if state.price >= DEAREST else state.price)
    each = left / to_come(state, ends, now)
    return replace(state, price=solve(state.recent, each), unsolved=0)
