"""The link of a device that belongs to no gateway: down, always, and at once."""

from collections.abc import Callable

from sync.errors import LinkDown
from sync.wire import v1


class Unlinked:
    """Keeps the promise of a transport by never connecting."""

    name = "none"
    connected = False

    async def open(self, on_notice: Callable[[v1.Notice], None]) -> None:
        """There is nothing to open."""

    async def exchange(self, message: v1.Up, *, timeout_s: float) -> v1.Down:
        raise LinkDown("this device has no gateway; enrol it to give it one")

    async def close(self) -> None:
        """There is nothing to close."""
