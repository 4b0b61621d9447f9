"""Whose request runs next, so that one program cannot starve another. (pure)

1. Clients take turns: one request each, round and round, each client's own in the order they came.
2. There is room for so many. When it is full, whoever has most waiting loses its newest request,
   the newcomer's included: a flood throws out its own.
"""

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Requests that wait, by client."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._waiting: dict[str, deque[T]] = {}
        """In the order of the next turns."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def ahead(self, client: str) -> int:
        """How many go before one more of this client, at the most."""
        own = self._waiting.get(client, ())
        others = (its for its in self._waiting.values() if its is not own)
        return len(own) + sum(min(len(its), len(own) + 1) for its in others)

    def join(self, client: str, one: T) -> T | None:
        """Wait in line; gives back who had to go for it, itself perhaps."""
        self._waiting.setdefault(client, deque()).append(one)
        self._count += 1
        if self._count <= self._room:
            return None
        most = max(self._waiting, key=lambda name: (len(self._waiting[name]), name == client))
        gone = self._waiting[most].pop()
        self._forget(most)
        return gone

    def take(self, most: int) -> list[T]:
        """The next ones, at most so many."""
        taken: list[T] = []
        while self._waiting and len(taken) < most:
            client = next(iter(self._waiting))
            its = self._waiting.pop(client)
            taken.append(its.popleft())
            self._waiting[client] = its  # at the end of the line
            self._forget(client)
        return taken

    def _forget(self, client: str) -> None:
        self._count -= 1
        if not self._waiting[client]:
            del self._waiting[client]
