"""Keeps one task's source running in its worker, and tells how it does.

1. One worker of a task reads its source at a time: it holds a lock, and another waits for it. So a
   swap hands the source over, and neither camera nor topic is read twice.
2. A source that breaks takes nothing else with it: it begins again after full jitter, and its
   status says why it broke.
3. What it skipped is a record before it is forgotten.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, Protocol

from edge_agent.sources.admission import Policy, Report
from edge_agent.sources.base import Source
from edge_agent.sources.intake import Intake
from edge_agent.workplace import SkippedFor, SourceState
from sync.backoff import Backoff, delay_s
from sync.clock import Clock
from sync.wire import v1

log = logging.getLogger(__name__)

RESTART = Backoff(base_s=0.5, cap_s=60.0)
STEADY_S = 30.0
"""A source that ran this long has no earlier trouble to be held against it."""
TELL_S = 1.0
LOCK_S = 0.1


class Skips(Protocol):
    """Where skipped inputs are written down."""

    def put(self, record: v1.Skipped) -> None: ...


class SourceRun:
    """One source, for as long as its worker lives.

    Args:
        lock: File that is locked while the source is read; None for nobody else to mind.
        tell: Called in the event loop when its state has changed, once a second at most.
    """

    def __init__(
        self,
        source: Source,
        *,
        task: str,
        kind: str,
        policy: Policy,
        records: Skips,
        clock: Clock,
        tell: Callable[[SourceState], None],
        lock: Path | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self._source = source
        self._task = task
        self._kind = kind
        self._policy = policy
        self._records = records
        self._clock = clock
        self._tell = tell
        self._lock = lock
        self._chance = chance or random.SystemRandom()
        self._state: Literal["waiting", "running", "broken", "finished"] = "waiting"
        self._error = ""
        self._intake: Intake | None = None
        self._offered = self._answered = 0
        self._skipped: Counter[str] = Counter()
        self._last_input: float | None = None

    async def run(self) -> None:
        """Until cancelled; what has begun is seen to its end before this returns."""
        telling = asyncio.create_task(self._keep_telling())
        try:
            async with self._alone():
                await self._keep_running()
        finally:
            telling.cancel()
            if self._state != "waiting":
                self._tell(self.state())

    def state(self) -> SourceState:
        """How it does now."""
        intake, skipped = self._intake, Counter(self._skipped)
        offered, answered, last = self._offered, self._answered, self._last_input
        if intake is not None:
            offered, answered = offered + intake.offered, answered + intake.answered
            skipped += intake.skipped
            last = intake.last_input or last
        return SourceState(
            kind=self._kind,
            state=self._state,
            offered=offered,
            answered=answered,
            skipped=tuple(SkippedFor(reason, n) for reason, n in sorted(skipped.items())),
            last_input=last,
            error=self._error or self._source.trouble,
        )

    async def _keep_running(self) -> None:
        attempt = 0
        while True:
            self._state = "running"
            began = self._clock.monotonic()
            try:
                await self._run_once()
            except Exception as error:  # noqa: BLE001 - the outermost loop: say, wait, begin again
                code = getattr(error, "code", "")
                self._error = f"{code}: {error}" if code else f"{type(error).__name__}: {error}"
                log.warning("source.broken task=%s why=%s", self._task, self._error)
                self._state = "broken"
            else:
                log.info("source.finished task=%s", self._task)
                self._state = "finished"
                return
            attempt = 0 if self._clock.monotonic() - began >= STEADY_S else attempt
            await asyncio.sleep(delay_s(RESTART, attempt, self._chance.random()))
            attempt += 1

    async def _run_once(self) -> None:
        intake = self._intake = Intake(self._policy, clock=self._clock, report=self._write)
        try:
            await self._source.run(intake)
            await intake.idle()
        finally:
            await intake.close()
            self._intake = None
            self._offered += intake.offered
            self._answered += intake.answered
            self._skipped += intake.skipped
            self._last_input = intake.last_input or self._last_input

    def _write(self, run: Report) -> None:
        self._records.put(
            v1.Skipped(
                task=self._task,
                source=self._kind,
                reason=run.reason,
                count=run.count,
                first_id=run.first_id,
                last_id=run.last_id,
                at=self._clock.wall(),
            )
        )

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Rule 1. A disk that takes no lock is no reason to read nothing."""
        if self._lock is None:
            yield
            return
        try:
            self._lock.parent.mkdir(parents=True, exist_ok=True)
            held = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            log.warning("source.no_lock task=%s error=%s", self._task, error.strerror)
            yield
            return
        try:
            while not _locked(held):  # noqa: ASYNC110 - another process lets go of it
                await asyncio.sleep(LOCK_S)
            yield
        finally:
            os.close(held)

    async def _keep_telling(self) -> None:
        told: SourceState | None = None
        steady_since = self._clock.monotonic()
        while True:
            if self._state == "running" and self._error:
                if self._clock.monotonic() - steady_since >= TELL_S:
                    self._error = ""
            else:
                steady_since = self._clock.monotonic()
            state = self.state()
            # One that only waits is another worker's to tell of.
            if state != told and state.state != "waiting":
                self._tell(state)
                told = state
            await asyncio.sleep(TELL_S)


def _locked(held: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
