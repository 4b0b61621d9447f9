"""Asks the cloud by handing the question to the supervisor and waiting for what it says.

1. A question asked twice under one id, because its caller asked again, is handed over once.
2. Nothing is waited for longer than anybody listens; the supervisor keeps what it was handed.
3. When the supervisor does not read, questions are declined rather than piled up here.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Literal

from edge_agent.cloud import handover
from edge_agent.cloud.line import Line
from edge_agent.cloud.price import Weighed
from sync.wire import v1

MOST_UNSENT = 32 << 20
WEIGH_S = 0.1
MOST_WEIGHED = 800
"""In one message: the price is made from no more."""

log = logging.getLogger(__name__)


class SupervisorAsk:
    """The worker's way to the cloud."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._open: dict[str, asyncio.Future[v1.Escalated | v1.Refused]] = {}
        self._listeners: dict[str, int] = {}
        self._weighed: list[Weighed] = []
        self._unanswered: list[str] = []

    async def ask(
        self, escalation: v1.Escalation, client: str, until: float
    ) -> v1.Escalated | v1.Refused:
        """The cloud's answer, or why there is none. Whoever asks also keeps the time."""
        key = escalation.request_id
        waiting = self._open.get(key)
        if waiting is None:
            if self._line.unsent_bytes > MOST_UNSENT:
                return _refused("overloaded", "the supervisor does not keep up with questions")
            waiting = self._open[key] = asyncio.get_running_loop().create_future()
            self._listeners[key] = 0
            self._hand_over(escalation, client)
        self._listeners[key] += 1
        try:
            return await asyncio.shield(waiting)
        finally:
            self._listeners[key] -= 1
            if self._listeners[key] == 0:
                del self._open[key], self._listeners[key]

    def leave(
        self, question: v1.Escalation, client: str, *, kind: Literal["later", "audit"], value: float
    ) -> None:
        """Hand over a question nobody waits for.

        One that finds no room is gone: the supervisor misses it by its record, and says so.
        """
        if self._line.unsent_bytes > MOST_UNSENT:
            log.warning("question.not_handed_over request=%s kind=%s", question.request_id, kind)
            return
        self._hand_over(question, client, kind=kind, value=value)

    def weigh(self, worth: float, cost: int) -> None:
        """A hard input for the price; told in batches, as nobody waits for it."""
        self._weighed.append(Weighed(worth, cost))
        if len(self._weighed) == 1:
            asyncio.get_running_loop().call_later(WEIGH_S, self._tell_weighed)

    def unanswered(self, request_id: str) -> None:
        """The model had produced nothing for this one in time."""
        self._unanswered.append(request_id)
        if len(self._unanswered) == 1:
            asyncio.get_running_loop().call_later(WEIGH_S, self.tell)

    def tell(self) -> None:
        """Say now which ones those were."""
        ids, self._unanswered = self._unanswered, []
        if ids:
            self._line.send(handover.Unanswered(tuple(ids)))

    def _tell_weighed(self) -> None:
        weighed, self._weighed = self._weighed, []
        for at in range(0, len(weighed), MOST_WEIGHED):
            self._line.send(handover.Considered(tuple(weighed[at : at + MOST_WEIGHED])))

    def _hand_over(
        self,
        question: v1.Escalation,
        client: str,
        *,
        kind: handover.Kind = "live",
        value: float = 0.0,
    ) -> None:
        (tensor,) = question.inputs
        said = handover.Escalate(
            id=question.request_id,
            client=client,
            task=question.task,
            version=question.version,
            timeout_ms=question.timeout_ms,
            inputs=(handover.TensorHead(tensor.name, tensor.datatype, tensor.shape),),
            kind=kind,
            value=value,
        )
        self._line.send(said, tensor.data)

    def heard(self, said: handover.Answer | handover.NoAnswer, task: str) -> None:
        """The supervisor spoke; too late is no harm."""
        waiting = self._open.get(said.id)
        if waiting is None or waiting.done():
            return
        match said:
            case handover.Answer(id_, label, confidence, version, answer):
                waiting.set_result(v1.Escalated(id_, task, label, confidence, version, 0, answer))
            case handover.NoAnswer(_, reason):
                waiting.set_result(_refused(reason, "said by the supervisor"))


class SupervisorAudits:
    """Which requests are audited, and the word to the supervisor about each."""

    def __init__(self, line: Line, chosen: Callable[[str], bool]) -> None:
        self._line = line
        self.chosen = chosen

    def audited(self, request_id: str, label: str, score: float | None, *, local: bool) -> None:
        """Said in the order of the decisions, before any question about the request."""
        self._line.send(handover.Audited(request_id, label, score, local))


def _refused(code: str, message: str) -> v1.Refused:
    return v1.Refused(code, message, permanent=False)
