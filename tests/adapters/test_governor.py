"""The governor's shell: what it reads of a made-up kernel, and what it has done about it."""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from edge_agent.governor.limits import DAY_S, Day, Level, LimitSettings, Measures
from edge_agent.governor.readings import Kernel, folder_bytes, free_bytes, gained, share, uses
from edge_agent.governor.run import Governor
from edge_agent.governor.sparing import Sparing
from edge_agent.governor.store import FILE, DayFile
from edge_agent.settings import AgentSettings, most_package_bytes, outbox_within
from sync.runner import InlineRunner
from sync.wire import v1

ME, WORKER = os.getpid(), 4_000_001


class Clock:
    def __init__(self) -> None:
        self.mono, self.clock = 1000.0, 1_790_000_000.0

    def monotonic(self) -> float:
        return self.mono

    def wall(self) -> float:
        return self.clock

    def passes(self, seconds: float) -> None:
        self.mono += seconds
        self.clock += seconds


class Made:
    """A kernel's files as this test writes them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.busy = self.idle = 0
        self.spends(0, 0)

    def spends(self, busy: int, idle: int) -> None:
        """Ticks of all cores."""
        self.busy, self.idle = self.busy + busy, self.idle + idle
        text = f"cpu  {self.busy} 0 0 {self.idle} 0 0 0 0 0 0\ncpu0 1 2 3 4\n"
        self.put("proc/stat", text)

    def process(self, pid: int, *, ticks: int, pages: int, written: int) -> None:
        fields = " ".join(["S", *["0"] * 10, str(ticks), "0", *["0"] * 30])
        self.put(f"proc/{pid}/stat", f"{pid} (a name) with) parens) {fields}")
        self.put(f"proc/{pid}/statm", f"900 {pages} 3 4 5 6 7")
        self.put(f"proc/{pid}/io", f"rchar: 9\nwrite_bytes: {written}\ncancelled_write_bytes: 4\n")

    def warms(self, *millidegrees: int) -> None:
        for number, one in enumerate(millidegrees):
            self.put(f"sys/class/thermal/thermal_zone{number}/temp", f"{one}\n")

    def put(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


class Device:
    """What is governed; remembers what it was told."""

    def __init__(self) -> None:
        self.sent = 0
        self.taken: list[Measures] = []
        self.renewed: list[dict[int, int]] = []

    def worker_pids(self) -> Iterable[int]:
        return (WORKER,)

    def sent_bytes(self) -> int:
        return self.sent

    def take_measures(self, measures: Measures) -> None:
        self.taken.append(measures)

    def renew_largest(self, sizes: dict[int, int]) -> None:
        self.renewed.append(sizes)


class World:
    def __init__(self, folder: Path, settings: LimitSettings) -> None:
        self.clock, self.device, self.made = Clock(), Device(), Made(folder / "root")
        self.data = folder / "data"
        self.data.mkdir(exist_ok=True)
        self.records: list[v1.Health] = []
        self.made.process(ME, ticks=100, pages=2000, written=5000)
        self.made.process(WORKER, ticks=0, pages=10_000, written=0)
        self.governor = Governor(
            settings,
            self.data,
            device=self.device,
            report=self.records.append,
            clock=self.clock,
            runner=InlineRunner(),
            kernel=Kernel(self.made.root),
            days=DayFile(self.data, self.clock, boot="one"),
        )

    def looks(self, seconds: float = 10.0) -> None:
        self.clock.passes(seconds)
        self.governor.look(7 << 20)


def test_one_look_sees_what_supervisor_and_workers_used_meanwhile(tmp_path: Path) -> None:
    world = World(tmp_path, LimitSettings())
    tick, cores = os.sysconf("SC_CLK_TCK"), os.cpu_count() or 1
    world.made.process(ME, ticks=100 + tick, pages=2000, written=9000)
    world.made.process(WORKER, ticks=3 * tick, pages=10_000, written=500)
    world.made.warms(41_000, -273_000, 52_500)
    world.device.sent = 1234
    world.looks()
    said = world.governor.health()
    assert said.cpu_share == pytest.approx(4 / 10 / cores, abs=1e-4)
    assert (said.supervisor_bytes, said.worker_bytes) == (2000 * 4096, 10_000 * 4096)
    assert (said.uplink_bytes, said.flash_bytes, said.workers) == (1234, 4500, 1)
    assert (said.celsius, said.level, said.over) == (52.5, "normal", ())
    assert said.disk_bytes == 7 << 20
    assert said.disk_free_bytes > 0
    assert world.device.taken == []


def test_a_process_that_is_gone_and_a_kernel_that_says_nothing_are_no_trouble(
    tmp_path: Path,
) -> None:
    kernel = Kernel(tmp_path)
    assert kernel.process(WORKER) is None
    assert kernel.machine().celsius is None
    assert share(kernel.machine(), kernel.machine()) is None
    assert uses(kernel, (1, 2)) == {}
    assert free_bytes(tmp_path / "none") == 0
    assert folder_bytes(tmp_path / "none") == 0


def test_this_very_process_can_be_read() -> None:
    kernel = Kernel()
    before, machine = uses(kernel, (ME,)), kernel.machine()
    sum(range(3_000_000))
    used = gained(before, uses(kernel, (ME,)))
    assert used.cpu_s >= 0
    assert used.rss_bytes > 1 << 20
    assert machine.total > 0


def test_a_hot_device_takes_measures_and_tells_them_again_to_workers_that_are_new(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, LimitSettings())
    world.made.warms(95_000)
    for _ in range(4):
        world.looks()
    levels = [taken.level for taken in world.device.taken]
    assert levels == [Level.SPARE, Level.SPARE, Level.HOT, Level.HOT]
    assert world.governor.health().level == "hot"
    assert world.governor.health().why == "95 °C"


def test_too_much_memory_has_the_largest_worker_renewed(tmp_path: Path) -> None:
    world = World(tmp_path, LimitSettings(ram_mb=32))
    world.looks()
    assert world.device.renewed == [{WORKER: 10_000 * 4096}]


def test_health_is_recorded_in_its_time_and_the_day_written_down(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(tmp_path, LimitSettings(sample_s=0.05, health_s=100.0))
        running = asyncio.create_task(world.governor.run())
        world.device.sent = 77
        while not (world.records and (world.data / FILE).exists()):
            assert not running.done()
            world.clock.passes(10.0)
            await asyncio.sleep(0.01)
        running.cancel()
        assert world.records[0].uplink_bytes == 77
        again = DayFile(world.data, world.clock, boot="one").load()
        assert again.uplink_bytes == 77

    asyncio.run(story())


def test_a_day_goes_on_after_a_restart_and_no_jump_of_the_clock_ends_it(tmp_path: Path) -> None:
    clock = Clock()
    DayFile(tmp_path, clock, boot="one").save(Day(3600.0, 50, 60))
    clock.passes(60.0)
    clock.clock += 10 * 365 * DAY_S
    same_boot = DayFile(tmp_path, clock, boot="one").load()
    assert same_boot == Day(3660.0, 50, 60), "the kernel's own time says a minute passed"
    clock.clock = 0.0
    assert DayFile(tmp_path, clock, boot="one").load().uplink_bytes == 50
    assert DayFile(tmp_path, clock, boot="two").load() == Day(3600.0, 50, 60), "1970: nobody knows"
    clock.mono += DAY_S
    assert DayFile(tmp_path, clock, boot="one").load() == Day()


def test_a_damaged_day_begins_anew_and_one_that_cannot_be_kept_is_no_trouble(
    tmp_path: Path,
) -> None:
    (tmp_path / FILE).write_bytes(b'{"day": 3')
    assert DayFile(tmp_path, Clock()).load() == Day()
    DayFile(tmp_path / "none", Clock()).save(Day(1.0, 2, 3))


def test_a_disk_budget_bounds_outbox_and_packages_together() -> None:
    loaded = AgentSettings(limits=LimitSettings(disk_mb=12))
    within = outbox_within(loaded).limits
    assert within.budget_bytes == 4 << 20
    assert within.escalation_bytes == 2 << 20
    assert most_package_bytes(loaded) == 3 << 20
    # An eighth above its budget, and a WAL of 1 MB; two packages while one replaces the other.
    assert within.budget_bytes * 9 // 8 + (1 << 20) + 2 * most_package_bytes(loaded) <= 12 << 20
    free = AgentSettings()
    assert outbox_within(free) == free.outbox
    assert most_package_bytes(free) == free.max_package_bytes


def test_a_worker_that_spares_itself_takes_one_source_input_in_four() -> None:
    sparing = Sparing()
    assert all(sparing.takes_from_source() for _ in range(10))
    sparing.told(sources=0.25, refusing="")
    assert sum(sparing.takes_from_source() for _ in range(100)) == 25
    sparing.told(sources=1.0, refusing="")
    assert all(sparing.takes_from_source() for _ in range(10))
