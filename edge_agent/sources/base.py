"""What every source is handed, and what it has to do.

1. A source finds inputs by itself and has each answered like any caller's: recorded, escalated,
   bounded by a deadline.
2. It runs in the worker until it is cancelled, or returns when nothing more can come. Two workers
   may run the same source for a moment, so an input has the same request id whoever finds it.
3. It offers each input to its intake, which says which are answered; what it cannot use it leaves
   out there, with a reason. So nothing is left out unsaid.
4. What it cannot go on from it raises; whoever runs it says so in the status, and begins it again.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from edge_agent.sdk.messages import Infer, Refused, Reply
from edge_agent.sources.intake import Intake, Outcome

Answering = Callable[[Infer, bytes], Awaitable[Reply | Refused]]

DEADLINE_MS = 5000
"""Nobody waits at a keyboard: the cloud may take its time."""
AT_ONCE = 8
"""Inputs of a source answered at the same time: those that wait for the cloud hold up no others."""
_LATER = frozenset({"overloaded", "runtime_failed", "internal"})
"""Refusals that say nothing about the input."""


class Source(Protocol):
    """Something inputs come from."""

    @property
    def trouble(self) -> str:
        """Why nothing comes at the moment; empty where nothing is wrong."""
        ...

    async def run(self, intake: Intake) -> None:
        """Find inputs and offer them, until cancelled or nothing more can come."""
        ...


def outcome_of(reply: Reply | Refused) -> Outcome:
    """What became of an input, as admission has it."""
    if isinstance(reply, Reply):
        return "answered"
    return "overloaded" if reply.code in _LATER else "refused"
