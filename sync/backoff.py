"""How long to wait before trying again: full jitter.

The delay is uniform up to a ceiling, so a fleet that lost its gateway together does not come back
together. The ceiling grows with the attempts, or with the time it has been down. Chance enters as
an argument: whoever waits draws it.
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
    return _jittered(backoff.base_s * 2.0 ** min(attempt, 64), backoff, chance)


def delay_by_outage_s(backoff: Backoff, down_s: float, chance: float) -> float:
    """Seconds before the next try after `down_s` without: at most a share of that time.

    So whoever was cut off for ten seconds is back within one more, which doubling cannot promise.
    """
    return _jittered(max(backoff.base_s, _SHARE * down_s), backoff, chance)


def _jittered(ceiling_s: float, backoff: Backoff, chance: float) -> float:
    return min(ceiling_s, backoff.cap_s) * (_FLOOR + (1.0 - _FLOOR) * chance)


_FLOOR = 0.05
_SHARE = 0.08
