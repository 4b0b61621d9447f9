"""One simulated device: the shipped parts, and what stands for the seam between its processes."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Literal

from edge_agent.cascade.ports import CloudReply
from edge_agent.cascade.run import Cascade
from edge_agent.cloud.link import CloudLink
from sim.link import Link
from sync.outbox.run import Outbox
from sync.wire import v1


class Handover:
    """Stands for the worker's socket pair and pipe: what it hands over arrives at once."""

    def __init__(self, link: CloudLink) -> None:
        self._link = link
        self._storing: set[asyncio.Future[object]] = set()

    def ask(self, escalation: v1.Escalation, client: str, until: float) -> Awaitable[CloudReply]:
        del until  # the caller cancels; what was handed over stays handed over
        return self._link.escalate(client, escalation)

    def weigh(self, worth: float, cost: int) -> None:
        """No budget yet, so nobody finds a price."""

    def leave(
        self, question: v1.Escalation, client: str, *, kind: Literal["later", "audit"], value: float
    ) -> None:
        del kind, value
        self._link.leave(client, question)

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
