"""What the workers of a task have answered lately, for the next one and for each other.

Records go on as they stood in the pipe: each preceded by its length.
"""

from collections import deque
from collections.abc import Callable

MOST = 4096
"""As many as a worker remembers: about a megabyte."""

Hear = Callable[[bytes], None]


class Said:
    """Of one task."""

    def __init__(self, most: int = MOST) -> None:
        self._last: deque[bytes] = deque(maxlen=most)
        self._ears: dict[object, Hear] = {}

    def join(self, worker: object, hear: Hear) -> None:
        """A worker begins: it hears all of it now, and what others answer while it lives."""
        hear(b"".join(self._last))
        self._ears[worker] = hear

    def leave(self, worker: object) -> None:
        self._ears.pop(worker, None)

    def add(self, worker: object, records: list[bytes]) -> None:
        """A worker has answered."""
        self._last.extend(records)
        for other, hear in self._ears.items():
            if other is not worker:
                hear(b"".join(records))
