"""Workers of one task: one that serves, at times one on trial, at times some that leave.

All of them listen on the same socket, which is the supervisor's and outlives them. A switch is: the
new one serves already, the old one is asked to leave.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Literal

from msgspec import Struct

from edge_agent.cloud.handover import Ready
from edge_agent.errors import PackageDoesNotRun, WorkerFailed
from edge_agent.upkeep.process import WorkerProcess
from edge_agent.upkeep.restart import Ends, RestartPolicy, after_end
from sync.clock import Clock

log = logging.getLogger(__name__)

START_S = 60.0
"""A worker that is not ready by then never will be; loading takes a second on a slow device."""
LEAVE_S = 15.0
"""A worker asked to leave gives itself ten seconds."""


class PackageOrder(Struct, frozen=True):
    """What a worker is to run."""

    version: str
    digest: str
    folder: str


State = Literal["starting", "serving", "failed"]
Launch = Callable[[PackageOrder], Awaitable[WorkerProcess]]
OnFailed = Callable[[PackageOrder, PackageDoesNotRun], None]


class Keeper:
    """Keeps one package's worker up until told to leave."""

    def __init__(
        self,
        package: PackageOrder,
        *,
        launch: Launch,
        policy: RestartPolicy,
        clock: Clock,
        chance: random.Random,
        on_failed: OnFailed,
        on_change: Callable[[], None],
        on_trial: bool,
    ) -> None:
        self.package = package
        self.state: State = "starting"
        self.pid: int | None = None
        self.restarts = 0
        self.ready: Ready | None = None
        """What the worker last said of itself."""
        self.served: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Ends when it serves for the first time; a trial may end in `WorkerFailed` instead."""
        self._launch = launch
        self._policy = policy
        self._clock = clock
        self._chance = chance
        self._on_failed = on_failed
        self._on_change = on_change
        self._on_trial = on_trial
        self._process: WorkerProcess | None = None
        self._leaving = asyncio.Event()
        self._task = asyncio.create_task(self._keep())
        self._task.add_done_callback(_tell_if_broken)

    async def leave(self, *, within_s: float = LEAVE_S) -> None:
        """Let the worker finish and go; kill it when it does not. No other is started."""
        self._leaving.set()
        if self._process is not None:
            self._process.retire()
        _, pending = await asyncio.wait({self._task}, timeout=within_s)
        if pending:
            log.warning("worker.killed pid=%s why=did_not_leave", self.pid)
            if self._process is not None:
                self._process.kill()
            await asyncio.wait({self._task})

    async def _keep(self) -> None:
        ends = Ends()
        while not self._leaving.is_set():
            started = self._clock.monotonic()
            served = await self._run_once()
            if self._leaving.is_set() or (self._on_trial and not self.served.done()):
                break
            lived_s = self._clock.monotonic() - started
            restart = after_end(
                ends,
                self._policy,
                served=served,
                lived_s=lived_s,
                chance=self._chance.random(),
            )
            ends = restart.ends
            self.restarts += 1
            await _first(self._leaving.wait(), restart.pause_s)
        if not self.served.done():
            self.served.set_exception(WorkerFailed("the worker was told to leave"))
            self.served.exception()

    async def _run_once(self) -> bool:
        """One worker from start to end; whether it came to serve."""
        try:
            process = self._process = await self._launch(self.package)
        except WorkerFailed as error:
            self._failed(error)
            return False
        except OSError as error:
            self._failed(WorkerFailed(f"no worker can be started: {error}"))
            return False
        self.pid = process.pid
        if self._leaving.is_set():
            process.retire()
        served = False
        try:
            self.ready = await asyncio.wait_for(asyncio.shield(process.ready), START_S)
            served = True
            self._changed("serving")
            log.info("worker.serving pid=%d version=%s", process.pid, self.package.version)
            if not self.served.done():
                self.served.set_result(None)
        except TimeoutError:
            process.kill()
            self._failed(WorkerFailed(f"no word from worker {process.pid} in {START_S:.0f} s"))
        except WorkerFailed as error:
            self._failed(error)
        code = await process.gone
        self._process, self.pid = None, None
        if not self._leaving.is_set():
            log.warning("worker.ended pid=%d code=%d served=%s", process.pid, code, served)
            self._changed("starting" if served else "failed")
        return served

    def _failed(self, error: WorkerFailed) -> None:
        log.error(
            "worker.failed version=%s code=%s why=%s", self.package.version, error.code, error
        )
        if self._leaving.is_set():
            return
        if self._on_trial and not self.served.done():
            self.served.set_exception(error)
            return
        if isinstance(error, PackageDoesNotRun):
            self._on_failed(self.package, error)

    def _changed(self, state: State) -> None:
        if state != self.state:
            self.state = state
            self._on_change()


class TaskWorkers:
    """The keepers of one task."""

    def __init__(self, keep: Callable[[PackageOrder, bool], Keeper]) -> None:
        self._keep = keep
        self.current: Keeper | None = None
        self._trial: Keeper | None = None
        self._leaving: dict[asyncio.Task[None], Keeper] = {}

    def serve(self, package: PackageOrder) -> None:
        """Have this package served; a worker of another one leaves when this one serves."""
        if self.current is not None and self.current.package == package:
            return
        old, self.current = self.current, self._keep(package, False)
        if old is not None:
            self._let_go(old, after=self.current.served)

    async def try_out(self, package: PackageOrder) -> None:
        """Return once a worker of this package serves beside the current one.

        Raises `WorkerFailed`.
        """
        self.stop_trial()
        trial = self._trial = self._keep(package, True)
        await asyncio.shield(trial.served)

    def stop_trial(self) -> None:
        """The worker on trial leaves."""
        if self._trial is not None:
            self._let_go(self._trial)
            self._trial = None

    def switch(self, package: PackageOrder) -> None:
        """The worker on trial is the current one from now on."""
        if self._trial is None or self._trial.package != package:
            return  # it was switched before
        old, self.current, self._trial = self.current, self._trial, None
        if old is not None:
            self._let_go(old)

    async def close(self, *, within_s: float) -> None:
        """All leave; those that do not in time are killed."""
        keepers = [self.current, self._trial, *self._leaving.values()]
        await asyncio.gather(
            *(keeper.leave(within_s=within_s) for keeper in keepers if keeper is not None),
            *self._leaving,
        )

    def _let_go(self, keeper: Keeper, *, after: Awaitable[None] | None = None) -> None:
        leaving = asyncio.create_task(_leave(keeper, after))
        self._leaving[leaving] = keeper
        leaving.add_done_callback(self._leaving.pop)


async def _leave(keeper: Keeper, after: Awaitable[None] | None) -> None:
    if after is not None:
        await asyncio.wait({asyncio.ensure_future(after)})
    await keeper.leave()


async def _first(waited: Awaitable[object], timeout_s: float) -> None:
    """Wait for this, but not longer."""
    try:
        await asyncio.wait_for(waited, timeout_s)
    except TimeoutError:
        return


def _tell_if_broken(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("worker.keeper_broken", exc_info=error)
