"""Median time of one request for several open files, measured so that they can be compared.

Rules:
1. Files take turns in short rounds: what else the machine does meets all of them alike.
2. A ratio is the median of the rounds' ratios, never the ratio of two medians taken apart.
3. A call is one sample, as a device runs it, on one thread.
"""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

ROUNDS = 15
_WARM = 3


class Timing(NamedTuple):
    """How long one call takes."""

    median_us: float
    rounds: tuple[float, ...]
    """Median of each round, in seconds."""

    def over(self, other: "Timing") -> float:
        """How many times as long as another that was measured in turns with this one."""
        return median(mine / its for mine, its in zip(self.rounds, other.rounds, strict=True))


def measure(
    calls: Sequence[Callable[[], object]],
    seconds: float,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Timing, ...]:
    """Times of `calls`, interleaved; each gets about `seconds` altogether."""
    for call in calls:
        for _ in range(_WARM):
            call()
    rounds: list[list[float]] = [[] for _ in calls]
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(ROUNDS):
        for at, call in enumerate(calls):
            taken = _one_round(call, seconds / ROUNDS, clock)
            rounds[at].append(median(taken))
            times[at] += taken
    return tuple(
        Timing(1e6 * median(each), tuple(medians))
        for each, medians in zip(times, rounds, strict=True)
    )


def _one_round(
    call: Callable[[], object], seconds: float, clock: Callable[[], float]
) -> list[float]:
    taken: list[float] = []
    ends = clock() + seconds
    while not taken or clock() < ends:
        begun = clock()
        call()
        taken.append(clock() - begun)
    return taken
