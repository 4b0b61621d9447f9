"""What the model said of an input lately, for inputs that come again.

1. The key is the input's bytes and shape with the package's digest: another package never answers.
2. A model's answer is remembered for `ttl_s`, and at most `entries` of them: the longest unused
   goes first. It is the model's answer alone: threshold, deadline and cloud decide about it anew.
3. The same input asked twice at once runs once. When that run fails, each other asker tries for
   itself: its deadline may be another.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


def key_of(data: bytes | bytearray | memoryview, shape: str, digest: str) -> bytes:
    """What an input is known by."""
    from xxhash import xxh3_128

    key = xxh3_128(data)
    key.update(f"{shape} {digest}".encode())
    return key.digest()


class Cache(Generic[T]):
    """Asked from one event loop."""

    def __init__(self, *, ttl_s: float, entries: int, now: Callable[[], float]) -> None:
        self._ttl_s = ttl_s
        self._entries = entries
        self._now = now
        self._known: OrderedDict[bytes, tuple[T, float]] = OrderedDict()
        self._under_way: dict[bytes, asyncio.Future[None]] = {}

    async def get(self, key: bytes, make: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """The answer, and whether it was known. Raises what `make` raises."""
        while True:
            known = self._known.get(key)
            if known is not None and known[1] > self._now():
                self._known.move_to_end(key)
                return known[0], True
            other = self._under_way.get(key)
            if other is None:
                return await self._make(key, make), False
            await asyncio.wait((other,))

    async def _make(self, key: bytes, make: Callable[[], Awaitable[T]]) -> T:
        done = self._under_way[key] = asyncio.get_running_loop().create_future()
        try:
            made = await make()
            self._known[key] = made, self._now() + self._ttl_s
            self._known.move_to_end(key)
            if len(self._known) > self._entries:
                self._known.popitem(last=False)
            return made
        finally:
            del self._under_way[key]
            done.set_result(None)
