"""One package takes another's place under load, and what the update child holds meanwhile."""

import threading
import time
from pathlib import Path

from tests.bench.device import Device
from tests.bench.measure import memory
from tests.bench.programs import Gateway, until
from tests.bench.rows import SwapRow
from tests.bench.steady_load import SteadyLoad

_CALLERS = 2
_PAUSE_S = 0.002
_STEADY_S = 3.0
_AFTER_S = 1.0
_LOOK_S = 0.02


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
    with SteadyLoad(one.client, one.raw, callers=_CALLERS, pause_s=_PAUSE_S) as load:
        begun = time.perf_counter()
        time.sleep(_STEADY_S)
        told = time.perf_counter()
        cloud.desire(one.task, version)
        until(f"version {version} serves", serves, otherwise=one.words)
        time.sleep(_AFTER_S)
        ended = time.perf_counter()
    steady_ms, swap_ms = load.p99_ms(begun, told), load.p99_ms(told, ended)
    return SwapRow(
        asked=len(load.asked),
        swap_dropped=load.failed,
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
