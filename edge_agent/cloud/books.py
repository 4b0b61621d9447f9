"""What the supervisor writes into the outbox, and what becomes of it when there is no room.

Writing is begun at once, in order, and awaited only by those who care. What could not be stored is
counted here and issued as lost as soon as there is room again: nothing vanishes unsaid.
"""

import asyncio
import logging
from collections.abc import Awaitable

from sync.clock import Clock
from sync.errors import OutboxError
from sync.outbox.run import Outbox
from sync.wire import v1

log = logging.getLogger(__name__)


class Books:
    """The outbox as a place to write to."""

    def __init__(self, outbox: Outbox, clock: Clock) -> None:
        self._outbox = outbox
        self._clock = clock
        self._writing: set[asyncio.Task[bool]] = set()
        self._unstored = 0

    def number(
        self, record: v1.Answered | v1.Skipped | v1.Feedback | v1.Alarm | v1.Health
    ) -> Awaitable[bool]:
        """A record for which nothing is owed. Every method gives back whether it was stored."""
        return self._write(self._outbox.put(record))

    def number_and_owe(self, record: v1.Answered, question: v1.Escalation) -> Awaitable[bool]:
        """A provisional answer's record and its question."""
        return self._write(self._outbox.put(record, escalation=question))

    def owe(self, client: str, question: v1.Escalation) -> Awaitable[bool]:
        """A question whose record is numbered."""
        return self._write(self._outbox.owe(client, question))

    def revise(self, client: str, answer: v1.Escalated, *, settles: bool) -> Awaitable[bool]:
        """A revision for its client."""
        revised = v1.Revised(
            request_id=answer.request_id,
            client=client,
            task=answer.task,
            label=answer.label,
            confidence=answer.confidence,
            version=answer.version,
            at=self._clock.wall(),
            answer=answer.answer,
        )
        standing = answer.request_id if settles else None
        return self._write(self._outbox.put(revised, settles=standing, revision_for=client))

    def abandon(self, request_id: str, reason: str, *, settles: bool) -> Awaitable[bool]:
        """The end of a question without an answer."""
        log.warning("question.abandoned request=%s reason=%s", request_id, reason)
        if settles:
            return self._write(self._after(set(self._writing), request_id, reason))
        return self.lose(1, f"escalation_{reason}")

    def lose(self, count: int, reason: str) -> Awaitable[bool]:
        """Numbers for what is gone already."""
        return self._write(self._outbox.lose(count, reason), count)

    async def close(self) -> None:
        """Wait until everything begun is written."""
        while self._writing:
            await asyncio.wait(self._writing)

    async def _after(self, earlier: set[asyncio.Task[bool]], request_id: str, reason: str) -> None:
        # A put waits a moment for others to share its commit; nothing overtakes the question's own.
        if earlier:
            await asyncio.wait(earlier)
        await self._outbox.abandon(request_id, reason)

    def _write(self, work: Awaitable[object], count: int = 1) -> asyncio.Task[bool]:
        task = asyncio.create_task(self._written(work, count))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return task

    async def _written(self, work: Awaitable[object], count: int) -> bool:
        try:
            await work
        except OutboxError as error:
            self._unstored += count
            log.error("outbox.not_stored code=%s why=%s", error.code, error)
            return False
        if self._unstored:
            missing, self._unstored = self._unstored, 0
            await self._written(self._outbox.lose(missing, "not_stored"), missing)
        return True
