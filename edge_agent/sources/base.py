"""What every source is handed, and what it has to do.

1. A source finds inputs by itself and has each answered like any caller's: recorded, escalated,
   bounded by a deadline.
2. It runs in the worker until it is cancelled. Two workers may run the same source for a moment,
   so an input has the same request id whoever finds it.
3. What it leaves out it names, with a code and the reason.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from edge_agent.sdk.messages import Infer, Refused, Reply

Answering = Callable[[Infer, bytes], Awaitable[Reply | Refused]]


class Source(Protocol):
    """Something inputs come from."""

    async def run(self) -> None:
        """Find inputs and have them answered, until cancelled."""
        ...
