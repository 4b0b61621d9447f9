"""Keeps one package's worker up: started, watched, started again when it ends."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Literal, assert_never

from msgspec import Struct

from edge_agent.cloud.handover import Ready, ToWorker
from edge_agent.errors import PackageDoesNotRun, WorkerFailed
from edge_agent.upkeep import blame, memory
from edge_agent.upkeep.blame import Blame, Killer
from edge_agent.upkeep.guard import Guard
from edge_agent.upkeep.process import WorkerProcess
from edge_agent.upkeep.restart import Ends, RestartPolicy, after_end
from edge_agent.upkeep.watchdog import WatchdogPolicy
from sync.clock import Clock

log = logging.getLogger(__name__)

LEAVE_S = 15.0
"""A worker asked to leave gives itself ten seconds."""
GIVEN_UP_S = 1.0
"""One that was given up starts again no sooner: another package may be about to take its place."""
CRASH_LOOP = "crash_loop"


class PackageOrder(Struct, frozen=True):
    """What a worker is to run."""

    version: str
    digest: str
    folder: str


class Care(Struct, frozen=True):
    """How a worker is looked after."""

    restart: RestartPolicy
    watchdog: WatchdogPolicy
    memory_bytes: int
    """What it may take; 0 for all there is."""


State = Literal["starting", "serving", "failed"]
Launch = Callable[[PackageOrder, tuple[str, ...]], Awaitable[WorkerProcess]]
"""Starts a worker of a package that is to avoid these runtimes and providers."""
OnFailed = Callable[[PackageOrder, PackageDoesNotRun], None]


class Keeper:
    """One package's worker, and the ones after it, until told to leave."""

    def __init__(
        self,
        package: PackageOrder,
        *,
        launch: Launch,
        care: Care,
        clock: Clock,
        chance: random.Random,
        on_failed: OnFailed,
        on_change: Callable[[], None],
        on_over: Callable[["Keeper"], None],
        on_trial: bool,
        history: Blame | None = None,
    ) -> None:
        self.package = package
        self.state: State = "starting"
        self.pid: int | None = None
        self.restarts = 0
        self.ready: Ready | None = None
        """What the worker last said of itself."""
        self.last_end: str | None = None
        """Why the last worker ended that was not asked to."""
        self.gave_up = False
        """It ended too often; it is started again while nothing takes its place."""
        self.blame = history or Blame(care.restart)
        self.served: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Ends when it serves for the first time; a trial may end in `WorkerFailed` instead."""
        self._launch = launch
        self._care = care
        self._clock = clock
        self._chance = chance
        self._on_failed = on_failed
        self._on_change = on_change
        self._on_over = on_over
        self._on_trial = on_trial
        self._process: WorkerProcess | None = None
        self._guard: Guard | None = None
        self._leaving = asyncio.Event()
        self._task = asyncio.create_task(self._keep())
        self._task.add_done_callback(_tell_if_broken)

    @property
    def rss_bytes(self) -> int:
        """What its worker last said it takes; 0 before that."""
        return 0 if self._guard is None else self._guard.rss_bytes

    def tell(self, said: ToWorker) -> None:
        """Say something to the worker; one that does not serve yet is told once it does."""
        if self._process is not None and self._process.ready.done():
            self._process.tell(said)

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

    def renew(self) -> None:
        """Have a fresh worker in this one's place."""
        self._on_over(self)

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
                self._care.restart,
                served=served,
                lived_s=lived_s,
                chance=self._chance.random(),
            )
            ends = restart.ends
            self.restarts += 1
            pause_s = restart.pause_s
            if self.gave_up:
                pause_s = max(pause_s, GIVEN_UP_S)
            await _first(self._leaving.wait(), pause_s)
        if not self.served.done():
            self.served.set_exception(WorkerFailed("the worker was told to leave"))
            self.served.exception()

    async def _run_once(self) -> bool:
        """One worker from start to end; whether it came to serve."""
        killed_before = memory.kernel_kills()
        try:
            process = self._process = await self._launch(self.package, self.blame.avoid)
        except WorkerFailed as error:
            self._failed(error)
            return False
        except OSError as error:
            self._failed(WorkerFailed(f"no worker can be started: {error}"))
            return False
        self.pid = process.pid
        if self._leaving.is_set():
            process.retire()
        guard: Guard | None = None
        killer: Killer | None = None
        failed: WorkerFailed | None = None
        try:
            self.ready = await asyncio.wait_for(
                asyncio.shield(process.ready), self._care.watchdog.start_s
            )
            guard = self._guard = self._serving(process, self.ready)
        except TimeoutError:
            killer = "start"
            process.kill()
            allowed = f"{self._care.watchdog.start_s:g} s"
            failed = WorkerFailed(f"no word from worker {process.pid} in {allowed}")
            self._failed(failed)
        except WorkerFailed as error:
            failed = error
            self._failed(error)
        code = await process.gone
        self._process, self._guard, self.pid = None, None, None
        if guard is not None:
            process.on_alive = None
            guard.close()
            killer = guard.killer
        if not self._leaving.is_set():
            log.warning(
                "worker.ended pid=%d code=%d served=%s", process.pid, code, guard is not None
            )
            if not isinstance(failed, PackageDoesNotRun):
                kernel = memory.kernel_kills() > killed_before
                cause, how = blame.cause_of(code, killer, kernel_killed=kernel)
                self._ended(cause, guard.why if guard is not None and guard.why else how)
            self._changed("failed" if guard is None else "starting")
        return guard is not None

    def _serving(self, process: WorkerProcess, ready: Ready) -> Guard:
        serving_since = self._clock.monotonic()

        def over() -> None:
            if self._clock.monotonic() - serving_since < self._care.restart.steady_s:
                # A fresh one would be no better, so this is the package's way to be.
                guard.kill("memory", "it takes more memory than it may from the start")
            else:
                self._on_over(self)

        guard = Guard(
            process,
            policy=self._care.watchdog,
            clock=self._clock,
            memory_bytes=self._care.memory_bytes,
            on_over=over,
        )
        process.on_alive = guard.heard
        on = ready.runs_on
        served = blame.Served("" if on is None else blame.culprit(on.runtime, on.provider))
        self._judge(served)
        self._changed("serving")
        log.info("worker.serving pid=%d version=%s", process.pid, self.package.version)
        if not self.served.done():
            self.served.set_result(None)
        return guard

    def _ended(self, cause: blame.Cause, how: str) -> None:
        self.last_end = f"{cause}: {how}"
        self._judge(blame.Ended(cause, how))

    def _judge(self, event: blame.Event) -> None:
        taken = blame.step(self.blame, event, self._clock.monotonic())
        self.blame = taken.state
        for effect in taken.effects:
            match effect:
                case blame.Avoid(names):
                    log.error("worker.avoids names=%s why=%s", names, self.blame.degraded)
                case blame.GiveUp(why):
                    self.gave_up = True
                    self._failed(PackageDoesNotRun(why, code=CRASH_LOOP))
                case _:
                    assert_never(effect)

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


async def _first(waited: Awaitable[object], timeout_s: float) -> None:
    """Wait for this, but not longer."""
    try:
        await asyncio.wait_for(waited, timeout_s)
    except TimeoutError:
        return


def _tell_if_broken(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("worker.keeper_broken", exc_info=error)
