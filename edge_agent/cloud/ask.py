"""Asks the cloud by handing the question to the supervisor and waiting for what it says.

1. A question asked twice under one id, because its caller asked again, is handed over once.
2. Nothing is waited for longer than anybody listens; the supervisor keeps what it was handed.
3. When the supervisor does not read, questions are declined rather than piled up here.
"""

import asyncio

from edge_agent.cloud import handover
from edge_agent.cloud.line import Line
from sync.wire import v1

MOST_UNSENT = 32 << 20


class SupervisorAsk:
    """The worker's way to the cloud."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._open: dict[str, asyncio.Future[v1.Escalated | v1.Refused]] = {}
        self._listeners: dict[str, int] = {}

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
            (tensor,) = escalation.inputs
            self._line.send(
                handover.Escalate(
                    id=key,
                    client=client,
                    task=escalation.task,
                    version=escalation.version,
                    timeout_ms=escalation.timeout_ms,
                    inputs=(handover.TensorHead(tensor.name, tensor.datatype, tensor.shape),),
                ),
                tensor.data,
            )
        self._listeners[key] += 1
        try:
            return await asyncio.shield(waiting)
        finally:
            self._listeners[key] -= 1
            if self._listeners[key] == 0:
                del self._open[key], self._listeners[key]

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


def _refused(code: str, message: str) -> v1.Refused:
    return v1.Refused(code, message, permanent=False)
