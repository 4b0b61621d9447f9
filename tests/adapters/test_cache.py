"""What is known is not computed again; what failed is tried by each asker for itself."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from edge_agent.cache import Cache, key_of


class Story:
    """A cache of three for ten seconds, and how often each key was computed."""

    def __init__(self) -> None:
        self.now = 0.0
        self.made: list[bytes] = []
        self.fails = 0
        self.cache: Cache[str] = Cache(ttl_s=10.0, entries=3, now=lambda: self.now)

    async def get(self, key: bytes) -> tuple[str, bool]:
        async def make() -> str:
            self.made.append(key)
            await asyncio.sleep(0)
            if self.fails:
                self.fails -= 1
                raise ValueError("not this time")
            return key.decode()

        return await self.cache.get(key, make)


def tell(story: Callable[[Story], Awaitable[None]]) -> None:
    async def run() -> None:
        await story(Story())

    asyncio.run(asyncio.wait_for(run(), timeout=10))


def test_an_answer_is_known_until_its_time_is_over() -> None:
    async def story(it: Story) -> None:
        assert await it.get(b"a") == ("a", False)
        it.now = 9.9
        assert await it.get(b"a") == ("a", True)
        it.now = 10.0
        assert await it.get(b"a") == ("a", False)

    tell(story)


def test_the_longest_unused_goes_when_it_is_full() -> None:
    async def story(it: Story) -> None:
        for key in (b"a", b"b", b"c", b"a", b"d"):
            await it.get(key)
        assert it.made == [b"a", b"b", b"c", b"d"]
        assert await it.get(b"a") == ("a", True)
        assert await it.get(b"b") == ("b", False)

    tell(story)


def test_the_same_asked_at_once_is_computed_once() -> None:
    async def story(it: Story) -> None:
        found = await asyncio.gather(*(it.get(b"a") for _ in range(5)))
        assert [one for one, _ in found] == ["a"] * 5
        assert it.made == [b"a"]

    tell(story)


def test_a_failure_is_its_own_askers_and_the_next_one_tries() -> None:
    async def story(it: Story) -> None:
        it.fails = 1
        first, second, third = (asyncio.ensure_future(it.get(b"a")) for _ in range(3))
        with pytest.raises(ValueError, match="not this time"):
            await first
        assert [await second, await third] == [("a", False), ("a", True)]
        assert it.made == [b"a", b"a"]

    tell(story)


def test_an_asker_that_gives_up_leaves_the_others_theirs() -> None:
    async def story(it: Story) -> None:
        first, second = (asyncio.ensure_future(it.get(b"a")) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == ("a", False)

    tell(story)


def test_bytes_shape_and_package_make_the_key() -> None:
    keys = {
        key_of(b"abcd", "(2, 2)", "d1"),
        key_of(b"abcd", "(4,)", "d1"),
        key_of(b"abcd", "(2, 2)", "d2"),
        key_of(b"abce", "(2, 2)", "d1"),
    }
    assert len(keys) == 4
    assert key_of(memoryview(b"abcd"), "(4,)", "d1") in keys
