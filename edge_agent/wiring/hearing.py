"""What workers bring, handed to whom it concerns: link, risk, budget, status."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from functools import partial

from edge_agent.cloud import handover
from edge_agent.cloud.budget import Budget
from edge_agent.cloud.line import Line
from edge_agent.cloud.link import CloudLink
from edge_agent.control.unanswered import Unanswered
from edge_agent.risk.run import Risk
from edge_agent.risk.store import Key
from edge_agent.risk.watch import Terms
from edge_agent.workplace import SourceState
from sync.errors import MalformedMessage
from sync.wire import v1

log = logging.getLogger(__name__)


class Hearing:
    """The supervisor's ears, for all its workers. `conditions` is what a new one has to know."""

    def __init__(
        self,
        device: str,
        *,
        link: CloudLink,
        risk: Risk,
        budget: Budget | None,
        conditions: Callable[[], handover.Conditions],
    ) -> None:
        self._device = device
        self._link = link
        self._risk = risk
        self._budget = budget
        self._conditions = conditions
        self._audited_lines: dict[Line, Key] = {}
        self._unanswered: defaultdict[str, Unanswered] = defaultdict(Unanswered)
        self._sources: dict[str, SourceState] = {}

    def unanswered_of(self, task: str) -> int:
        """Requests of this task that had no answer by their deadline, since the start."""
        return self._unanswered[task].count if task in self._unanswered else 0

    def source_of(self, task: str) -> SourceState | None:
        """What the task's source last said of itself."""
        return self._sources.get(task)

    def ready(self, said: handover.Ready, line: Line) -> None:
        line.send(self._conditions())
        if said.certificate is None:
            return
        tell = partial(_tell_terms, line)
        key = self._risk.joined(said.task, said.digest, said.certificate, said.uncertified, tell)
        self._audited_lines[line] = key
        line.gone.add_done_callback(lambda _: self._gone(line, tell))

    def audited(self, said: handover.Audited, line: Line) -> None:
        if (key := self._audited_lines.get(line)) is not None:
            self._risk.audited(key, said.id, said.label, said.score, local=said.local)

    def considered(self, said: handover.Considered) -> None:
        if self._budget is not None:
            self._budget.considered(said.inputs)

    def unanswered(self, task: str, request_ids: tuple[str, ...]) -> None:
        self._unanswered[task].saw(request_ids)

    def escalate(self, said: handover.Escalate, body: bytearray, line: Line) -> None:
        try:
            escalation = handover.escalation_of(said, body, self._device)
        except MalformedMessage as error:
            log.error("worker.bad_question why=%s", error)
            line.send(handover.NoAnswer(said.id, "refused"))
            return
        if said.kind == "audit":
            if (key := self._audited_lines.get(line)) is not None:
                self._risk.ask(key, escalation)
            return
        if said.kind == "later":
            self._link.leave(said.client, escalation)
            return
        outcome = asyncio.ensure_future(self._link.escalate(said.client, escalation))
        outcome.add_done_callback(partial(_tell_outcome, line, said.id))

    def record(self, record: v1.Answered) -> None:
        self._risk.recorded(record.request_id, record.label)
        _ = self._link.record(record)  # when it ends, the link waits until it is durable

    def skipped(self, record: v1.Skipped) -> None:
        _ = self._link.skipped(record)

    def missed(self, count: int) -> None:
        _ = self._link.lose(count, "pipe_full")

    def source_said(self, task: str, state: SourceState) -> None:
        self._sources[task] = state

    def _gone(self, line: Line, tell: Callable[[Terms], None]) -> None:
        if (key := self._audited_lines.pop(line, None)) is not None:
            self._risk.left(key, tell)


def said_terms(terms: Terms) -> handover.Terms:
    """Terms as a worker is told them."""
    return handover.Terms(
        threshold=terms.threshold,
        certificate=terms.certificate,
        mode=terms.mode,
        why=terms.why,
        certified_risk=terms.certified_risk,
        curve=terms.curve,
    )


def _tell_terms(line: Line, terms: Terms) -> None:
    line.send(said_terms(terms))


def _tell_outcome(
    line: Line, request_id: str, outcome: asyncio.Future[v1.Escalated | v1.Refused]
) -> None:
    if outcome.cancelled():
        return
    match outcome.result():
        case v1.Escalated(label=label, confidence=confidence, version=version, answer=answer):
            line.send(handover.Answer(request_id, label, confidence, version, answer))
        case v1.Refused(code):
            line.send(handover.NoAnswer(request_id, code))
