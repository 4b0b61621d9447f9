"""Answers programs that ask by way of a broker on this device or near it.

1. What is asked, and where its answer goes, is `questions`' to say; what it means is the SDK's, as
   over HTTP (`callers`).
2. Bounded: so many questions under way, of one client, and in bytes; one more is `overloaded`.
3. A revision is published at QoS 1, and taken once the broker has it. Whoever asked here hears its
   revisions, and whoever says that it is there. Names are forgotten with the process; revisions
   are not.
4. What was asked or answered while there was no connection is lost. Asked again under its id, it
   gets the same answer.
"""

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Coroutine
from pathlib import Path
from typing import Protocol

import msgspec

from edge_agent.local_api import questions
from edge_agent.local_api.callers import Callers, Facts, Inputs
from edge_agent.local_api.questions import (
    Asked,
    FeedbackGiven,
    Id,
    RevisionsAsked,
    StatusAsked,
    Unfit,
)
from edge_agent.sdk import Answer, Revision
from edge_agent.sdk.errors import LongstopError, Overloaded
from edge_agent.sdk.messages import details_of
from edge_agent.workplace import LocalMqttSettings
from sync.errors import LinkError, SyncError
from sync.transport.mqtt import MqttPeer
from sync.wire import v1

MOST_AT_ONCE = 64
MOST_OF_ONE = 32
MOST_BYTES = 32 << 20
"""Of inputs under way."""
MOST_NAMES = 1000
AT_ONCE = 100
AGAIN_S = 5.0
STOP_S = 1.0

log = logging.getLogger(__name__)


class Device(Facts, Protocol):
    """What the device serves, and what waits for its clients."""

    async def revisions(self, client: str, limit: int) -> tuple[v1.Revised, ...]: ...

    async def take(self, client: str, request_ids: tuple[str, ...]) -> None: ...


