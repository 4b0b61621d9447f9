"""One package takes another's place under load, and what the update child holds meanwhile."""

import statistics
import threading
import time
from pathlib import Path

from edge_agent.sdk.errors import LongstopError
from tests.bench.device import DEADLINE_MS, Device
from tests.bench.measure import memory
from tests.bench.programs import Gateway, until
from tests.bench.rows import SwapRow
from tests.bench.setting import NotMeasured

_CALLERS = 2
_PAUSE_S = 0.002
_STEADY_S = 3.0
_AFTER_S = 1.0
_LOOK_S = 0.02
_LEAST = 200
"""Answers on either side below which a p99 says nothing."""


class _Callers:
    """Ask one after the other, each with a short pause, and note when and how long."""

    def __init__(self, one: Device) -> None:
        self._one = one
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(_CALLERS)]
        self.took: list[tuple[float, float]] = []
        """When it was asked, and for how long, in seconds."""
        self.dropped = 0

    def __enter__(self) -> "_Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with self._one.client() as client:
            while not self._stop.wait(_PAUSE_S):
                begun = time.perf_counter()
                try:
                    client.infer(self._one.raw, deadline_ms=DEADLINE_MS)
                except LongstopError:
                    self.dropped += 1
                else:
                    self.took.append((begun, time.perf_counter() - begun))

    def p99_ms(self, since: float, to: float) -> float:
        took = [lasted for begun, lasted in self.took if since <= begun < to]
        if len(took) < _LEAST:
            raise NotMeasured(f"{len(took)} answers are too few for a p99")
        return round(statistics.quantiles(took, n=100)[98] * 1000, 3)


class _Child(threading.Thread):
    """Looks at the agent's children for one that fetches."""

    def __init__(self, agent: int) -> None:
        super().__init__(daemon=True)
        self._agent = agent
        self._over = threading.Event()
        self.pss_mb: float | None = None

    def run(self) -> None:
        while not self._over.wait(_LOOK_S):
            for pid in _children(self._agent):
                try:
                    words = Path(f"/proc/{pid}/cmdline").read_bytes()
                    if b"edge_agent.update" in words:
                        (held,) = memory([pid])
                        self.pss_mb = max(self.pss_mb or 0.0, round(held.pss_mb, 1))
                except OSError:
                    continue  # it ended while it was looked at

    def stop(self) -> float | None:
        self._over.set()
        self.join()
        return self.pss_mb


def swap(one: Device, cloud: Gateway, versions: list[tuple[str, Path]]) -> list[SwapRow]:
    """Each version in the other's place, in one run of the agent. Raises `NotMeasured`."""
    rows = []
    with one.agent() as agent:
        one.first_answer(agent)
        for version, folder in versions:
            cloud.publish(folder)
            rows.append(_swap(one, cloud, agent.pid, version))
    return rows


def _swap(one: Device, cloud: Gateway, agent: int, version: str) -> SwapRow:
    def serves() -> bool:
        report = one.report()
        return report is not None and any(
            task.version == version and task.state == "serving" for task in report.tasks
        )

    child = _Child(agent)
    child.start()
    with _Callers(one) as callers:
        begun = time.perf_counter()
        time.sleep(_STEADY_S)
        told = time.perf_counter()
        cloud.desire(one.task, version)
        until(f"version {version} serves", serves, otherwise=one.words)
        time.sleep(_AFTER_S)
        ended = time.perf_counter()
    steady_ms, swap_ms = callers.p99_ms(begun, told), callers.p99_ms(told, ended)
    return SwapRow(
        asked=len(callers.took) + callers.dropped,
        swap_dropped=callers.dropped,
        steady_p99_ms=steady_ms,
        swap_p99_ms=swap_ms,
        swap_p99_ratio=round(swap_ms / steady_ms, 2),
        update_child_pss_mb=child.stop(),
    )


def _children(pid: int) -> list[int]:
    """Of any of its threads."""
    found: list[int] = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, tasks.read_text().split())
        except OSError:
            continue
    return found
