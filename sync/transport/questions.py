"""Which question an answer belongs to, where the link itself does not say.

Numbers start at random, so that an answer to an earlier process is not taken for one to this. An
answer to a question nobody waits for any more, or a second one to the same, is dropped.
"""

import asyncio
import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct

from sync.wire import topics


class Question(Struct, frozen=True, eq=False):
    """One exchange under way."""

    topic: str
    payload: bytes
    reply: asyncio.Future[bytes]


class Questions:
    """All exchanges under way on one link."""

    def __init__(self) -> None:
        self._numbers = itertools.count(random.SystemRandom().getrandbits(62) + 1)
        self._open: dict[int, Question] = {}

    @contextmanager
    def ask(self, topic: str, message: bytes) -> Iterator[Question]:
        """A question, waited for until the block ends."""
        number = next(self._numbers)
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        question = Question(topic, topics.wrap(number, message), reply)
        self._open[number] = question
        try:
            yield question
        finally:
            del self._open[number]

    def waiting(self) -> list[Question]:
        """Those without an answer."""
        return [one for one in self._open.values() if not one.reply.done()]

    def answer(self, payload: bytes) -> bytes | None:
        """Take an envelope in; what is in it, where it answers nothing and was sent unasked.

        Raises `MalformedMessage`.
        """
        number, message = topics.unwrap(payload)
        if number == 0:
            return message
        question = self._open.get(number)
        if question is not None and not question.reply.done():
            question.reply.set_result(message)
        return None
