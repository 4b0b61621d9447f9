"""What the gateway may say about a device it hears from now and then. Pure: the clock is handed in.

1. `never`: enrolled and not heard from once.
2. `live`: heard within the last `silent_after_s` seconds.
3. `silent`: not heard for longer, by a gateway that was there to hear it.
4. `unknown`: the gateway has not listened for a whole `silent_after_s` yet, so silence may be its
   own; or the last contact lies ahead of the clock, so nobody can say how long ago it was.
5. A judgement holds until `until`; after that moment it says nothing, and nobody may show it as if
   it did.
"""

from math import inf

from msgspec import Struct

from cloud_gateway.facts import State

CLOCK_SLACK_S = 2.0
"""A last contact this far ahead of now is two readings of one clock, not a clock that jumped."""


class Presence(Struct, frozen=True):
    """One judgement, and the moment it stops being one."""

    state: State
    until: float


def judge(
    contact_at: float | None, now: float, *, listening_since: float, silent_after_s: float
) -> Presence:
    """Whether a device last heard at `contact_at` is there, as far as this gateway can know.

    All times by the gateway's own wall clock.
    """
    if contact_at is None:
        return Presence("never", inf)
    age = now - contact_at
    if age < -CLOCK_SLACK_S:
        return Presence("unknown", contact_at)
    if age <= silent_after_s:
        return Presence("live", contact_at + silent_after_s)
    listened = now - listening_since
    if listened < silent_after_s:
        return Presence("unknown", listening_since + silent_after_s)
    return Presence("silent", inf)
