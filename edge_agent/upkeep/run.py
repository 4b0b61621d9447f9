"""Workers of one task: one that serves, at times one on trial, at times some that leave.

All of them listen on the same socket, which is the supervisor's and outlives them. A switch is: the
new one serves already, the old one is asked to leave. Where two have no room, the old one leaves
first, and connections wait in the socket's backlog for the new one.
"""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Protocol

from edge_agent.cloud.handover import ToWorker
from edge_agent.errors import WorkerFailed
from edge_agent.upkeep.blame import Blame
from edge_agent.upkeep.keeper import Keeper, PackageOrder

log = logging.getLogger(__name__)


class Keep(Protocol):
    """Makes the keeper of a package."""

    def __call__(
        self, package: PackageOrder, *, on_trial: bool, history: Blame | None
    ) -> Keeper: ...


class TaskWorkers:
    """The keepers of one task."""

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self.current: Keeper | None = None
        self._trial: Keeper | None = None
        self._leaving: dict[asyncio.Task[None], Keeper] = {}

    def serve(self, package: PackageOrder) -> None:
        """Have this package served; a worker of another one leaves when this one serves."""
        old = self.current
        if old is not None and old.package == package:
            return
        self.current = self._keep(package, on_trial=False, history=None)
        if old is not None:
            # One that dies of every request must not take another, even while nobody else does.
            self._let_go(old, after=None if old.gave_up else self.current.served)

    async def try_out(self, package: PackageOrder, *, beside: bool = True) -> None:
        """Return once a worker of this package serves beside the current one, or after it.

        Not beside: the current one leaves first, and comes back when the new one does not serve.
        Raises `WorkerFailed`.
        """
        self.stop_trial()
        resting = None if beside else self.current
        if resting is not None:
            await resting.leave()
        trial = self._trial = self._keep(package, on_trial=True, history=None)
        try:
            await asyncio.shield(trial.served)
        except WorkerFailed:
            if resting is not None and self.current is resting:
                self.current = self._again(resting)
            raise

    async def renew(self, old: Keeper, *, beside: bool = True) -> None:
        """A fresh worker of the same package in place of the current one."""
        if self.current is not old:
            return  # it leaves already
        if not beside:
            await old.leave()
        if self.current is old:
            self.current = self._again(old)
            self._let_go(old, after=self.current.served)

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

    def tell(self, said: ToWorker) -> None:
        """Say something to every worker of the task."""
        for keeper in (self.current, self._trial, *self._leaving.values()):
            if keeper is not None:
                keeper.tell(said)

    async def close(self, *, within_s: float) -> None:
        """All leave; those that do not in time are killed."""
        keepers = [self.current, self._trial, *self._leaving.values()]
        await asyncio.gather(
            *(keeper.leave(within_s=within_s) for keeper in keepers if keeper is not None),
            *self._leaving,
        )

    def _again(self, old: Keeper) -> Keeper:
        new = self._keep(old.package, on_trial=False, history=old.blame)
        new.restarts = old.restarts + 1
        return new

    def _let_go(self, keeper: Keeper, *, after: Awaitable[None] | None = None) -> None:
        leaving = asyncio.create_task(_leave(keeper, after))
        self._leaving[leaving] = keeper
        leaving.add_done_callback(self._leaving.pop)


async def _leave(keeper: Keeper, after: Awaitable[None] | None) -> None:
    if after is not None:
        await asyncio.wait({asyncio.ensure_future(after)})
    await keeper.leave()
