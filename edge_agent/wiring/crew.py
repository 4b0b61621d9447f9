"""The workers of all tasks: started, swapped and renewed within what memory allows."""

import asyncio
import logging
import random
from functools import partial
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from edge_agent.cloud import handover
from edge_agent.errors import AgentError, PackageDoesNotRun, WorkerFailed
from edge_agent.sdk.errors import LongstopError
from edge_agent.settings import AgentSettings, workplace
from edge_agent.update.activation import Installed
from edge_agent.update.store import PackageStore
from edge_agent.upkeep import memory
from edge_agent.upkeep.blame import Blame
from edge_agent.upkeep.keeper import Care, Keeper, PackageOrder
from edge_agent.upkeep.process import Ears, WorkerProcess
from edge_agent.upkeep.run import TaskWorkers
from edge_agent.upkeep.said import Said
from edge_agent.upkeep.shares import Shares, why_not_beside
from edge_agent.upkeep.sockets import RunFolder
from edge_agent.workplace import Workplace, source_of
from sync.clock import Clock

log = logging.getLogger(__name__)


class Around(Protocol):
    """What a crew asks the rest of the agent, and tells it."""

    def standing_terms(self, task: str, digest: str) -> tuple[handover.StandingTerms, ...]:
        """What a worker of this package is to answer by from its first request on."""
        ...

    def our_bytes(self) -> int:
        """Memory the agent takes now, all its processes."""
        ...

    def package_failed(self, task: str, digest: str, error: PackageDoesNotRun) -> None:
        """This package does not run here."""
        ...

    def news(self) -> None:
        """The gateway should hear how workers are."""
        ...


class Crew:
    """Used from one event loop; `close` ends every worker."""

    def __init__(
        self,
        settings: AgentSettings,
        data: Path,
        *,
        sockets: RunFolder,
        store: PackageStore,
        ears: Ears,
        around: Around,
        clock: Clock,
        chance: random.Random,
    ) -> None:
        self._settings = settings
        self._workplace = workplace(settings, data)
        self._sockets = sockets
        self._store = store
        self._ears = ears
        self._around = around
        self._clock = clock
        self._chance = chance
        self._workers: dict[str, TaskWorkers] = {}
        self._said: dict[str, Said] = {}
        self._shares = Shares(settings.tasks)
        self._renewing: set[asyncio.Task[None]] = set()

    def current(self, task: str) -> Keeper | None:
        """Who keeps the worker that serves this task, or is about to."""
        return self._workers[task].current if task in self._workers else None

    def tasks(self) -> tuple[str, ...]:
        """Tasks with a worker."""
        return tuple(sorted(task for task, its in self._workers.items() if its.current))

    def pids(self) -> tuple[int, ...]:
        """Of the workers that serve."""
        pids = (its.current.pid for its in self._workers.values() if its.current is not None)
        return tuple(pid for pid in pids if pid is not None)

    def tell(self, message: handover.ToWorker) -> None:
        """Say this to every worker."""
        for its in self._workers.values():
            its.tell(message)

    def renew_largest(self, sizes: dict[int, int]) -> None:
        """Replace the largest worker; resident bytes by process."""
        serving = [its.current for its in self._workers.values() if its.current is not None]
        largest = max(serving, key=lambda one: sizes.get(one.pid or 0, 0), default=None)
        if largest is not None:
            largest.renew()

    def one_at_a_time(self, task: str) -> str | None:
        """Why a swap of this task would not run two workers at once; None: it would."""
        current = self._workers_of(task).current
        rss_bytes = 0 if current is None else current.rss_bytes
        free = memory.available_bytes()
        if (budget := self._settings.limits.ram_mb) is not None:
            free = min(free, max(0, (budget << 20) - self._around.our_bytes()))
        return why_not_beside(self._settings.swap, free, rss_bytes)

    async def close(self) -> None:
        """Let every worker finish and go."""
        await asyncio.gather(
            *(its.close(within_s=self._settings.stop_s) for its in self._workers.values())
        )

    # -- what updates ask

    def serve(self, task: str, package: Installed, folder: Path) -> None:
        self._workers_of(task).serve(_order(package, folder))

    async def try_out(self, task: str, package: Installed, folder: Path) -> None:
        why = self.one_at_a_time(task)
        if why is not None:
            log.warning("update.one_at_a_time task=%s why=%s", task, why)
        await self._workers_of(task).try_out(_order(package, folder), beside=why is None)

    def stop_trial(self, task: str) -> None:
        self._workers_of(task).stop_trial()

    def switch(self, task: str, package: Installed) -> None:
        folder = self._store.package(task, package.digest)
        self._workers_of(task).switch(_order(package, folder))
        self._around.news()

    # -- parts

    def _workers_of(self, task: str) -> TaskWorkers:
        workers = self._workers.get(task)
        if workers is None:
            workers = self._workers[task] = TaskWorkers(partial(self._keeper, task))
        return workers

    def _keeper(
        self, task: str, package: PackageOrder, *, on_trial: bool, history: Blame | None
    ) -> Keeper:
        settings = self._settings
        return Keeper(
            package,
            launch=partial(self._launch, task),
            care=Care(
                settings.restart,
                settings.watchdog,
                self._shares.memory_bytes(task, self._memory_bytes()),
            ),
            clock=self._clock,
            chance=self._chance,
            on_failed=partial(self._failed, task),
            on_change=self._around.news,
            on_over=partial(self._renew, task),
            on_trial=on_trial,
            history=history,
        )

    def _failed(self, task: str, package: PackageOrder, error: PackageDoesNotRun) -> None:
        self._around.package_failed(task, package.digest, error)

    def _memory_bytes(self) -> int:
        """What there is for us: the machine's, or our budget where that is less."""
        total, budget = memory.total_bytes(), self._settings.limits.ram_mb
        return total if budget is None else min(total or budget << 20, budget << 20)

    def _renew(self, task: str, keeper: Keeper) -> None:
        """Its worker takes more memory than it may: a fresh one gives it back."""
        why = self.one_at_a_time(task)
        log.warning("worker.renewed task=%s beside=%s", task, why is None)
        renewing = asyncio.create_task(self._workers_of(task).renew(keeper, beside=why is None))
        self._renewing.add(renewing)
        renewing.add_done_callback(self._renewing.discard)

    async def _launch(
        self, task: str, package: PackageOrder, avoid: tuple[str, ...]
    ) -> WorkerProcess:
        try:
            listening = self._sockets.task(task)
        except (AgentError, LongstopError) as error:
            raise WorkerFailed(str(error)) from error
        given = self._settings.sources.get(task)
        return await WorkerProcess.start(
            package=package.folder,
            task=task,
            digest=package.digest,
            device=self._settings.device,
            source=None if given is None else source_of(given),
            place=_without(self._workplace, avoid),
            terms=self._around.standing_terms(task, package.digest),
            queue=self._shares.of(task).concurrency,
            nice=self._shares.nice(task),
            listening=listening,
            ears=self._ears,
            said=self._said.setdefault(task, Said()),
        )


def _order(package: Installed, folder: Path) -> PackageOrder:
    return PackageOrder(package.version, package.digest, str(folder))


def _without(place: Workplace, avoid: tuple[str, ...]) -> Workplace:
    """The same for a worker that must do without these; nothing is measured while callers wait."""
    if not avoid:
        return place
    runtime = replace(place.runtime, choose=False, avoid=(*place.runtime.avoid, *avoid))
    return replace(place, runtime=runtime)
