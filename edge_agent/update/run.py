"""Performs what `activation` decides, one queue per task: save the state, then act.

Trials and switches are the supervisor's, handed in as `Workers`; fetching is a short process.
"""

import asyncio
import logging
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec.structs import replace

from edge_agent.errors import WorkerFailed
from edge_agent.update import activation, job
from edge_agent.update.activation import Activation, Installed
from edge_agent.update.store import PackageStore
from sync.clock import Clock
from sync.runner import Runner
from sync.wire import v1

log = logging.getLogger(__name__)

SAVE_AGAIN_S = 5.0
_outcome: msgspec.json.Decoder[job.Outcome] = msgspec.json.Decoder(job.Outcome)

Fetch = Callable[[str, str], Awaitable[job.Outcome]]
"""Brings a version of a task onto the disk."""


class Workers(Protocol):
    """Who starts and stops the workers of a task."""

    def serve(self, task: str, package: Installed, folder: Path) -> None:
        """Keep a worker of this package up, in place of any other."""
        ...

    async def try_out(self, task: str, package: Installed, folder: Path) -> None:
        """Return once a worker of this package serves beside the other. Raises `WorkerFailed`."""
        ...

    def stop_trial(self, task: str) -> None:
        """End the trial, if there is one."""
        ...

    def switch(self, task: str, package: Installed) -> None:
        """The worker on trial serves; the other leaves."""
        ...


class TaskUpdate:
    """One task's state, and the queue of what happens to it."""

    def __init__(
        self,
        task: str,
        *,
        store: PackageStore,
        runner: Runner,
        clock: Clock,
        chance: random.Random,
        workers: Workers,
        fetch: Fetch,
        news: Callable[[], None],
    ) -> None:
        self.state = Activation()
        self._task = task
        self._store = store
        self._runner = runner
        self._clock = clock
        self._chance = chance
        self._workers = workers
        self._fetch = fetch
        self._news = news
        self._events: asyncio.Queue[activation.Event] = asyncio.Queue()
        self.tell(activation.AgentStarted(clock.wall()))  # before anything else can be told
        self._acting: set[asyncio.Task[None]] = set()

    def tell(self, event: activation.Event) -> None:
        """Something happened; it is dealt with in its turn."""
        self._events.put_nowait(event)

    async def run(self) -> None:
        """Load the state and deal with events until cancelled."""
        try:
            saved = self.state = await self._runner.submit(partial(self._store.load, self._task))
            while True:
                event = await self._events.get()
                step = activation.step(self.state, event, self._clock.monotonic())
                self.state = step.state
                lasting = replace(step.state, retry_at=0.0)
                if lasting != saved:
                    await self._save(lasting)
                    saved = lasting
                for effect in step.effects:
                    await self._perform(effect)
        finally:
            for acting in self._acting:
                acting.cancel()
            await asyncio.gather(*self._acting, return_exceptions=True)

    async def _save(self, state: Activation) -> None:
        """What cannot be saved is not done: try until it can."""
        while True:
            try:
                await self._runner.submit(partial(self._store.save, self._task, state))
            except OSError as error:
                log.error("update.state_not_saved task=%s why=%s", self._task, error)
                await asyncio.sleep(SAVE_AGAIN_S)
            else:
                return

    async def _perform(self, effect: activation.Effect) -> None:
        match effect:
            case activation.Serve(package):
                self._workers.serve(self._task, package, self._folder(package))
            case activation.Fetch(version):
                self._act(self._fetched(version))
            case activation.StartTrial(package):
                self._act(self._tried(package))
            case activation.StopTrial():
                self._workers.stop_trial(self._task)
            case activation.Switch(package):
                self._workers.switch(self._task, package)
                log.info("update.switched task=%s version=%s", self._task, package.version)
            case activation.Keep(digests):
                await self._runner.submit(partial(self._store.keep, self._task, digests))
            case activation.Report():
                self._news()
            case activation.WakeAt(at):
                pause = max(0.0, at - self._clock.monotonic())
                asyncio.get_running_loop().call_later(pause, self.tell, activation.Woke())

    async def _fetched(self, version: str) -> None:
        log.info("update.fetching task=%s version=%s", self._task, version)
        match await self._fetch(self._task, version):
            case job.Fetched(version, digest):
                self.tell(activation.Fetched(version, digest))
            case job.Refused(code, reason):
                log.error(
                    "update.refused task=%s version=%s code=%s why=%s",
                    self._task,
                    version,
                    code,
                    reason,
                )
                self.tell(activation.FetchRefused(version, code, reason, self._clock.wall()))
            case job.Failed(code, reason):
                log.warning(
                    "update.not_fetched task=%s version=%s code=%s why=%s",
                    self._task,
                    version,
                    code,
                    reason,
                )
                self.tell(activation.FetchFailed(version, self._chance.random()))

    async def _tried(self, package: Installed) -> None:
        try:
            await self._workers.try_out(self._task, package, self._folder(package))
        except WorkerFailed as error:
            log.error(
                "update.trial_failed task=%s version=%s code=%s why=%s",
                self._task,
                package.version,
                error.code,
                error,
            )
            self.tell(
                activation.TrialFailed(package.digest, error.code, str(error), self._clock.wall())
            )
        else:
            self.tell(activation.TrialReady(package.digest))

    def _act(self, work: Coroutine[object, object, None]) -> None:
        acting = asyncio.create_task(work)
        self._acting.add(acting)
        acting.add_done_callback(self._acted)

    def _acted(self, acting: asyncio.Task[None]) -> None:
        self._acting.discard(acting)
        if not acting.cancelled() and (error := acting.exception()) is not None:
            log.error("update.fault task=%s", self._task, exc_info=error)

    def _folder(self, package: Installed) -> Path:
        return self._store.package(self._task, package.digest)


