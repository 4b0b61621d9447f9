"""What asking the cloud about one hard input is worth, and which way of asking pays. Pure.

Values are in right answers; a budget's units are bytes or billionths of money. With g the gain of
the input's score, D the time left, F the chance of an answer within D, W the wait to be expected,
rho what a revision is worth beside an answer in time, w what a second of waiting costs:

    sync  = F g + (1 - F) rho g - w W        wait for the cloud; a late answer is a revision
    async = rho g                            answer now, revise later
    local = 0

Rules:
1. With a budget, the best of {local, sync - price * cost, async - price * cost} is done; without a
   link there is no sync, and what costs more than is left is local.
2. Without a budget nothing has a price, so a hard input is never local: it is sync, unless round
   trips say that no answer can be expected in time (F below `HOPELESS`).
3. F = (1/2 + #{round trip <= D}) / (n + 1), of the last ones in the link's present state; W is
   their mean, each cut at D; a link nobody has tried is not held to be slow.
4. A package without a gain curve has the label-free one: where the answers differ half of them are
   the edge's fault, so g = (1 - s) / 2. An input without a score gains what the lowest score does.
(cascade note, section 5)
"""

from bisect import bisect_left, bisect_right
from itertools import accumulate
from math import ceil, inf
from typing import Literal, NamedTuple

from msgspec import Struct

from models.calibrate.curve import Gain

HOPELESS = 0.1
"""Reached after five round trips, none of which would have been in time."""
LABEL_FREE = 0.5

Action = Literal["local", "sync", "async"]


class Weather(Struct, frozen=True):
    """The link and the budget as they are now. `weather` makes it."""

    up: bool = True
    trips: tuple[float, ...] = ()
    """Seconds, ascending."""
    sums: tuple[float, ...] = (0.0,)
    """Of the first 0, 1, 2... of them."""
    left: int | None = None
    price: float = 0.0
    call_cost: int = 0
    byte_cost: float = 1.0
    revision_worth: float = 0.5
    """rho, from 0 (only an answer in time counts) to 1 (a revision is as good)."""
    wait_cost: float = 0.02
    """w, in right answers for each second."""


class Choice(NamedTuple):
    """What to do with one hard input, and why it pays."""

    action: Action
    value: float
    """Of the better way of asking, before its price."""
    cost: int
    threshold: float | None
    """Local for its price: from this score on the price leaves every input local that is as large
    and as urgent. Else None."""


def weather(
    *,
    up: bool,
    round_trips: tuple[float, ...],
    left: int | None = None,
    price: float = 0.0,
    call_cost: int = 0,
    byte_cost: float = 1.0,
    revision_worth: float = 0.5,
    wait_cost: float = 0.02,
) -> Weather:
    """Conditions, made ready to be looked up."""
    trips = tuple(sorted(round_trips))
    sums = tuple(accumulate(trips, initial=0.0))
    return Weather(up, trips, sums, left, price, call_cost, byte_cost, revision_worth, wait_cost)


def on_time(now: Weather, within_s: float) -> float:
    """F: the chance that the cloud answers within this time."""
    if within_s <= 0:
        return 0.0
    return (0.5 + bisect_right(now.trips, within_s)) / (len(now.trips) + 1)


def wait_s(now: Weather, within_s: float) -> float:
    """W: how long an answer is waited for, on average, by somebody who leaves after this time."""
    within_s = max(within_s, 0.0)
    quick = bisect_right(now.trips, within_s)
    late = len(now.trips) - quick
    return (now.sums[quick] + late * within_s) / max(len(now.trips), 1)


def gain_at(gain: Gain | None, score: float | None) -> float:
    """g, by rule 4."""
    if gain is not None:
        return gain.at(score)
    return LABEL_FREE * (1.0 - score) if score is not None else LABEL_FREE


def choose(
    *,
    score: float | None,
    size: int,
    within_s: float,
    gain: Gain | None,
    now: Weather,
) -> Choice:
    """What to do with a hard input of `size` bytes that must be answered `within_s`."""
    g = gain_at(gain, score)
    rho = now.revision_worth
    later = rho * g
    cost = now.call_cost + ceil(now.byte_cost * size)
    chance = on_time(now, within_s) if now.up else 0.0
    if now.left is None:
        live = within_s > 0 and (not now.up or chance >= HOPELESS)
        value = chance * g + (1 - chance) * later
        return Choice("sync" if live else "async", max(value, 0.0), cost, None)
    ease = chance + (1 - chance) * rho
    waiting = now.wait_cost * wait_s(now, within_s) if now.up else 0.0
    soon = ease * g - waiting if now.up and within_s > 0 else -inf
    value = max(soon, later)
    if cost > now.left:
        return Choice("local", value, cost, 0.0)
    toll = now.price * cost
    if value > toll:
        return Choice("sync" if soon >= later else "async", value, cost, None)
    # Both ways are linear in g, so at most this gain is not worth the price.
    dear = inf if rho <= 0 else toll / rho
    if soon > -inf and ease > 0:
        dear = min(dear, (toll + waiting) / ease)
    return Choice("local", value, cost, _score_of(gain, dear))


def _score_of(gain: Gain | None, most: float) -> float:
    """The lowest score whose gain is at most this."""
    if gain is None:
        return min(max(1.0 - most / LABEL_FREE, 0.0), 1.0)
    place = bisect_left(gain.gains, -most, key=lambda one: -one)
    # Below the first block the first block's gain stands.
    return 0.0 if place == 0 else gain.scores[min(place, len(gain.scores) - 1)]
