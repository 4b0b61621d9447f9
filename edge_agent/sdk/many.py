"""How many inputs of a series are under way at once: what both clients share. No I/O.

1. As many as are answered in a small part of one deadline, so that the last of them is not late
   because of the first. How quick the model is shows when it is asked: it begins with one.
2. An error of one input is its answer, and the next one goes on. What says that nobody can be asked
   at all is raised.
"""

from edge_agent.sdk.errors import (
    AgentUnavailable,
    BadArgument,
    ClientClosed,
    ProtocolMismatch,
    TaskRequired,
    UnknownTask,
)

MOST = 32
_SHARE = 0.1
ENDS_ALL = (
    AgentUnavailable,
    BadArgument,
    ClientClosed,
    ProtocolMismatch,
    TaskRequired,
    UnknownTask,
)


class Window:
    """Grows while answers come quickly, shrinks when they do not."""

    def __init__(self, deadline_ms: float) -> None:
        self.size = 1
        self._short_s = _SHARE * deadline_ms / 1000

    def took(self, seconds: float) -> None:
        """All that were under way are answered."""
        if seconds > self._short_s:
            self.size = max(1, self.size // 2)
        elif seconds < self._short_s / 2:
            self.size = min(MOST, self.size * 2)
