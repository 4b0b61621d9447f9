"""The port between a device and its gateway.

Rules every implementation keeps, checked by one contract suite:
1. `exchange` ends with the gateway's own reply, or raises within `timeout_s`: never later, never
   in silence.
2. A reply is the application's, given after its commit; a broker's acknowledgement is not a reply.
3. `LinkDown` means nothing was handed over or nobody can tell; `LinkTimeout` that it was sent and
   may have been acted on. Both are answered by sending the same message again.
4. A silent connection is not trusted: after a timeout the implementation tears it down and makes a
   new one by itself, with full-jitter backoff. Callers never reconnect.
5. Messages may arrive twice and out of order at the gateway; replies are matched to their own
   question.
6. `exchange` may be called concurrently; a slow one does not hold up another.
"""

from collections.abc import Callable
from typing import Protocol

from sync.wire import v1


class Transport(Protocol):
    """The device's side of the link."""

    @property
    def name(self) -> str:
        """`memory`, `http` or `mqtt`."""
        ...

    @property
    def connected(self) -> bool:
        """Whether the last thing heard from this link was good news. Silence is no news."""
        ...

    async def open(self, on_notice: Callable[[v1.Notice], None]) -> None:
        """Begin to connect and return at once; `on_notice` is called in the event loop."""
        ...

    async def exchange(self, message: v1.Up, *, timeout_s: float) -> v1.Down:
        """Say one thing and wait for the gateway's reply to it.

        Raises `LinkDown`, `LinkTimeout`, `MessageTooLarge`. A refusal is a reply (`v1.Refused`).
        """
        ...

    async def close(self) -> None:
        """End connections and threads; pending exchanges raise `LinkDown`."""
        ...
