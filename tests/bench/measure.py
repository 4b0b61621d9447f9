"""How benches measure: things that are compared take turns, and medians are compared.

A machine that does other work slows some rounds, not one of the things compared. So every measure
runs once per round, the order turns, a difference is taken within its round, and the median over
rounds is what is published.
"""

import contextlib
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

Measure = Callable[[], float]


class Memory(msgspec.Struct, frozen=True):
    """What one process holds, in MiB, from the least to the most one can say."""

    private_mb: float
    """Pages no other process maps."""
    pss_mb: float
    """Pages others map, too, count by their share, whoever the others are."""
    alone_mb: float
    """As `pss_mb` would be if only the processes named beside it ran on this machine."""
    rss_mb: float


def interleaved(rounds: int, measures: Sequence[Measure]) -> list[list[float]]:
    """Run each measure once per round, the order turned by one each time; values by measure."""
    values: list[list[float]] = [[] for _ in measures]
    for turn in range(rounds):
        for step in range(len(measures)):
            index = (turn + step) % len(measures)
            values[index].append(measures[index]())
    return values


def typical_us(took_ns: Sequence[int]) -> float:
    """The median of single calls, in microseconds."""
    return statistics.median(took_ns) / 1000


def median(values: Sequence[float], digits: int = 1) -> float:
    return round(statistics.median(values), digits)


def over(values: Sequence[float], floor: Sequence[float], digits: int = 1) -> float:
    """The median of how much more than the floor it was, round by round."""
    return median([one - least for one, least in zip(values, floor, strict=True)], digits)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process's threads, ended ones included, as the scheduler counts it.

    `/proc/PID/task/*/schedstat` holds the same numbers, but forgets threads that ended and lags by
    a tick for those that run; the process's own clock does neither.
    """
    return time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3), which Python has not


def memory(pids: Sequence[int]) -> list[Memory]:
    """What these processes hold now, each.

    The kernel's PSS divides a library by all who map it, and on the machine of a bench these are
    also the bench, its gateway and whatever else runs. `alone_mb` divides it by these pids only.
    """
    held = [_mappings(pid) for pid in pids]
    mapping = Counter(path for each in held for path in {one.path for one in each})
    return [
        Memory(
            private_mb=_mib(sum(one.private_kib for one in each)),
            pss_mb=_mib(sum(one.pss_kib for one in each)),
            alone_mb=_mib(
                sum(
                    one.anonymous_kib
                    + (one.rss_kib - one.anonymous_kib) / (mapping[one.path] if one.path else 1)
                    for one in each
                )
            ),
            rss_mb=_mib(sum(one.rss_kib for one in each)),
        )
        for each in held
    ]


def cores() -> tuple[int, ...]:
    """The cores this process may use, lowest first."""
    return tuple(sorted(os.sched_getaffinity(0)))


def pin(pid: int, core: int) -> None:
    """Keep every thread of a process, and those it will start, on one core."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # a thread may end meanwhile
            os.sched_setaffinity(int(task.name), {core})


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """This thread stays on one core inside the block."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class _Mapping(msgspec.Struct):
    """One line of /proc/PID/maps with what smaps says of it; `path` is empty without a file."""

    path: str
    rss_kib: int = 0
    pss_kib: int = 0
    private_kib: int = 0
    anonymous_kib: int = 0


def _mappings(pid: int) -> list[_Mapping]:
    found: list[_Mapping] = []
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        match line.split():
            case ["Rss:", kib, "kB"]:
                found[-1].rss_kib = int(kib)
            case ["Pss:", kib, "kB"]:
                found[-1].pss_kib = int(kib)
            case ["Private_Clean:" | "Private_Dirty:", kib, "kB"]:
                found[-1].private_kib += int(kib)
            case ["Anonymous:", kib, "kB"]:
                found[-1].anonymous_kib = int(kib)
            case [span, _, _, _, _, *path] if "-" in span:
                found.append(_Mapping(" ".join(path) if path and path[0][0] == "/" else ""))
            case _:
                pass
    return found


def _mib(kib: float) -> float:
    return round(kib / 1024, 1)
