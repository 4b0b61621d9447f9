"""Looks at the device every few seconds, has `limits` decide, and does what it says.

A look reads some files of the kernel, and now and then the sizes of the data folder's files; the
latter in a thread, for disks may be slow. What a day has used is written with each health record.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from edge_agent.governor import limits
from edge_agent.governor.limits import Governed, LimitSettings, Measures, Reading
from edge_agent.governor.readings import Kernel, Use, folder_bytes, free_bytes, gained, share, uses
from edge_agent.governor.store import DayFile
from sync.clock import Clock
from sync.runner import Runner
from sync.wire import v1

log = logging.getLogger(__name__)

DISK_S = 60.0
"""Between two counts of the data folder."""


class Device(Protocol):
    """What is governed."""

    def worker_pids(self) -> Iterable[int]:
        """Processes beside our own."""
        ...

    def sent_bytes(self) -> int:
        """What went out over the link since the agent began."""
        ...

    def take_measures(self, measures: Measures) -> None:
        """Do as these say from now on; told again now and then, for workers that are new."""
        ...

    def renew_largest(self, sizes: dict[int, int]) -> None:
        """Replace the largest worker; resident bytes by process."""
        ...


class Sample(Struct, frozen=True):
    """The latest look, as status and health records tell it."""

    cpu_share: float = 0.0
    supervisor_bytes: int = 0
    worker_bytes: int = 0
    workers: int = 0
    disk_bytes: int = 0
    disk_free_bytes: int = 0
    celsius: float | None = None


class Governor:
    """Made and used in one event loop; `run` it until it is cancelled."""

    def __init__(
        self,
        settings: LimitSettings,
        data: Path,
        *,
        device: Device,
        report: Callable[[v1.Health], object],
        clock: Clock,
        runner: Runner,
        kernel: Kernel | None = None,
        days: DayFile | None = None,
    ) -> None:
        self._settings = settings
        self._data = data
        self._device = device
        self._report = report
        self._clock = clock
        self._runner = runner
        self._kernel = kernel or Kernel()
        self._days = days or DayFile(data, clock)
        self._state = Governed(settings, self._days.load(), since=clock.monotonic())
        self._looked_at = clock.monotonic()
        self._uses: dict[int, Use] = self._all_uses()
        self._sample = Sample(
            supervisor_bytes=self._uses.get(os.getpid(), Use()).rss_bytes,
            disk_free_bytes=free_bytes(data),
        )
        self._machine = self._kernel.machine()
        self._sent = device.sent_bytes()

    @property
    def state(self) -> Governed:
        return self._state

    @property
    def sample(self) -> Sample:
        return self._sample

    async def run(self) -> None:
        """Look, decide, do, for ever."""
        health_at = self._clock.monotonic() + self._settings.health_s
        disk_at = self._clock.monotonic()
        disk_bytes = 0
        while True:
            await asyncio.sleep(self._settings.sample_s)
            now = self._clock.monotonic()
            if now >= disk_at:
                disk_bytes = await self._runner.submit(lambda: folder_bytes(self._data))
                disk_at = now + DISK_S
            self.look(disk_bytes)
            if now >= health_at:
                self._report(self.health())
                health_at = now + self._settings.health_s
                await self._runner.submit(self.save)

    def save(self) -> None:
        """Write down what the day has used."""
        self._days.save(self._state.day)

    def look(self, disk_bytes: int) -> None:
        """One look, and what follows from it."""
        now, found = self._clock.monotonic(), self._all_uses()
        machine, sent = self._kernel.machine(), self._device.sent_bytes()
        used, passed = gained(self._uses, found), max(0.001, now - self._looked_at)
        reading = Reading(
            seconds=passed,
            cpu_s=used.cpu_s,
            cores=os.cpu_count() or 1,
            busy=share(self._machine, machine),
            celsius=machine.celsius,
            rss_bytes=used.rss_bytes,
            disk_bytes=disk_bytes,
            uplink_bytes=max(0, sent - self._sent),
            flash_bytes=used.written_bytes,
        )
        self._looked_at, self._uses, self._machine, self._sent = now, found, machine, sent
        ours = found.get(os.getpid(), Use()).rss_bytes
        self._sample = Sample(
            cpu_share=used.cpu_s / passed / reading.cores,
            supervisor_bytes=ours,
            worker_bytes=used.rss_bytes - ours,
            workers=len(found) - (os.getpid() in found),
            disk_bytes=disk_bytes,
            disk_free_bytes=free_bytes(self._data),
            celsius=machine.celsius,
        )
        step = limits.step(self._state, reading, now)
        self._state = step.state
        told = False
        for effect in step.effects:
            match effect:
                case limits.Renew():
                    sizes = {pid: use.rss_bytes for pid, use in found.items() if pid != os.getpid()}
                    log.warning("governor.over_memory bytes=%d", used.rss_bytes)
                    self._device.renew_largest(sizes)
                case limits.Take(measures, why):
                    log.warning("governor.level level=%s why=%r", _name(measures), why)
                    self._device.take_measures(measures)
                    told = True
        if not told and (holds := limits.measures(self._state)) != Measures():
            self._device.take_measures(holds)

    def health(self) -> v1.Health:
        """The record of the latest look."""
        state, sample = self._state, self._sample
        return v1.Health(
            at=self._clock.wall(),
            level=_name(limits.measures(state)),
            why=state.why,
            cpu_share=round(sample.cpu_share, 4),
            supervisor_bytes=sample.supervisor_bytes,
            worker_bytes=sample.worker_bytes,
            workers=sample.workers,
            disk_bytes=sample.disk_bytes,
            disk_free_bytes=sample.disk_free_bytes,
            uplink_bytes=state.day.uplink_bytes,
            flash_bytes=state.day.flash_bytes,
            celsius=sample.celsius,
            over=state.over,
        )

    def _all_uses(self) -> dict[int, Use]:
        return uses(self._kernel, (os.getpid(), *self._device.worker_pids()))


def _name(measures: Measures) -> v1.HealthLevel:
    names: tuple[v1.HealthLevel, ...] = ("normal", "spare", "hot", "refusing")
    return names[measures.level]
