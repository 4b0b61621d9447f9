"""The requests the supervisor knows, each moved along by `settlement`; performs what it decides."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from edge_agent.cloud import settlement
from edge_agent.cloud.books import Books
from edge_agent.cloud.settlement import Case, Phase
from sync.clock import Clock
from sync.outbox.questions import StoredEscalation
from sync.wire import v1

REMEMBERED = 4096
"""Request ids kept after their end: the resends of half a minute at a hundred requests a second."""
_AT_REST = (Phase.STANDING, Phase.CLOSED, Phase.MADE_GOOD)


class _Open:
    """A request that is not at rest: its case, and what its effects need."""

    __slots__ = ("case", "client", "listeners", "question", "record")

    def __init__(self, case: Case) -> None:
        self.case = case
        self.client = ""
        self.question: v1.Escalation | None = None
        self.record: v1.Answered | None = None
        self.listeners: list[asyncio.Future[v1.Escalated | v1.Refused]] = []


class Questions:
    """All requests of a device. `ask` begins an exchange, whose outcome comes back by `heard`."""

    def __init__(
        self,
        books: Books,
        clock: Clock,
        *,
        ask: Callable[[v1.Escalation, bool], None],
        on_standing: Callable[[], None],
        on_revision: Callable[[str], None],
    ) -> None:
        self._books = books
        self._clock = clock
        self._ask = ask
        self._on_standing = on_standing
        self._on_revision = on_revision
        self._open: dict[str, _Open] = {}
        self._at_rest: OrderedDict[str, Case] = OrderedDict()

    def asked(
        self, client: str, question: v1.Escalation, obstacle: str
    ) -> asyncio.Future[v1.Escalated | v1.Refused]:
        """A worker asks. The future may be cancelled; the question goes on its way."""
        request = self._request(question.request_id)
        request.client, request.question = client, question
        listener: asyncio.Future[v1.Escalated | v1.Refused]
        listener = asyncio.get_running_loop().create_future()
        request.listeners.append(listener)
        self._tell(question.request_id, settlement.Asked(obstacle))
        return listener

    def recorded(self, record: v1.Answered) -> list[Awaitable[bool]]:
        """A worker has answered. Gives back the writing this began."""
        request = self._request(record.request_id)
        request.client, request.record = record.client, record
        return self._tell(record.request_id, settlement.Recorded(not record.final))

    def found(self, stored: StoredEscalation) -> bool:
        """The outbox holds this question. Whether it is asked now for that reason."""
        request = self._request(stored.request_id)
        request.client = stored.client
        before = request.case.phase
        request.question = request.question or stored.escalation
        self._tell(stored.request_id, settlement.FoundStanding())
        return request.case.phase is Phase.OWED and before not in (Phase.OWED, Phase.ASKED)

    def heard(self, request_id: str, event: settlement.Event) -> list[Awaitable[bool]]:
        """An exchange ended. Gives back the writing this began."""
        return self._tell(request_id, event)

    def close(self) -> None:
        """Write down what was still waiting for its question."""
        for request_id, request in list(self._open.items()):
            if request.case.phase is Phase.PARTED:
                self._tell(request_id, settlement.Woke(), now=request.case.until)

    def _request(self, request_id: str) -> _Open:
        request = self._open.get(request_id)
        if request is None:
            request = _Open(self._at_rest.pop(request_id, Case()))
            self._open[request_id] = request
        return request

    def _tell(
        self, request_id: str, event: settlement.Event, now: float | None = None
    ) -> list[Awaitable[bool]]:
        request = self._request(request_id)
        before = request.case.phase
        step = settlement.step(request.case, event, self._clock.monotonic() if now is None else now)
        request.case = step.state
        writing: list[Awaitable[bool]] = []
        for effect in step.effects:
            self._perform(request_id, request, effect, writing)
        after = request.case.phase
        if after in _AT_REST or after is Phase.NEW:
            self._rest(request_id, request.case)
        if after is Phase.STANDING and before is not after:
            self._stands(writing)
        return writing

    def _stands(self, writing: list[Awaitable[bool]]) -> None:
        """Say so once it can be found in the outbox."""
        written = asyncio.gather(*writing)
        written.add_done_callback(lambda _: self._on_standing())

    def _rest(self, request_id: str, case: Case) -> None:
        del self._open[request_id]
        if case.phase is not Phase.NEW:
            self._at_rest[request_id] = case
            if len(self._at_rest) > REMEMBERED:
                self._at_rest.popitem(last=False)

    def _perform(
        self,
        request_id: str,
        request: _Open,
        effect: settlement.Effect,
        writing: list[Awaitable[bool]],
    ) -> None:
        match effect, request:
            case settlement.SendLive(), _Open(question=v1.Escalation() as question):
                self._ask(question, True)
            case settlement.SendFromBacklog(), _Open(question=v1.Escalation() as question):
                self._ask(question, False)
            case settlement.AnswerWorker(answer), _:
                _resolve(request, answer)
            case settlement.TellWorkerNo(reason), _:
                _resolve(request, v1.Refused(reason, "no live answer", permanent=False))
            case settlement.NumberRecord(), _Open(record=v1.Answered() as record):
                writing.append(self._books.number(record))
            case (
                settlement.NumberAndOwe(),
                _Open(record=v1.Answered() as record, question=v1.Escalation() as question),
            ):
                standing = replace(question, timeout_ms=0)
                writing.append(self._books.number_and_owe(record, standing))
            case settlement.Owe(), _Open(question=v1.Escalation() as question):
                standing = replace(question, timeout_ms=0)
                writing.append(self._books.owe(request.client, standing))
            case settlement.IssueRevision(answer, settles), _:
                writing.append(self._revise(request.client, answer, settles=settles))
            case settlement.Abandon(reason, settles), _:
                writing.append(self._books.abandon(request_id, reason, settles=settles))
            case settlement.WakeAt(at), _:
                pause = max(0.0, at - self._clock.monotonic())
                asyncio.get_running_loop().call_later(pause, self._woke, request_id)
            case settlement.Forget(), _:
                pass  # a new case rests nowhere
            case _:
                # No row of the table asks for what its events have not brought.
                raise AssertionError(f"{effect} for request {request_id} without what it needs")

    def _revise(self, client: str, answer: v1.Escalated, *, settles: bool) -> Awaitable[bool]:
        writing = asyncio.ensure_future(self._books.revise(client, answer, settles=settles))
        writing.add_done_callback(lambda _: self._on_revision(client))
        return writing

    def _woke(self, request_id: str) -> None:
        if request_id in self._open:
            self._tell(request_id, settlement.Woke())


def _resolve(request: _Open, outcome: v1.Escalated | v1.Refused) -> None:
    listeners, request.listeners = request.listeners, []
    for listener in listeners:
        if not listener.done():
            listener.set_result(outcome)
