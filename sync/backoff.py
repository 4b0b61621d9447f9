"""How long to wait before trying again: full jitter.

The delay is uniform up to `base * 2**attempt`, capped, so a fleet that lost its gateway
together does not come back together. Chance enters as an argument: whoever waits draws it.
"""

from msgspec import Struct


class Backoff(Struct, frozen=True, forbid_unknown_fields=True):
    """The two numbers of a retry."""

    base_s: float
    cap_s: float


def delay_s(backoff: Backoff, attempt: int, chance: float) -> float:
    """Seconds before try number `attempt` (the first retry is 0), given `chance` from [0, 1).

    A small share of the ceiling is always waited: a run of zeros would hammer a gateway in trouble.
    """
    # 2**64 times any base is past any cap; without the bound a long outage overflows the float.
    ceiling = min(backoff.cap_s, backoff.base_s * 2.0 ** min(attempt, 64))
    return ceiling * (_FLOOR + (1.0 - _FLOOR) * chance)


_FLOOR = 0.05
