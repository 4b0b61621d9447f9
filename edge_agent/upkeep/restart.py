"""How long to wait before a worker that ended is started again. (pure)

1. A worker that served is started again at once the first time: whatever killed it, its callers
   are waiting.
2. Every end that follows another within `steady_s` doubles the pause, with full jitter: a worker
   that cannot live must not eat the machine.
3. A worker that never served waits from its first end on.
"""

from typing import Annotated

from msgspec import Meta, Struct

from sync.backoff import Backoff, delay_s


class RestartPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """The numbers of the rules above, and of those in `blame`."""

    pause: Backoff = Backoff(base_s=0.1, cap_s=15.0)
    steady_s: float = 10.0
    loop_ends: Annotated[int, Meta(ge=2)] = 5
    loop_s: Annotated[float, Meta(gt=0.0)] = 60.0
    """So many ends in so long are a crash loop."""


class Ends(Struct, frozen=True):
    """How many ends came close together."""

    close: int = 0


class Restart(Struct, frozen=True):
    """What to do about one more."""

    ends: Ends
    pause_s: float


def after_end(
    ends: Ends, policy: RestartPolicy, *, served: bool, lived_s: float, chance: float
) -> Restart:
    """The pause after a worker that lived so long; `chance` is from [0, 1)."""
    close = 0 if served and lived_s >= policy.steady_s else ends.close
    if served and close == 0:
        return Restart(Ends(1), 0.0)
    pause_s = delay_s(policy.pause, max(0, close - 1), chance)
    return Restart(Ends(close + 1), pause_s)
