"""Whether a device grows: memory of supervisor and worker under steady requests, kills and swaps.

    ./just bench soak [--quick | --full] [--json] [--seed N]

A real gateway and a real agent; every few seconds the worker is killed or another version takes its
place. docs/reference/benchmarks.md explains every key. Exit codes: 0 measured, 1 memory grows by
more than the limit, a request was dropped, or a process that leaks on purpose looks well.
"""

import contextlib
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import combinations, groupby
from pathlib import Path

from msgspec import Struct
from msgspec.structs import asdict, replace

from models.tensors import Sample
from models.twins import build_twin, twin_sample
from tests.bench.device import Device
from tests.bench.programs import Gateway, enrol, gateway, until
from tests.bench.setting import NotMeasured, Setting, begin, end, note
from tests.bench.steady_load import SteadyLoad

SAYS = "Memory of a device under steady requests, with workers killed and swapped in between."
LIMIT_KB_PER_MIN, QUICK_LIMIT_KB_PER_MIN = 64.0, 1500.0
_NAME, _TASK = "soak-1", "sides"
_CALLERS, _PAUSE_S = 2, 0.01
_SAMPLE_S = 0.5
_AROUND_S = 0.2
_PATIENCE_S = 300.0
_SETTLED_S = {"supervisor": 40.0, "worker": 8.0}
"""A process grows to its size first; a worker's life is short here."""
_LEAK_KB = 64
_CONTROL_KB_PER_MIN = 60 / _SAMPLE_S * _LEAK_KB
_CONTROL = f"""
import time
kept = []
while True:
    kept.append(bytearray(b"x" * {_LEAK_KB << 10}))
    time.sleep({_SAMPLE_S})
"""
_FLOOR = "import time; time.sleep(3600)"


class Plan(Struct, frozen=True):
    seconds: float
    events_s: float
    """Between one kill or swap and the next."""


QUICK, FULL = Plan(90.0, 14.0), Plan(600.0, 25.0)


class SoakRow(Struct, frozen=True):
    """One kind of process."""

    process: str
    lives: int
    samples: int
    rss_mb_first: float
    """Of the first life, once settled."""
    rss_mb_last: float
    rss_slope_kb_per_min: float | None


class EventRow(Struct, frozen=True):
    """What callers saw of kills, of swaps, and of the time between."""

    event: str
    count: int
    asked: int
    longest_ms: float
    p50_ms: float
    p99_ms: float


class SoakFigures(Setting, frozen=True, kw_only=True):
    rss_slope_kb_per_min: float | None
    dropped: int | None
    floor_rss_slope_kb_per_min: float | None
    control_rss_slope_kb_per_min: float | None
    rows: tuple[SoakRow | EventRow, ...]
    why: dict[str, str]


class Reading(Struct, frozen=True):
    at: float
    pid: int
    kib: int


class Watching:
    """Reads how much some processes hold, twice a second."""

    def __init__(self) -> None:
        self.readings: dict[str, list[Reading]] = {}
        self._pids: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def follow(self, name: str, pid: int) -> None:
        self._pids[name] = pid

    def __enter__(self) -> "Watching":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._stop.wait(_SAMPLE_S):
            for name, pid in tuple(self._pids.items()):
                with contextlib.suppress(OSError):  # it has just ended
                    kib = _rss_kib(pid)
                    reading = Reading(time.perf_counter(), pid, kib)
                    self.readings.setdefault(name, []).append(reading)


def main(arguments: Sequence[str] | None = None) -> int:
    options, setting = begin("soak", SAYS, arguments)
    plan = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory() as home:
        figures = _measured(setting, plan, Path(home), random.Random(options.seed))
    return end(figures, figures.why, doubtful(figures), json=options.json)


def doubtful(figures: SoakFigures) -> list[str]:
    """Why these figures are not good, or not believed."""
    doubts = []
    slope, control = figures.rss_slope_kb_per_min, figures.control_rss_slope_kb_per_min
    limit = QUICK_LIMIT_KB_PER_MIN if figures.quick else LIMIT_KB_PER_MIN
    if slope is not None and slope > limit:
        doubts.append(f"memory grows by {slope} kB a minute, at most {limit:g} may")
    if control is not None and control < 0.8 * _CONTROL_KB_PER_MIN:
        doubts.append(
            f"a process that leaks {_CONTROL_KB_PER_MIN:g} kB a minute was seen to leak {control}"
        )
    if figures.dropped:
        doubts.append(f"{figures.dropped} requests were dropped")
    return doubts


def slope_kb_per_min(readings: Sequence[Reading], settled_s: float) -> float | None:
    """How fast memory grows within lives, once each has settled: the median of all pairs' slopes.

    Pairs are at least a tenth of the longest settled life apart. (Theil and Sen)
    """
    lives = [list(life) for _, life in groupby(readings, key=lambda one: one.pid)]
    settled = [[one for one in life if one.at >= life[0].at + settled_s] for life in lives]
    longest = max((life[-1].at - life[0].at for life in settled if life), default=0.0)
    slopes = [
        (late.kib - early.kib) / (late.at - early.at) * 60
        for life in settled
        for early, late in combinations(_thinned(life), 2)
        if late.at - early.at >= longest / 10
    ]
    return round(statistics.median(slopes), 1) if slopes else None


