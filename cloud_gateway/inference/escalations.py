"""Hard cases answered once, however often they are sent.

1. A device repeats an escalation under the same request id until it hears an answer. While one copy
   is being answered the others wait for it, and for a while after they get the same answer again.
2. A refusal is not remembered: sent again, it is tried again.
3. Counts reach the database with the heartbeats, a moment later.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from cloud_gateway.database import Database
from cloud_gateway.errors import StorageUnavailable, UnknownTask
from cloud_gateway.inference import store
from cloud_gateway.inference.run import Answers
from cloud_gateway.inference.store import Bucket, Count
from sync.clock import Clock
from sync.wire import v1

REMEMBERED = 10_000


class Asked(Protocol):
    """Who answers; `run.Models` is the real one."""

    async def answer(self, task: str, inputs: Sequence[v1.Tensor]) -> Answers: ...


class Counters(Protocol):
    """Where escalations are counted for whoever watches."""

    def escalation_ended(self, task: str, outcome: str) -> None: ...


class Question(Struct, frozen=True):
    """Which question this is a copy of."""

    device: str
    task: str
    request_id: str


class Escalations:
    """Answers by question, counts by minute."""

    def __init__(self, models: Asked, database: Database, clock: Clock, counters: Counters) -> None:
        self._models = models
        self._database = database
        self._clock = clock
        self._counters = counters
        self._answering: dict[Question, asyncio.Task[Answers]] = {}
        self._answered: OrderedDict[Question, Answers] = OrderedDict()
        self._unsaved: dict[Bucket, Count] = {}

    async def answer(
        self, device: str, task: str, request_id: str, inputs: Sequence[v1.Tensor]
    ) -> Answers:
        """The cloud's answer; without a request id every call is a question of its own.

        Raises as `Models.answer` does.
        """
        if not request_id:
            return await self._ask(device, task, inputs)
        question = Question(device, task, request_id)
        if known := self._answered.get(question):
            self._counters.escalation_ended(task, "repeated")
            return known
        running = self._answering.get(question)
        if running is None:
            running = asyncio.get_running_loop().create_task(self._ask(device, task, inputs))
            self._answering[question] = running
            running.add_done_callback(lambda done: self._settle(question, done))
        # Shielded: one copy's lost connection must not take the answer from another.
        return await asyncio.shield(running)

    async def flush(self) -> None:
        """Write down what was counted since. Raises `StorageUnavailable`, and keeps it then."""
        counts, self._unsaved = self._unsaved, {}
        if not counts:
            return
        try:
            await self._database.write(lambda connection: store.add(connection, counts))
        except StorageUnavailable:
            for bucket, count in counts.items():
                kept = self._unsaved.setdefault(bucket, Count())
                kept.answered += count.answered
                kept.refused += count.refused
                kept.run_us += count.run_us
            raise

    async def _ask(self, device: str, task: str, inputs: Sequence[v1.Tensor]) -> Answers:
        try:
            answers = await self._models.answer(task, inputs)
        except UnknownTask:
            # Not counted by name: whoever makes up names would fill the database with them.
            self._counters.escalation_ended("", "refused")
            raise
        except Exception:
            self._counters.escalation_ended(task, "refused")
            self._count(device, task).refused += 1
            raise
        self._counters.escalation_ended(task, "answered")
        count = self._count(device, task)
        count.answered += 1
        count.run_us += answers.predictions[0].run_us
        return answers

    def _count(self, device: str, task: str) -> Count:
        bucket = store.bucket(device, task, self._clock.wall())
        return self._unsaved.setdefault(bucket, Count())

    def _settle(self, question: Question, done: "asyncio.Task[Answers]") -> None:
        del self._answering[question]
        if done.cancelled() or done.exception() is not None:
            return
        self._answered[question] = done.result()
        if len(self._answered) > REMEMBERED:
            self._answered.popitem(last=False)