class Updates:
    """All tasks of a device. `make` builds the part of one task."""

    def __init__(self, store: PackageStore, make: Callable[[str], TaskUpdate]) -> None:
        self._store = store
        self._make = make
        self._tasks: dict[str, TaskUpdate] = {}
        self._running: list[asyncio.Task[None]] = []
        self._local: set[str] = set()

    def start(self) -> None:
        """Go on with every task that has a state."""
        for task in self._store.tasks():
            self._task(task)

    async def close(self) -> None:
        """End fetches and trials where they are; the state knows."""
        for running in self._running:
            running.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def desire(self, desired: tuple[v1.Desired, ...]) -> None:
        """The gateway's word. A task given from a local folder is not its business."""
        for one in desired:
            if one.task not in self._local:
                self._task(one.task).tell(activation.VersionDesired(one.version))

    def desire_local(self, task: str, version: str) -> None:
        """Run what a local folder holds, whatever the gateway wants."""
        self._local.add(task)
        self._task(task).tell(activation.VersionDesired(version))

    def factory(self, task: str, package: Installed) -> None:
        """What the device was delivered with is on the disk."""
        self._task(task).tell(activation.FactoryFound(package))

    def failed(self, task: str, digest: str, code: str, reason: str, at: float) -> None:
        """The active package of a task says that it does not run here."""
        self._task(task).tell(activation.ActiveFailed(digest, code, reason, at))

    def states(self) -> dict[str, Activation]:
        """Each task's state, as decided last."""
        return {task: update.state for task, update in sorted(self._tasks.items())}

    def refusals(self) -> tuple[v1.Refusal, ...]:
        """What this device would not run, and why."""
        return tuple(
            v1.Refusal(task, each.version, each.code, each.reason, each.at)
            for task, state in self.states().items()
            for each in state.refused
        )

    def _task(self, task: str) -> TaskUpdate:
        update = self._tasks.get(task)
        if update is None:
            update = self._tasks[task] = self._make(task)
            running = asyncio.create_task(update.run(), name=f"updates of {task}")
            running.add_done_callback(_tell_if_broken)
            self._running.append(running)
        return update


class FetchProcess:
    """Starts the short process for each job and waits for its outcome."""

    def __init__(self, runner: Runner, home: Callable[[str], Path], max_bytes: int) -> None:
        self._runner = runner
        self._home = home
        self._max_bytes = max_bytes
        self._children: set[subprocess.Popen[bytes]] = set()

    async def bring(
        self, task: str, version: str, source: job.FromGateway | job.FromFolder
    ) -> job.Outcome:
        """The outcome; a process that ends without one has failed."""
        asked = job.Job(task, version, source, str(self._home(task)), self._max_bytes)
        return await self._runner.submit(partial(self._run, msgspec.json.encode(asked)))

    def close(self) -> None:
        """End what is being fetched: it will be fetched again after the next start."""
        for child in tuple(self._children):
            child.kill()

    def _run(self, asked: bytes) -> job.Outcome:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "edge_agent.update.fetch"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._children.add(child)
        try:
            said, _ = child.communicate(asked)
        finally:
            self._children.discard(child)
        try:
            return _outcome.decode(said)
        except msgspec.DecodeError:
            code = child.returncode
            return job.Failed("fetch_died", f"the fetching process ended with {code}, unsaid why")


def _tell_if_broken(running: asyncio.Task[None]) -> None:
    if not running.cancelled() and (error := running.exception()) is not None:
        log.error("update.broken name=%s", running.get_name(), exc_info=error)
