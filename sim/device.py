"""One simulated device: the shipped parts, and what stands for the seam between its processes."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from edge_agent.cascade.ports import CloudReply
from edge_agent.cascade.run import Cascade
from edge_agent.cloud.budget import Budget
from edge_agent.cloud.link import CloudLink
from edge_agent.cloud.price import Weighed
from edge_agent.risk.run import Risk
from edge_agent.risk.store import Key
from sim.budget import Counted
from sim.link import Link
from sync.outbox.run import Outbox
from sync.wire import v1


class Handover:
    """Stands for the worker's socket pair and pipe: what it hands over arrives at once."""

    def __init__(self, link: CloudLink, chosen: Callable[[str], bool]) -> None:
        self._link = link
        self.chosen = chosen
        self.watched: tuple[Risk, Key] | None = None
        self.budget: Budget | None = None
        self._storing: set[asyncio.Future[object]] = set()

    def ask(self, escalation: v1.Escalation, client: str, until: float) -> Awaitable[CloudReply]:
        del until  # the caller cancels; what was handed over stays handed over
        return self._link.escalate(client, escalation)

    def weigh(self, worth: float, cost: int) -> None:
        if self.budget is not None:
            self.budget.considered((Weighed(worth, cost),))

    def leave(
        self, question: v1.Escalation, client: str, *, kind: Literal["later", "audit"], value: float
    ) -> None:
        del value
        if kind == "audit" and self.watched is not None:
            risk, key = self.watched
            risk.ask(key, question)
            return
        self._link.leave(client, question)

    def audited(self, request_id: str, label: str, score: float | None, *, local: bool) -> None:
        if self.watched is not None:
            risk, key = self.watched
            risk.audited(key, request_id, label, score, local=local)

    def put(self, record: v1.Answered) -> None:
        stored: asyncio.Future[object] = asyncio.ensure_future(self._link.record(record))
        self._storing.add(stored)
        stored.add_done_callback(self._storing.discard)

    async def finish(self) -> None:
        """Wait until everything handed over is durable."""
        await asyncio.gather(*self._storing)


@dataclass(frozen=True)
class Device:
    """One simulated device: everything shipped, wired as supervisor and worker wire it."""

    name: str
    outbox: Outbox
    radio: Link
    link: CloudLink
    handover: Handover
    cascade: Cascade
    risk: Risk | None = None
    """None where nothing is audited."""
    spent: Counted | None = None
    """What it sent, counted outside of it; None where nothing is limited."""