def _thinned(life: list[Reading]) -> list[Reading]:
    """At most three hundred of them, evenly: there are pairs enough."""
    return life[:: max(1, len(life) // 300)]


def _measured(setting: Setting, plan: Plan, home: Path, chance: random.Random) -> SoakFigures:
    figures = SoakFigures(
        **asdict(setting),
        rss_slope_kb_per_min=None,
        dropped=None,
        floor_rss_slope_kb_per_min=None,
        control_rss_slope_kb_per_min=None,
        rows=(),
        why={},
    )
    try:
        with gateway(home / "cloud", broker="none") as cloud:
            return _soaked(figures, plan, cloud, home, chance)
    except NotMeasured as error:
        keys = [key for key in SoakFigures.__struct_fields__ if key.endswith(("_min", "dropped"))]
        return replace(figures, why=dict.fromkeys(keys, str(error)))


def _soaked(
    figures: SoakFigures, plan: Plan, cloud: Gateway, home: Path, chance: random.Random
) -> SoakFigures:
    raw: Sample = twin_sample(1, 1, confidence=0.95)
    one = Device(home / _NAME, home / "package-1", _TASK, raw)
    build_twin(_TASK, "1", one.folder)
    cloud.publish(one.folder)
    cloud.desire(_TASK, "1")
    one.data.mkdir(parents=True)
    enrol(cloud.invite(_NAME), _NAME, one.data)
    events: list[tuple[str, float, float]] = []
    with (
        one.agent() as agent,
        _child(_FLOOR) as floor,
        _child(_CONTROL) as control,
        Watching() as watching,
    ):
        watching.follow("floor", floor)
        watching.follow("control", control)
        until(f"the device serves {_TASK}", one.at_rest, otherwise=one.words)
        watching.follow("supervisor", agent.pid)
        watching.follow("worker", one.worker())
        with SteadyLoad(one.client, one.raw, callers=_CALLERS, pause_s=_PAUSE_S) as load:
            ends = time.perf_counter() + plan.seconds
            version = 1
            while time.perf_counter() + plan.events_s < ends:
                time.sleep(plan.events_s * chance.uniform(0.8, 1.2))
                before, begun = one.worker(), time.perf_counter()
                event = "kill" if len(events) % 2 else "swap"
                if event == "kill":
                    os.kill(before, signal.SIGKILL)
                else:
                    version += 1
                    _publish(cloud, home, str(version))
                    begun = time.perf_counter()
                until(
                    "another worker serves",
                    partial(_another, one, before),
                    otherwise=one.words,
                    within_s=_PATIENCE_S,
                )
                watching.follow("worker", one.worker())
                events.append((event, begun, time.perf_counter()))
                note(f"{event} {len(events)}: {time.perf_counter() - begun:.1f} s")
            time.sleep(max(0.0, ends - time.perf_counter()))
    for error in load.errors:
        note(f"dropped: {error}")
    return _figures(figures, watching.readings, load, events)


def _publish(cloud: Gateway, home: Path, version: str) -> None:
    """Another version, wanted from now on."""
    folder = home / f"package-{version}"
    build_twin(_TASK, version, folder)
    cloud.publish(folder)
    cloud.desire(_TASK, version)


def _another(one: Device, before: int) -> bool:
    with contextlib.suppress(NotMeasured):
        return one.worker() != before
    return False


def _figures(
    figures: SoakFigures,
    readings: dict[str, list[Reading]],
    load: SteadyLoad,
    events: list[tuple[str, float, float]],
) -> SoakFigures:
    rows = [_row(name, readings.get(name, [])) for name in ("supervisor", "worker")]
    slopes = [row.rss_slope_kb_per_min for row in rows]
    known = [slope for slope in slopes if slope is not None]
    why = {}
    if len(known) < len(slopes):
        why["rss_slope_kb_per_min"] = "a process did not live long enough to be measured"
    return replace(
        figures,
        rss_slope_kb_per_min=None if why else max(known),
        dropped=load.failed,
        floor_rss_slope_kb_per_min=slope_kb_per_min(readings["floor"], 2.0),
        control_rss_slope_kb_per_min=slope_kb_per_min(readings["control"], 2.0),
        rows=(*rows, *_seen(load, events)),
        why=why,
    )


def _row(name: str, readings: list[Reading]) -> SoakRow:
    return SoakRow(
        process=name,
        lives=len({one.pid for one in readings}),
        samples=len(readings),
        rss_mb_first=round(readings[min(len(readings) - 1, 20)].kib / 1024, 1),
        rss_mb_last=round(readings[-1].kib / 1024, 1),
        rss_slope_kb_per_min=slope_kb_per_min(readings, _SETTLED_S[name]),
    )


def _seen(load: SteadyLoad, events: list[tuple[str, float, float]]) -> Iterator[EventRow]:
    """Requests asked from a moment before an event until a moment after it, and all the others."""
    found: dict[str, list[float]] = {"steady": [], "kill": [], "swap": []}
    for asked, took_s in load.asked:
        during = [
            event for event, begun, over in events if begun - _AROUND_S <= asked <= over + _AROUND_S
        ]
        found[during[0] if during else "steady"].append(took_s * 1000)
    for event, took in found.items():
        if len(took) > 1:
            cuts = statistics.quantiles(took, n=100)
            count = sum(one == event for one, _, _ in events)
            yield EventRow(
                event, count, len(took), *(round(ms, 2) for ms in (max(took), cuts[49], cuts[98]))
            )


@contextlib.contextmanager
def _child(code: str) -> Iterator[int]:
    """A bare interpreter that runs this inside the block."""
    process = subprocess.Popen([sys.executable, "-P", "-c", code], stdin=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def _rss_kib(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") >> 10


if __name__ == "__main__":
    sys.exit(main())
