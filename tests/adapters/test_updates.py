"""Updates with a real store, a scripted fetch and workers that only take notes."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

from edge_agent.errors import PackageDoesNotRun
from edge_agent.update.activation import REFUSED_PAUSE_S, Installed, Phase
from edge_agent.update.job import Failed, Fetched, Outcome, Refused
from edge_agent.update.run import TaskUpdate, Updates
from edge_agent.update.store import PackageStore
from sim.loop import VirtualClock, VirtualLoop, run
from sync.runner import InlineRunner
from sync.wire import v1

TASK = "apparel"


def digest(version: str) -> str:
    return version[0] * 64


class Device:
    """One start of a device: what it was told to do, in order."""

    def __init__(self, loop: VirtualLoop, folder: Path) -> None:
        self.store = PackageStore(folder)
        self.told: list[str] = []
        self.reports = 0
        self.outcomes: dict[str, Outcome] = {}
        self.broken: set[str] = set()
        self.trial_hangs = False
        self.updates = Updates(self.store, self._make)
        self._clock = VirtualClock(loop)
        self._loop = loop

    def _make(self, task: str) -> TaskUpdate:
        return TaskUpdate(
            task,
            store=self.store,
            runner=InlineRunner(),
            clock=self._clock,
            chance=random.Random(1),
            workers=self,
            fetch=self._fetch,
            news=self._news,
        )

    def serve(self, task: str, package: Installed, folder: Path) -> None:
        assert folder == self.store.package(task, package.digest)
        self.told.append(f"serve {package.version}")

    async def try_out(self, task: str, package: Installed, folder: Path) -> None:
        self.told.append(f"try {package.version}")
        if self.trial_hangs:
            await asyncio.Event().wait()
        if package.version in self.broken:
            raise PackageDoesNotRun("other outputs than stored", code="golden_mismatch")

    def stop_trial(self, task: str) -> None:
        self.told.append("stop trial")

    def switch(self, task: str, package: Installed) -> None:
        self.told.append(f"switch {package.version}")

    async def _fetch(self, task: str, version: str) -> Outcome:
        self.told.append(f"fetch {version}")
        await asyncio.sleep(1)
        outcome = self.outcomes.get(version, Fetched(version, digest(version)))
        if isinstance(outcome, Fetched):
            self.store.package(task, outcome.digest).mkdir(parents=True, exist_ok=True)
        return outcome

    def _news(self) -> None:
        self.reports += 1

    async def want(self, version: str, *, wait_s: float = 5) -> list[str]:
        """The gateway says so; gives back what followed."""
        before = len(self.told)
        self.updates.desire((v1.Desired(TASK, version),))
        await asyncio.sleep(wait_s)
        return self.told[before:]

    def packages(self) -> set[str]:
        return {path.name[0] for path in self.store.home(TASK).iterdir() if len(path.name) == 64}


Story = Callable[[Callable[[], Device]], Awaitable[None]]


def play(folder: Path, story: Story) -> None:
    async def on_loop(loop: VirtualLoop) -> None:
        devices: list[Device] = []

        def start() -> Device:
            devices.append(Device(loop, folder))
            devices[-1].updates.start()
            return devices[-1]

        await story(start)
        for device in devices:
            await device.updates.close()

    run(on_loop)


def test_versions_come_one_after_another_and_two_packages_stay(tmp_path: Path) -> None:
    async def story(start: Callable[[], Device]) -> None:
        it = start()
        assert await it.want("1") == ["fetch 1", "try 1", "switch 1"]
        assert await it.want("1") == []
        assert await it.want("2") == ["fetch 2", "try 2", "switch 2"]
        assert await it.want("3") == ["fetch 3", "try 3", "switch 3"]
        assert it.packages() == {"2", "3"}
        assert it.reports == 3

    play(tmp_path, story)


def test_a_refused_version_is_reported_and_left_alone_until_its_pause_is_over(
    tmp_path: Path,
) -> None:
    async def story(start: Callable[[], Device]) -> None:
        it = start()
        await it.want("1")
        it.outcomes["2"] = Refused("signature_invalid", "signed by nobody we know")
        assert await it.want("2") == ["fetch 2"]
        assert await it.want("2", wait_s=REFUSED_PAUSE_S / 2) == []
        (refusal,) = it.updates.refusals()
        assert (refusal.task, refusal.version, refusal.code) == (TASK, "2", "signature_invalid")
        it.outcomes.clear()
        assert await it.want("2", wait_s=REFUSED_PAUSE_S) == ["fetch 2", "try 2", "switch 2"]
        assert it.updates.refusals() == ()

    play(tmp_path, story)


def test_a_broken_package_is_tried_once_and_never_again(tmp_path: Path) -> None:
    async def story(start: Callable[[], Device]) -> None:
        it = start()
        await it.want("1")
        it.broken.add("2")
        assert await it.want("2") == ["fetch 2", "try 2", "stop trial"]
        assert it.packages() == {"1"}
        await it.updates.close()
        again = start()
        await asyncio.sleep(REFUSED_PAUSE_S * 2)
        assert again.told == ["serve 1"]
        assert [one.code for one in again.updates.refusals()] == ["golden_mismatch"]

    play(tmp_path, story)


def test_trouble_on_the_way_is_tried_again_by_itself(tmp_path: Path) -> None:
    async def story(start: Callable[[], Device]) -> None:
        it = start()
        it.outcomes["1"] = Failed("link_down", "nobody there")
        tries = await it.want("1", wait_s=60)
        assert set(tries) == {"fetch 1"}
        assert 4 < len(tries) < 30
        it.outcomes.clear()
        await asyncio.sleep(60)
        assert it.told[-1] == "switch 1"
        assert it.updates.refusals() == ()

    play(tmp_path, story)


def test_a_restart_goes_on_where_it_was_without_a_word_from_the_gateway(tmp_path: Path) -> None:
    async def story(start: Callable[[], Device]) -> None:
        it = start()
        await it.want("1")
        assert await it.want("2", wait_s=0.5) == ["fetch 2"]
        await it.updates.close()
        during_trial = start()
        during_trial.trial_hangs = True
        await asyncio.sleep(5)
        assert during_trial.told == ["serve 1", "fetch 2", "try 2"]
        await during_trial.updates.close()
        last = start()
        await asyncio.sleep(5)
        assert last.told == ["serve 1", "try 2", "switch 2"]
        assert last.updates.states()[TASK].phase is Phase.IDLE

    play(tmp_path, story)


def test_a_local_package_is_not_the_gateways_business(tmp_path: Path) -> None:
    async def story(start: Callable[[], Device]) -> None:
        it = start()
        it.updates.desire_local(TASK, "7")
        await asyncio.sleep(5)
        assert await it.want("1") == []
        assert it.told == ["fetch 7", "try 7", "switch 7"]

    play(tmp_path, story)


def test_an_active_package_that_breaks_gives_way_to_the_one_before(tmp_path: Path) -> None:
    async def story(start: Callable[[], Device]) -> None:
        it = start()
        await it.want("1")
        await it.want("2")
        it.updates.failed(TASK, digest("2"), "hash_mismatch", "a bit has turned", 9.0)
        await asyncio.sleep(1)
        assert it.told[-1] == "serve 1"
        assert await it.want("2") == []
        again = start()
        await asyncio.sleep(1)
        assert again.told == ["serve 1"]

    play(tmp_path, story)
