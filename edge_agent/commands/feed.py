"""`longstop-agent feed`: newline-delimited JSON in, one JSON answer a line out, in the same order.

It asks through the SDK like any program, and is held to the rules of a source: it reads no more
than the device answers, at the rate it is told, and what it skips the device records.

Exit codes: 0 every line was answered, or skipped by a rule that was asked for; 3 some were not, and
each says so in its own line; 1 there is nobody to ask.
"""

import asyncio
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from edge_agent.errors import BadRequest
from edge_agent.sdk import (
    AgentUnavailable,
    Answer,
    AsyncClient,
    DeadlineExceeded,
    InferenceFailed,
    LongstopError,
    Overloaded,
    agent,
)
from edge_agent.sdk.call import now
from edge_agent.sdk.channel import Channel
from edge_agent.sdk.connection import Broken, NotListening
from edge_agent.sdk.places import agent_socket, run_folder
from edge_agent.sdk.tensor import tensor_of
from edge_agent.sdk.wire import FrameTooLarge, head
from edge_agent.sources import likeness, stream
from edge_agent.sources.admission import Policy, Report
from edge_agent.sources.intake import Input, Intake, Outcome
from edge_agent.sources.stream import Given, Line
from sync.clock import SystemClock

SOURCE = "stdin"
ANSWERED, NOT_ALL = 0, 3
GIVE_UP_S = 60.0
"""A device that is busy, or is being restarted, is asked again for so long."""
_LATER = (AgentUnavailable, DeadlineExceeded, InferenceFailed, Overloaded)

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Order:
    """What the command line says."""

    task: str | None
    run: Path | None
    deadline_ms: float
    dtype: str
    policy: Policy


async def feed(order: Order, descriptor: int, say: Say) -> int:
    """Answer every line of a descriptor. Raises the SDK's errors when nobody is there at first."""
    async with AsyncClient(order.task, name="longstop-agent", run=order.run) as client:
        tasks = await client.tasks()
        task = client.task or ""
        if task not in tasks:
            raise agent.unknown_task(task, tasks)
        feeding = _Feeding(client, task, order, say)
        await feeding.run(descriptor)
    return NOT_ALL if feeding.unanswered else ANSWERED


class _Feeding:
    """One run of the command."""

    def __init__(self, client: AsyncClient, task: str, order: Order, say: Say) -> None:
        self._client = client
        self._task = task
        self._order = order
        self._say = say
        self._clock = SystemClock()
        self._began = f"{self._clock.wall():.0f}"
        self._next = 1
        self._said: dict[int, str] = {}
        self._recording: set[asyncio.Task[None]] = set()
        self._gone: BrokenPipeError | None = None
        self.unanswered = 0

    async def run(self, descriptor: int) -> None:
        intake = Intake(self._order.policy, clock=self._clock, report=self._record)
        number = 0
        try:
            async for text in stream.lines(descriptor):
                number += 1
                if text.strip():
                    await self._take(intake, stream.read(text, number, self._order.dtype))
                else:
                    self._finish(number, "")
                if self._gone is not None:
                    raise self._gone
            await intake.idle()
        finally:
            await intake.close()
            if self._recording:
                await asyncio.wait(self._recording)
        if self._gone is not None:
            raise self._gone

    async def _take(self, intake: Intake, line: Line) -> None:
        name = f"{self._began}#{line.number:09d}"
        await intake.room()
        if isinstance(line.given, BadRequest):
            intake.left_out(name, "unreadable")
            self._refuse(line, line.given.code, str(line.given))
            return
        intake.offer(
            Input(
                name,
                partial(self._ask, line, line.given, time.monotonic() + GIVE_UP_S),
                _signature(line.given) if intake.compares else None,
                partial(self._skipped, line),
            )
        )

    async def _ask(self, line: Line, given: Given, until: float) -> Outcome:
        request_id = None if line.id is None else str(line.id)
        try:
            answer = await self._client.infer(
                given, deadline_ms=self._order.deadline_ms, request_id=request_id
            )
        except LongstopError as error:
            if isinstance(error, _LATER) and time.monotonic() < until:
                return "overloaded"
            self._refuse(line, error.code, str(error))
            return "refused"
        self._finish(line.number, _json(line, answer))
        return "answered"

    async def _skipped(self, line: Line, reason: str) -> None:
        words = {"ok": False, "code": reason, "message": "skipped by the rules that were asked for"}
        self._finish(line.number, json.dumps({"line": line.number, "id": line.id, **words}))

    def _refuse(self, line: Line, code: str, message: str) -> None:
        self.unanswered += 1
        words = {"ok": False, "code": code, "message": message}
        self._finish(line.number, json.dumps({"line": line.number, "id": line.id, **words}))

    def _finish(self, number: int, text: str) -> None:
        """Say it once everything before it has been said."""
        self._said[number] = text
        while (ready := self._said.pop(self._next, None)) is not None:
            self._next += 1
            if ready and self._gone is None:
                try:
                    self._say(ready)
                except BrokenPipeError as error:  # whoever read us has seen enough
                    self._gone = error

    def _record(self, run: Report) -> None:
        task = asyncio.create_task(self._tell(run))
        self._recording.add(task)
        task.add_done_callback(self._recording.discard)

    async def _tell(self, run: Report) -> None:
        question = {
            "op": "skipped",
            "task": self._task,
            "source": SOURCE,
            "reason": run.reason,
            "count": run.count,
            "first_id": run.first_id,
            "last_id": run.last_id,
        }
        path = agent_socket(run_folder(self._order.run))
        try:
            channel = await Channel.open(path)
            try:
                await channel.exchange((head(json.dumps(question).encode()),), now() + agent.ASK_S)
            finally:
                channel.close()
        except (NotListening, Broken, TimeoutError, FrameTooLarge) as error:
            print(
                f"longstop-agent: {run.count} skipped lines ({run.reason}) are in no record: the"
                f" agent gave no answer: {error}",
                file=sys.stderr,
            )


def _signature(given: Given) -> likeness.Signature | None:
    try:
        tensor = tensor_of(given)
    except LongstopError:
        return None  # said when it is its turn
    return likeness.signature(tensor.dtype, tensor.shape, bytes(tensor.data))


def _json(line: Line, answer: Answer) -> str:
    return json.dumps({"line": line.number, "id": line.id, "ok": True} | dataclasses.asdict(answer))


def say_line(text: str) -> None:
    """At once, for whoever reads along."""
    os.write(sys.stdout.fileno(), text.encode() + b"\n")
