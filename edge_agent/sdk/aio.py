"""The asyncio client: the same calls, and the same promises, as `client.Client`.

Requests in progress have a connection each, up to a bound; one more waits for a free connection,
within its own deadline. A client belongs to the event loop it is first used in.
"""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from types import TracebackType
from typing import Self

from edge_agent.sdk import agent
from edge_agent.sdk.answer import Answer, Revision, Status
from edge_agent.sdk.call import Call, NotOurs, checked_deadline_ms, now
from edge_agent.sdk.channel import Channel
from edge_agent.sdk.connection import Broken, NotListening
from edge_agent.sdk.errors import AgentUnavailable, ClientClosed, LongstopError, Overloaded
from edge_agent.sdk.many import ENDS_ALL, Window
from edge_agent.sdk.places import START, agent_socket, checked_name, run_folder, task_socket
from edge_agent.sdk.tensor import Input, tensor_of
from edge_agent.sdk.wire import FrameTooLarge

MOST_CONNECTIONS = 64
MOST_WAITING = 1024
"""Requests beyond those under way; one more would only be late, and is refused at once."""


class AsyncClient:
    """Asks one task on this device. Arguments are those of `Client`.

    Without a task the agent is asked at the first use, not here.
    """

    def __init__(
        self,
        task: str | None = None,
        *,
        name: str = "default",
        run: str | os.PathLike[str] | None = None,
        connections: int = MOST_CONNECTIONS,
    ) -> None:
        self._folder = run_folder(run)
        self._agent_path = agent_socket(self._folder)
        self._name = checked_name("name", name)
        self._missed: deque[str] = deque(maxlen=64)
        self.task = task
        self._path = "" if task is None else task_socket(self._folder, task)
        self._room = asyncio.Semaphore(connections)
        self._idle: list[Channel] = []
        self._age = 0
        self._waiting = 0
        self._closed = False
        self._reached = False

    async def infer(
        self,
        input: Input,  # noqa: A002 - the word the caller thinks in
        *,
        deadline_ms: float = 300,
        request_id: str | None = None,
        dtype: str | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Answer:
        """Answer one input within the deadline; see `Client.infer`."""
        tensor = tensor_of(input, dtype=dtype, shape=shape)
        call = Call(self.task or "", self._name, tensor, deadline_ms, request_id)
        call.missed = self._missed
        if self._waiting >= MOST_WAITING:
            raise Overloaded(
                f"{self._waiting} requests of this client wait for one of its connections;"
                " ask less often, or wait for answers before asking more"
            )
        try:
            if self.task is None or self._room.locked():
                self._waiting += 1
                try:
                    async with asyncio.timeout(call.remaining_s()):
                        call.task = await self._chosen_task()
                        await self._room.acquire()
                finally:
                    self._waiting -= 1
            else:
                await self._room.acquire()  # at once
            try:
                answer = await self._persist(call)
            finally:
                self._room.release()
        except TimeoutError:
            raise call.exceeded() from call.trouble
        if isinstance(answer, Answer):
            return answer
        raise answer

    async def infer_many(
        self,
        inputs: Iterable[Input],
        *,
        deadline_ms: float = 300,
        dtype: str | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> AsyncIterator[Answer | LongstopError]:
        """Answers in the order of the inputs; see `Client.infer_many`."""

        async def one(given: Input) -> Answer | LongstopError:
            try:
                return await self.infer(given, deadline_ms=deadline_ms, dtype=dtype, shape=shape)
            except ENDS_ALL:
                raise
            except LongstopError as error:
                return error

        window, source = Window(checked_deadline_ms(deadline_ms)), iter(inputs)
        while some := list(islice(source, window.size)):
            begun = now()
            answers = await asyncio.gather(*map(one, some))
            window.took(now() - begun)
            for answer in answers:
                yield answer

    async def revisions(self, *, wait_s: float = 0.0) -> AsyncIterator[Revision]:
        """The cloud's later answers, oldest first; see `Client.revisions`."""
        taken: list[str] = []
        until = now() + agent.checked_wait_s(wait_s)
        try:
            while True:
                waiting = await self._ask_revisions(taken, agent.poll_s(until - now()))
                taken = []
                for revision in waiting:
                    yield revision
                    taken.append(revision.request_id)
                    until = now() + wait_s
                if not waiting and now() >= until:
                    return
        finally:
            if taken:
                await self._ask_revisions(taken, 0.0)

    async def feedback(self, request_id: str, label: str) -> bool:
        """Say what the right answer to an earlier request was; see `Client.feedback`."""
        task = await self._chosen_task()
        told = agent.tell_feedback(self._name, task, request_id, label)
        return agent.read_feedback(await self._ask_agent(told))

    async def status(self) -> Status:
        """The device as its supervisor sees it."""
        return agent.read_status(await self._ask_agent(agent.STATUS))

    async def tasks(self) -> tuple[str, ...]:
        """The tasks the device serves."""
        return agent.read_tasks(await self._ask_agent(agent.TASKS))

    async def close(self) -> None:
        """Close every connection that is free; a request in progress still ends."""
        self._closed = True
        idle, self._idle = self._idle, []
        for channel in idle:
            channel.close()

    async def __aenter__(self) -> Self:
        await self._chosen_task()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _chosen_task(self) -> str:
        if self.task is None:
            self.task = agent.only_task(await self.tasks())
            self._path = task_socket(self._folder, self.task)
        return self.task

    async def _persist(self, call: Call) -> Answer | LongstopError:
        """Send until there is a reply. Raises `TimeoutError` at the deadline."""
        while True:
            try:
                return await self._attempt(call)
            except NotListening as error:
                if not self._reached:
                    raise await self._explain(error, call.task) from error
                pause = call.went_wrong(error)
            except Broken as error:
                pause = call.went_wrong(error)
            await asyncio.sleep(pause)

    async def _attempt(self, call: Call) -> Answer | LongstopError:
        if self._closed:
            raise ClientClosed("this client is closed; make a new one")
        if call.remaining_s() <= 0:
            raise TimeoutError
        channel = self._idle.pop() if self._idle else None
        if channel is None:
            channel = await Channel.open(self._path, age=self._age)
        try:
            frame = await channel.exchange((call.head(), call.data), call.until)
            outcome = call.finish(frame.meta)
        except NotOurs as error:
            channel.close()
            raise Broken("the reply belongs to another request") from error
        except BaseException:
            # Cancelled, too: the reply would come to whoever uses the connection next.
            channel.close()
            raise
        self._reached = True
        self._give_back(channel, go_away=outcome.go_away)
        return outcome.answer

    def _give_back(self, channel: Channel, *, go_away: bool) -> None:
        old: list[Channel] = []
        if go_away and channel.age == self._age:
            self._age += 1
            old, self._idle = self._idle, []
        if channel.age < self._age or self._closed:
            old.append(channel)
        else:
            self._idle.append(channel)
        for leaving in old:
            leaving.close()

    async def _explain(self, error: NotListening, task: str) -> LongstopError:
        try:
            tasks = await self.tasks()
        except AgentUnavailable as unavailable:
            return unavailable
        return error.as_error() if task in tasks else agent.unknown_task(task, tasks)

    async def _ask_revisions(self, taken: list[str], wait_s: float) -> list[Revision]:
        question = agent.ask_revisions(self._name, taken, wait_s)
        return agent.read_revisions(await self._ask_agent(question, wait_s))

    async def _ask_agent(self, question: bytes, wait_s: float = 0.0) -> bytes:
        channel = None
        try:
            channel = await Channel.open(self._agent_path)
            return (await channel.exchange((question,), now() + wait_s + agent.ASK_S)).meta
        except NotListening as error:
            raise error.as_error() from error
        except (Broken, TimeoutError, FrameTooLarge) as error:
            raise AgentUnavailable(
                f"the agent at {self._agent_path} gave no answer; {START}"
            ) from error
        finally:
            if channel is not None:
                channel.close()
