"""Watches over one worker that serves: performs what `watchdog` decides, and holds it to its share.

It is made when the worker says that it serves, and closed when the worker is gone.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Protocol, assert_never

from edge_agent.cloud.handover import Alive
from edge_agent.upkeep import watchdog
from edge_agent.upkeep.blame import Killer
from edge_agent.upkeep.shares import over
from edge_agent.upkeep.watchdog import Watch, WatchdogPolicy
from sync.clock import Clock

log = logging.getLogger(__name__)


class Watched(Protocol):
    """The process."""

    @property
    def pid(self) -> int: ...

    def kill(self) -> None: ...


class Guard:
    """`killer` says afterwards why it was killed, None when it was not by us."""

    def __init__(
        self,
        process: Watched,
        *,
        policy: WatchdogPolicy,
        clock: Clock,
        memory_bytes: int,
        on_over: Callable[[], None],
    ) -> None:
        self.killer: Killer | None = None
        self.why = ""
        self.rss_bytes = 0
        self._process = process
        self._clock = clock
        self._memory_bytes = memory_bytes
        self._on_over = on_over
        self._over = False
        self._starvation = Starvation(process.pid)
        self._starved_s = self._starvation.seconds()
        self._timer: asyncio.TimerHandle | None = None
        self._watch: Watch
        self._take(watchdog.begun(policy, clock.monotonic()))

    def heard(self, said: Alive) -> None:
        """The worker is alive, and says how it is."""
        self.rss_bytes = said.rss_bytes
        event = watchdog.Beaten(said.running_s, said.p99_s)
        self._take(watchdog.step(self._watch, event, self._clock.monotonic()))
        match over(said.rss_bytes, self._memory_bytes):
            case "no":
                return
            case "kill":
                self.kill("memory", self._too_much())
            case "renew" if not self._over:
                self._over = True
                log.warning("worker.over pid=%d why=%s", self._process.pid, self._too_much())
                self._on_over()
            case "renew":
                return

    def kill(self, killer: Killer, why: str) -> None:
        """End the worker, and remember why."""
        if self.killer is None:
            self.killer, self.why = killer, why
            log.error("worker.killed pid=%d by=%s why=%s", self._process.pid, killer, why)
            self._process.kill()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._starvation.close()

    def _too_much(self) -> str:
        allowed = self._memory_bytes >> 20
        return f"it takes {self.rss_bytes >> 20} MB of memory, {allowed} are allowed"

    def _take(self, step: watchdog.Step) -> None:
        self._watch = step.state
        for effect in step.effects:
            match effect:
                case watchdog.WakeAt(at):
                    pause_s = max(0.0, at - self._clock.monotonic())
                    self._timer = asyncio.get_running_loop().call_later(pause_s, self._wake, at)
                case watchdog.Kill(why):
                    self.kill("watchdog", why)
                case _:
                    assert_never(effect)

    def _wake(self, asked: float) -> None:
        before, self._starved_s = self._starved_s, self._starvation.seconds()
        woke = watchdog.Woke(asked, max(0.0, self._starved_s - before))
        self._take(watchdog.step(self._watch, woke, self._clock.monotonic()))


class Starvation:
    """How long a process's first thread has waited for a processor.

    It is asked once a second for as long as the worker lives, so its file stays open.
    """

    def __init__(self, pid: int) -> None:
        try:
            self._file = os.open(f"/proc/{pid}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._file = -1

    def seconds(self) -> float:
        """Since the process began; 0 where it is not known."""
        try:
            _, waited_ns, _ = os.pread(self._file, 96, 0).split()
        except (OSError, ValueError):
            return 0.0
        return int(waited_ns) / 1e9

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
