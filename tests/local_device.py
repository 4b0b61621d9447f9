"""A device without processes: the shipped local API and cascade on a twin model, over real sockets.

It runs in a thread of its own, so that blocking clients can be tried against it.
"""

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from edge_agent.cascade.ports import InferRequest
from edge_agent.cascade.run import Cascade
from edge_agent.engine import Engine
from edge_agent.errors import AgentError
from edge_agent.local_api import frames
from edge_agent.local_api.connection import Body, Given
from edge_agent.local_api.run import MOST_CONNECTIONS, SILENT_S, LocalApi
from edge_agent.sdk.messages import Infer, Refused, Reply
from edge_agent.sdk.wire import FrameReader, head
from models.errors import ModelsError
from models.tensors import Sample
from models.twins import LABELS, build_twin, twin_sample
from sync.clock import SystemClock
from sync.runner import ThreadRunner
from sync.wire import v1

TASK = "sides"


STATUS = {
    "device": "bench-1",
    "agent_version": "0.1.0",
    "gateway": "http://127.0.0.1:1",
    "link": "http",
    "connected": True,
    "last_contact": None,
    "turned_away": None,
    "issued": 7,
    "pending": 2,
    "escalations_waiting": 0,
    "revisions_waiting": 1,
    "tasks": [{"task": TASK, "version": "3", "state": "serving", "wanted": "4"}],
}


def easy(label: int = 0) -> Sample:
    """An input the twin's edge is sure of."""
    return twin_sample(label, label, confidence=0.95)


def hard(edge: int = 0, cloud: int = 1) -> Sample:
    """An input its edge is not sure of, and its cloud labels otherwise."""
    return twin_sample(edge, cloud, confidence=0.5)


class Cloud:
    """Answers as the test wishes: after a while, with a refusal, or never."""

    def __init__(self) -> None:
        self.asked: list[v1.Escalation] = []
        self.left: list[v1.Escalation] = []
        self.after_s: float | None = 0.0
        self.refusal: str | None = None

    async def ask(
        self, escalation: v1.Escalation, client: str, until: float
    ) -> v1.Escalated | v1.Refused:
        self.asked.append(escalation)
        if self.refusal is not None:
            return v1.Refused(self.refusal, "as the test wishes", permanent=False)
        await asyncio.sleep(3600 if self.after_s is None else self.after_s)
        return v1.Escalated(escalation.request_id, escalation.task, LABELS[1], 0.99, "7", 100)

    def weigh(self, worth: float, cost: int) -> None:
        """No budget, so nobody finds a price."""

    def leave(
        self, question: v1.Escalation, client: str, *, kind: Literal["later", "audit"], value: float
    ) -> None:
        self.left.append(question)


class Recorded:
    """Keeps records in the order they were written."""

    def __init__(self) -> None:
        self.written: list[v1.Answered] = []

    def put(self, record: v1.Answered) -> None:
        self.written.append(record)


class LocalDevice:
    """Serves `<folder>/<task>.sock` and `<folder>/agent.sock` until the block ends."""

    def __init__(self, folder: Path, *, task: str = TASK, package: Path | None = None) -> None:
        self.folder = folder
        self.task = task
        self.tasks: tuple[str, ...] = (task,)
        self._package = package
        self.cloud = Cloud()
        self.records = Recorded()
        self.revisions: list[dict[str, object]] = []
        self.taken: list[str] = []
        self.heard: list[Infer] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._clock = SystemClock()
        self._agent: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        package = self._package or build_twin(TASK, "3", self.folder / "package")
        self.engine = Engine.load(
            package, digest="ab" * 32, clock=self._clock, thread=lambda: ThreadRunner("engine")
        )
        self.cascade = Cascade(
            engine=self.engine,
            ask=self.cloud,
            records=self.records,
            clock=self._clock,
            device="bench-1",
        )
        self.api = self.listen()
        self.do(self._serve_agent())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.do(self._stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self.engine.close()

    def do(self, what: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the device's own loop and wait for it."""
        asyncio.run_coroutine_threadsafe(what, self._loop).result(timeout=10)

    def now(self) -> float:
        return self._clock.monotonic()

    def listen(self, *, most: int = MOST_CONNECTIONS, silent_s: float = SILENT_S) -> LocalApi:
        """A worker's server on the task's socket; the socket itself is made the first time."""
        path = self.folder / f"{self.task}.sock"
        if not path.exists():
            self._listening = socket.socket(socket.AF_UNIX)
            self._listening.bind(str(path))
            self._listening.listen(128)
            # Blocking or not is one flag for all who share a socket, and `dup` sets it as it finds
            # it here: a blocking one would hold up a loop that is about to accept.
            self._listening.setblocking(False)
        api = LocalApi(
            self._listening.dup(), self._answer, self._clock, most=most, silent_s=silent_s
        )
        self._loop.call_soon_threadsafe(api.start)
        return api

    def _answer(self, infer: Infer, data: Body, received: float) -> Given:
        self.heard.append(infer)
        request = InferRequest(
            id=infer.id,
            client=infer.client,
            dtype=infer.dtype,
            shape=infer.shape,
            data=data,
            deadline_ms=infer.deadline_ms,
            received=received,
            until=frames.moment(infer, received),
        )
        try:
            given = self.cascade.begin(request)
        except (ModelsError, AgentError) as error:
            return Refused(infer.id, error.code, str(error))
        return given if isinstance(given, Reply) else self._later(infer, given)

    async def _later(self, infer: Infer, given: Awaitable[Reply]) -> Reply | Refused:
        try:
            return await given
        except (ModelsError, AgentError) as error:
            return Refused(infer.id, error.code, str(error))

    async def _serve_agent(self) -> None:
        self._agent = await asyncio.start_unix_server(
            self._speak_as_agent, self.folder / "agent.sock"
        )

    async def _speak_as_agent(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        frame_reader = FrameReader()
        while data := await reader.read(4096):
            frame_reader.buffer()[: len(data)] = data
            for frame in frame_reader.filled(len(data)):
                said = await self._said(json.loads(frame.meta))
                writer.write(head(json.dumps(said).encode()))
        writer.close()

    async def _said(self, question: dict[str, Any]) -> dict[str, object]:
        match question["op"]:
            case "tasks":
                return {"ok": True, "tasks": self.tasks}
            case "revisions":
                self.taken += question["taken"]
                until = self.now() + question["wait_ms"] / 1000
                while not (waiting := self._waiting()) and self.now() < until:  # noqa: ASYNC110
                    await asyncio.sleep(0.002)
                return {"ok": True, "revisions": waiting[: question["limit"]]}
            case "feedback":
                return {"ok": True, "counted": True}
            case "status":
                return {"ok": True, "status": STATUS}
            case _:
                return {"ok": False, "code": "bad_request", "message": "not in this test"}

    def _waiting(self) -> list[dict[str, object]]:
        return [one for one in self.revisions if one["request_id"] not in self.taken]

    async def _stop(self) -> None:
        await self.api.close()
        if self._agent is not None:
            self._agent.close()
        self._listening.close()
        # Connections end in the turn after they were closed.
        await asyncio.sleep(0.01)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
