"""The last answers of a task: a request that comes again under its id gets the same answer.

1. An id belongs to the client that gave it. What it was asked with is not compared.
2. Bounded: an id is known for as long as `MOST` later ones.
3. Of two answers to one id the first counts; whoever waits for the second gets the first.
4. Answers of workers before this one, and beside it, are told by the supervisor, which has their
   records. A record has no more than the label, so they serve only where the label says it all.
"""

from collections import OrderedDict
from collections.abc import Awaitable

from edge_agent.sdk.messages import Refused, Reply, Timings
from sync.wire import v1

MOST = 4096


class Recent:
    """What was answered."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._replies: OrderedDict[tuple[str, str], Reply] = OrderedDict()

    def find(self, client: str, request_id: str) -> Reply | None:
        return self._replies.get((client, request_id))

    def keep(self, client: str, reply: Reply) -> Reply:
        """Remember an answer; gives back the one that counts."""
        kept = self._replies.setdefault((client, reply.id), reply)
        if len(self._replies) > self._most:
            self._replies.popitem(last=False)
        return kept

    async def keep_later(self, client: str, given: Awaitable[Reply | Refused]) -> Reply | Refused:
        """As `keep`, for an answer still to come; a refusal is nothing to remember."""
        reply = await given
        return self.keep(client, reply) if isinstance(reply, Reply) else reply

    def told(self, record: v1.Answered, uncertified: str | None) -> None:
        """Another worker answered."""
        timings = Timings(record.prepare_us, record.run_us, record.wait_us, record.total_us)
        self.keep(
            record.client,
            Reply(
                id=record.request_id,
                label=record.label,
                confidence=record.confidence,
                source=record.route,
                final=record.final,
                reason=record.reason,
                hard=record.hard,
                version=record.version,
                digest=record.digest,
                timings=timings,
                certified_risk=record.certified_risk,
                uncertified=uncertified,
                degraded=record.degraded,
                certificate=record.certificate,
            ),
        )