class Broker:
    """The connection, and whoever asks on it."""

    def __init__(
        self, settings: LocalMqttSettings, password: str | None, run_folder: Path, device: Device
    ) -> None:
        self._settings = settings
        self._device = device
        self._callers = Callers(run_folder)
        self._inputs = Inputs(device)
        self._under_way: set[asyncio.Task[None]] = set()
        self._of_client: Counter[str] = Counter()
        self._bytes = 0
        self._names: OrderedDict[str, None] = OrderedDict({questions.CLIENT: None})
        self._due: set[str] = set()
        self._wake = asyncio.Event()
        self._delivering: asyncio.Task[None] | None = None
        self._peer = MqttPeer(
            settings.host,
            settings.port,
            username=settings.user or None,
            password=password,
            subscriptions=[f"{settings.prefix}/{one}" for one in questions.SUBSCRIPTIONS],
        )

    @property
    def trouble(self) -> str:
        """Why nobody can ask here now; empty where nothing is wrong."""
        peer = self._peer
        return "" if peer.connected else f"{peer.trouble.code}: {peer.trouble}"

    async def start(self) -> None:
        """Begin to connect, and return at once."""
        await self._peer.start(self._heard, self._connected)
        self._delivering = asyncio.create_task(self._deliver_all(), name="local mqtt revisions")

    async def close(self) -> None:
        """Hang up; what is nearly answered still is."""
        if self._delivering is not None:
            self._delivering.cancel()
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=STOP_S)
        ending = (*self._under_way, *(() if self._delivering is None else (self._delivering,)))
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await self._peer.close()
        await self._callers.close()

    def revised(self, client: str) -> None:
        """A revision waits for this client."""
        if client in self._names:
            self._due.add(client)
            self._wake.set()

    # -- what comes

    def _connected(self) -> None:
        self._due.update(self._names)
        self._wake.set()

    def _heard(self, topic: str, payload: bytes) -> None:
        below = topic.removeprefix(f"{self._settings.prefix}/")
        try:
            question = questions.read(below, payload, self._inputs.of, self._settings.deadline_ms)
            match question:
                case Asked():
                    self._begin(self._infer(question), question.client, payload, question)
                case FeedbackGiven():
                    self._begin(self._feedback(question), question.client, payload, None)
                case RevisionsAsked(client):
                    self._hear(client)
                    self.revised(client)
                case StatusAsked():
                    self._begin(self._status(), questions.CLIENT, payload, None)
        except Unfit as unfit:
            log.warning("local_mqtt.unfit topic=%s code=%s why=%s", topic, unfit.code, unfit)
            self._say(unfit.to, _refused(unfit.id, unfit.code, str(unfit)))
        except Exception:  # one message must not end the connection of all
            log.exception("local_mqtt.fault topic=%s", topic)

    def _begin(
        self,
        answering: Coroutine[None, None, None],
        client: str,
        payload: bytes,
        asked: Asked | None,
    ) -> None:
        size = len(payload)
        if (
            len(self._under_way) >= MOST_AT_ONCE
            or self._of_client[client] >= MOST_OF_ONE
            or self._bytes + size > MOST_BYTES
        ):
            answering.close()
            words = (
                f"{len(self._under_way)} questions are under way, {self._of_client[client]} of them"
                f" by {client}; wait for answers before asking more"
            )
            to, mark = (questions.REFUSED, None) if asked is None else (asked.to, asked.id)
            self._say(to, _refused(mark, Overloaded.code, words))
            return
        task = asyncio.create_task(answering, name=f"local mqtt {client}")
        self._under_way.add(task)
        self._of_client[client] += 1
        self._bytes += size

        def ended(_: asyncio.Task[None]) -> None:
            self._under_way.discard(task)
            self._bytes -= size
            self._of_client[client] -= 1
            if not self._of_client[client]:
                del self._of_client[client]

        task.add_done_callback(ended)

    # -- what is answered

    async def _infer(self, asked: Asked) -> None:
        self._hear(asked.client)
        sample = asked.sample
        try:
            async with self._callers.client(asked.task, asked.client) as client:
                answer = await client.infer(
                    sample.value,
                    deadline_ms=asked.deadline_ms,
                    request_id=None if asked.id is None else str(asked.id),
                    dtype=sample.dtype,
                    shape=sample.shape,
                )
        except LongstopError as error:
            self._say(asked.to, _refused(asked.id, error.code, str(error)))
        except Exception:
            log.exception("local_mqtt.failed id=%s", asked.id)
            words = "the agent failed on this input; see its log"
            self._say(asked.to, _refused(asked.id, "internal", words))
        else:
            self._say(asked.to, _told(asked.id, answer))

    async def _feedback(self, said: FeedbackGiven) -> None:
        try:
            async with self._callers.client(said.task, said.client) as client:
                known = await client.feedback(said.request_id, said.label)
        except LongstopError as error:
            self._say(said.to, _refused(said.request_id, error.code, str(error)))
        else:
            told = {"id": said.request_id, "ok": True, "known": known}
            self._say(said.to, msgspec.json.encode(told))

    async def _status(self) -> None:
        try:
            async with self._callers.client(None, questions.CLIENT) as client:
                self._say("status", msgspec.json.encode(await client.status()))
        except LongstopError as error:
            self._say("status", _refused(None, error.code, str(error)))

    def _say(self, topic: str, payload: bytes) -> None:
        self._peer.publish(f"{self._settings.prefix}/{topic}", payload)

    # -- what comes later

    def _hear(self, client: str) -> None:
        """Its revisions are published from now on."""
        self._names[client] = None
        self._names.move_to_end(client)
        if len(self._names) > MOST_NAMES:
            self._names.popitem(last=False)

    async def _deliver_all(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._due and self._peer.connected:
                client = self._due.pop()
                try:
                    await self._deliver(client)
                except LinkError as error:
                    self._due.add(client)
                    log.info("local_mqtt.revisions_wait why=%s", error)
                    break  # the next connection wakes us
                except Exception as error:  # the outermost loop: say, wait, begin again
                    self._due.add(client)
                    known = isinstance(error, SyncError)
                    log.warning("local_mqtt.revisions_wait why=%s", error, exc_info=not known)
                    await asyncio.sleep(AGAIN_S)

    async def _deliver(self, client: str) -> None:
        while found := await self._device.revisions(client, AT_ONCE):
            taken: list[str] = []
            try:
                for one in found:
                    await self._peer.deliver(
                        f"{self._settings.prefix}/revision/{client}", _revision(one)
                    )
                    taken.append(one.request_id)
            finally:
                if taken:
                    await self._device.take(client, tuple(taken))


def _told(mark: Id | None, answer: Answer) -> bytes:
    said = msgspec.to_builtins(answer)
    return msgspec.json.encode(
        {"id": answer.request_id if mark is None else mark, "ok": True} | said
    )


def _refused(mark: Id | None, code: str, words: str) -> bytes:
    return msgspec.json.encode({"id": mark, "ok": False, "code": code, "message": words})


def _revision(one: v1.Revised) -> bytes:
    return msgspec.json.encode(
        Revision(
            one.request_id,
            one.task,
            one.label,
            one.confidence,
            one.version,
            one.at,
            details_of(one.answer),
        )
    )
