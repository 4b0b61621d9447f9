"""The blocking client.

1. Safe to share between threads: every request in progress has a connection of its own, and a
   connection that is free is used again.
2. A broken connection is replaced and the request sent again under the same id, until its
   deadline.
3. A worker that is leaving says so in its answers; no connection made before is used again.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice, takewhile
from types import TracebackType
from typing import Self

from edge_agent.sdk import agent, wire
from edge_agent.sdk.answer import Answer, Revision, Status
from edge_agent.sdk.call import Call, NotOurs, checked_deadline_ms, now
from edge_agent.sdk.connection import LENT_ABOVE, Broken, Connection, NotListening
from edge_agent.sdk.errors import AgentUnavailable, ClientClosed, InvalidInput, LongstopError
from edge_agent.sdk.many import Window
from edge_agent.sdk.places import START, agent_socket, checked_name, run_folder, task_socket
from edge_agent.sdk.tensor import Input, tensor_of

MOST_IDLE = 64


class Client:
    """Asks one task on this device.

    Args:
        task: Which one. Without it the agent is asked, and must be serving exactly one.
        name: Who is asking. Revisions are kept per name, so two programs use two names.
        run: The agent's run folder, where it is not found by itself (see `places`).
    """

    def __init__(
        self,
        task: str | None = None,
        *,
        name: str = "default",
        run: str | os.PathLike[str] | None = None,
    ) -> None:
        self._folder = run_folder(run)
        self._agent_path = agent_socket(self._folder)
        self._name = checked_name("name", name)
        self._missed: deque[str] = deque(maxlen=64)
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._age = 0
        """Grows when a worker says it leaves: older connections lead to it."""
        self._closed = False
        self._reached = False
        self.task = agent.only_task(self.tasks()) if task is None else task
        self._path = task_socket(self._folder, self.task)

    def infer(
        self,
        input: Input,  # noqa: A002 - the word the caller thinks in
        *,
        deadline_ms: float = 300,
        request_id: str | None = None,
        dtype: str | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Answer:
        """Answer one input within the deadline.

        Args:
            input: A numpy array or anything else that lends a typed buffer; or bytes.
            deadline_ms: From now until the answer must be here.
            request_id: Ask again under the id of an earlier call, and the device counts it once.
            dtype: For bytes only, as in "float32".
            shape: For bytes only, without a batch axis.

        Raises:
            DeadlineExceeded: Nothing came in time.
            Overloaded: The device refused at once rather than be late.
            InvalidInput: This input cannot be answered.
            AgentUnavailable, UnknownTask: There is nobody to ask.
        """
        call = Call(
            self.task,
            self._name,
            tensor_of(input, dtype=dtype, shape=shape),
            deadline_ms,
            request_id,
        )
        call.missed = self._missed
        answer = self._persist(call)
        if isinstance(answer, Answer):
            return answer
        raise answer

    def infer_many(
        self,
        inputs: Iterable[Input],
        *,
        deadline_ms: float = 300,
        dtype: str | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Iterator[Answer | LongstopError]:
        """Answers in the order of the inputs, which are read as they are needed.

        Several are under way at once on one connection. What is wrong with one input, or that it
        came too late, stands in its place as a value. `deadline_ms` counts from an input's sending.

        Raises:
            AgentUnavailable, UnknownTask: There is nobody to ask.
        """
        window, source = Window(checked_deadline_ms(deadline_ms)), iter(inputs)
        while some := list(islice(source, window.size)):
            begun = now()
            calls = [self._call(one, deadline_ms, dtype, shape) for one in some]
            answers = self._answers([call for call in calls if isinstance(call, Call)])
            window.took(now() - begun)
            for call in calls:
                yield answers[call.id] if isinstance(call, Call) else call

    def revisions(self, *, wait_s: float = 0.0) -> Iterator[Revision]:
        """The cloud's later answers, oldest first; ends when none came within `wait_s`.

        Asking for the next one says that the one before has been dealt with. One in hand when the
        loop is left early comes again.
        """
        taken: list[str] = []
        until = now() + agent.checked_wait_s(wait_s)
        try:
            while True:
                waiting = self._ask_revisions(taken, agent.poll_s(until - now()))
                taken = []
                for revision in waiting:
                    yield revision
                    taken.append(revision.request_id)
                    until = now() + wait_s
                if not waiting and now() >= until:
                    return
        finally:
            if taken:
                self._ask_revisions(taken, 0.0)

    def feedback(self, request_id: str, label: str) -> bool:
        """Say what the right answer to an earlier request was; kept for the gateway.

        The first word on a request id counts, and says so by True. The device need not remember the
        request. Raises `BadArgument`, `AgentUnavailable`; a `LongstopError` where there is no room.
        """
        told = agent.tell_feedback(self._name, self.task, request_id, label)
        return agent.read_feedback(self._ask_agent(told))

    def status(self) -> Status:
        """The device as its supervisor sees it."""
        return agent.read_status(self._ask_agent(agent.STATUS))

    def tasks(self) -> tuple[str, ...]:
        """The tasks the device serves."""
        return agent.read_tasks(self._ask_agent(agent.TASKS))

    def close(self) -> None:
        """Close every connection; a request in progress in another thread still ends."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _persist(self, call: Call) -> Answer | LongstopError:
        """Ask until there is a reply or the deadline. Raises what says that nobody can be asked."""
        while True:
            try:
                return self._attempt(call)
            except TimeoutError:
                raise call.exceeded() from call.trouble
            except NotListening as error:
                if not self._reached:
                    raise self._explain(error, call) from error
                pause = call.went_wrong(error)
            except Broken as error:
                pause = call.went_wrong(error)
            time.sleep(pause)

    def _attempt(self, call: Call) -> Answer | LongstopError:
        """Send once and wait. Raises `Broken`, `NotListening`, `TimeoutError`."""
        connection = self._take(call)
        try:
            connection.ask(call)
            outcome = call.finish(connection.receive(call.until).meta)
        except NotOurs as error:
            connection.close()
            raise Broken("the reply belongs to another request") from error
        except (Broken, TimeoutError, LongstopError):
            connection.close()
            raise
        self._reached = True
        self._give_back(connection, go_away=outcome.go_away)
        return outcome.answer

    def _call(
        self, given: Input, deadline_ms: float, dtype: str | None, shape: tuple[int, ...] | None
    ) -> Call | InvalidInput:
        try:
            tensor = tensor_of(given, dtype=dtype, shape=shape)
        except InvalidInput as error:
            return error
        call = Call(self.task, self._name, tensor, deadline_ms, None)
        call.missed = self._missed
        return call

    def _answers(self, calls: list[Call]) -> dict[str, Answer | LongstopError]:
        """The answer of each, by its id. Raises what says that nobody can be asked."""
        said: dict[str, Answer | LongstopError] = {}
        waiting = deque(calls)
        while waiting:
            call = waiting[0]
            try:
                self._pipeline(waiting, said)
                continue
            except TimeoutError:
                call = waiting.popleft()
                said[call.id] = call.exceeded()
                continue
            except NotListening as error:
                if not self._reached:
                    raise self._explain(error, call) from error
                pause = call.went_wrong(error)
            except Broken as error:
                pause = call.went_wrong(error)
            time.sleep(pause)
        return said

    def _pipeline(self, waiting: deque[Call], said: dict[str, Answer | LongstopError]) -> None:
        """Send all, then take the answers; those that came are no longer waiting.

        Raises `Broken`, `NotListening`, `TimeoutError`.
        """
        connection, go_away = self._take(waiting[0]), False
        try:
            # There is one place for a large input, so it goes alone.
            small = list(takewhile(lambda call: len(call.data) <= LENT_ABOVE, waiting))
            sent = small or [waiting[0]]
            for call in sent:
                connection.ask(call)
            for call in sent:
                outcome = call.finish(connection.receive(call.until).meta)
                said[waiting.popleft().id] = outcome.answer
                go_away = go_away or outcome.go_away
        except NotOurs as error:
            connection.close()
            raise Broken("the reply belongs to another request") from error
        except (Broken, TimeoutError, LongstopError):
            connection.close()
            raise
        self._reached = True
        self._give_back(connection, go_away=go_away)

    def _take(self, call: Call) -> Connection:
        if call.remaining_s() <= 0:
            raise TimeoutError
        with self._lock:
            if self._closed:
                raise ClientClosed("this client is closed; make a new one")
            if self._idle:
                return self._idle.pop()
            age = self._age
        return Connection(self._path, age=age)

    def _give_back(self, connection: Connection, *, go_away: bool) -> None:
        old: list[Connection] = []
        with self._lock:
            if go_away and connection.age == self._age:
                self._age += 1
                old, self._idle = self._idle, []
            if connection.age < self._age or self._closed or len(self._idle) >= MOST_IDLE:
                old.append(connection)
            else:
                self._idle.append(connection)
        for leaving in old:
            leaving.close()

    def _explain(self, error: NotListening, call: Call) -> LongstopError:
        """Why nobody listens for this task: no agent, or an agent without it."""
        allowed_s = min(max(0.0, call.remaining_s()), agent.ASK_S)
        try:
            tasks = agent.read_tasks(self._ask_agent(agent.TASKS, allowed_s))
        except AgentUnavailable as unavailable:
            return unavailable
        return error.as_error() if self.task in tasks else agent.unknown_task(self.task, tasks)

    def _ask_revisions(self, taken: list[str], wait_s: float) -> list[Revision]:
        question = agent.ask_revisions(self._name, taken, wait_s)
        return agent.read_revisions(self._ask_agent(question, wait_s + agent.ASK_S))

    def _ask_agent(self, question: bytes, allowed_s: float = agent.ASK_S) -> bytes:
        try:
            connection = Connection(self._agent_path)
        except NotListening as error:
            raise error.as_error() from error
        except Broken as error:
            raise _silent(self._agent_path) from error
        try:
            return connection.exchange((question,), now() + allowed_s).meta
        except (Broken, TimeoutError, wire.FrameTooLarge) as error:
            raise _silent(self._agent_path) from error
        finally:
            connection.close()


def _silent(path: str) -> AgentUnavailable:
    return AgentUnavailable(f"the agent at {path} gave no answer; {START}")
