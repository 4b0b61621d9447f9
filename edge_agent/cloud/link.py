"""The device's way to its cloud: live questions, backlog, records, heartbeats.

One `CloudLink` serves all workers of a device, and the simulator uses it as it is. It owns no
thread and no socket: transport, outbox, clock and chance are handed in. What a request is owed is
decided in `settlement`, when to speak in `circuit`.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine

from msgspec import Struct

from edge_agent.cloud import circuit, settlement
from edge_agent.cloud.books import Books
from edge_agent.cloud.budget import Budget
from edge_agent.cloud.circuit import Circuit, Pace
from edge_agent.cloud.overheard import Overheard
from edge_agent.cloud.questions import Questions
from edge_agent.cloud.round_trips import RoundTrips
from sync.clock import Clock
from sync.errors import (
    LinkError,
    LinkUnauthorised,
    MessageTooLarge,
    OutboxError,
    SyncError,
    WireError,
)
from sync.outbox.run import Outbox
from sync.outbox.store import Ledger
from sync.transport.base import Transport
from sync.wire import v1

log = logging.getLogger(__name__)

NOT_PAID = settlement.ExchangeFailed("budget")
"""Nothing was sent: this hour's budget does not allow it."""
BUSY_S = 1.0
"""Least pause of the backlog after a refusal or a full disk."""


class LinkSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How the device speaks to its gateway."""

    pace: Pace = Pace()
    reply_timeout_s: float = 3.0
    """A link that has been silent for this long is down, unless the caller's deadline is later."""


class DeviceReport(Struct, frozen=True):
    """What a heartbeat says beyond the ledger."""

    tasks: tuple[v1.TaskState, ...] = ()
    refusals: tuple[v1.Refusal, ...] = ()


class LinkStatus(Struct, frozen=True):
    """The link as a person wants to see it. None: not known."""

    transport: str
    up: bool
    last_contact: float | None
    turned_away: str | None
    """Why the gateway does not want this device, in its own words."""
    ledger: Ledger


class CloudLink:
    """Made and used in one event loop; `start` it, `close` it before its outbox.

    Args:
        report: What the next heartbeat should say.
        on_desired: Called with what each heartbeat's reply wants the device to run.
        on_revision: Called with a client's name once a revision waits for it.
        on_answer: Called with every answer of the cloud, whoever asked.
        on_refusal: Called with the id of a request the cloud will never answer.
        on_change: Called when the link goes up or down, and when a question came back.
        budget: What questions may cost; None where nothing is limited.
    """

    def __init__(
        self,
        *,
        device: str,
        agent_version: str,
        transport: Transport,
        outbox: Outbox,
        clock: Clock,
        chance: random.Random,
        settings: LinkSettings,
        report: Callable[[], DeviceReport],
        on_desired: Callable[[tuple[v1.Desired, ...]], None],
        on_revision: Callable[[str], None],
        on_answer: Callable[[v1.Escalated], None] = lambda _: None,
        on_refusal: Callable[[str], None] = lambda _: None,
        on_change: Callable[[], None] = lambda: None,
        budget: Budget | None = None,
    ) -> None:
        self._device = device
        self._agent_version = agent_version
        self.sent_bytes = 0
        """What went out so far, without what the transport puts around it."""
        self._transport = Overheard(
            transport,
            on_reply=self._replied,
            on_silence=self._unheard,
            on_failure=self._failed,
            now=clock.monotonic,
            on_send=self._sent,
        )
        self._outbox = outbox
        self._clock = clock
        self._chance = chance
        self._settings = settings
        self._report = report
        self._on_desired = on_desired
        self._on_answer = on_answer
        self._on_refusal = on_refusal
        self._on_change = on_change
        self._budget = budget
        self._circuit = Circuit(pace=settings.pace)
        self._books = Books(outbox, clock)
        self._questions = Questions(
            self._books,
            clock,
            ask=self._ask,
            on_standing=lambda: self._pace(circuit.QuestionStored()),
            on_revision=on_revision,
        )
        self._round_trips = RoundTrips()
        self._talks: set[asyncio.Task[None]] = set()
        self._wake: asyncio.TimerHandle | None = None
        self._stop = asyncio.Event()
        self._delivery: asyncio.Task[None] | None = None
        self._last_contact: float | None = None
        self._turned_away: str | None = None

    async def start(self) -> None:
        """Begin to connect, deliver, drain and beat; returns at once."""
        await self._transport.open(lambda _: self.news())
        self._deliver()
        self._pace(circuit.Woke())

    async def close(self) -> None:
        """End every exchange, then write what is still to be written."""
        self._stop.set()
        if self._wake is not None:
            self._wake.cancel()
        for talk in self._talks:
            talk.cancel()
        ending = [*self._talks, *([self._delivery] if self._delivery else [])]
        await asyncio.gather(*ending, return_exceptions=True)
        await self._transport.close()
        self._questions.close()
        await self._books.close()

    # -- what workers bring

    def escalate(
        self, client: str, escalation: v1.Escalation
    ) -> Awaitable[v1.Escalated | v1.Refused]:
        """The cloud's answer, or why none comes in time: link_down, refused, overloaded, budget.

        Handed over when this returns. A caller that stops waiting changes nothing.
        """
        obstacle = circuit.obstacle(
            self._circuit, self._clock.monotonic(), connected=self._transport.connected
        )
        return self._questions.asked(client, escalation, obstacle)

    def leave(self, client: str, question: v1.Escalation) -> None:
        """A question nobody waits for. It is sent from the backlog, once its record is there."""
        if self._budget is not None:
            self._budget.promise(question)
        self._questions.asked(client, question, "later").cancel()

    def record(self, record: v1.Answered) -> Awaitable[object]:
        """Take note of an answered request; the result is there once all of it is durable."""
        return asyncio.gather(*self._questions.recorded(record))

    def skipped(self, record: v1.Skipped) -> Awaitable[object]:
        """Take note of inputs a source left out; the result is there once it is durable."""
        return self._books.number(record)

    def noted(self, record: v1.Feedback | v1.Alarm | v1.Health) -> Awaitable[bool]:
        """Take note of what is owed nothing; whether it is durable."""
        return self._books.number(record)

    def lose(self, count: int, reason: str) -> Awaitable[object]:
        """Records that a worker had to drop."""
        return self._books.lose(count, reason)

    def quiet(self) -> bool:
        """Whether the link is up and has nothing else to do."""
        return self._transport.connected and circuit.quiet(self._circuit)

    async def audit(self, question: v1.Escalation) -> v1.Escalated | v1.Refused:
        """Ask where nobody waits and nothing is owed; without an answer, ask again later."""
        event, busy_s = await self._exchange(question)
        if event == NOT_PAID and self._budget is not None:
            busy_s = self._budget.pause_s()
        match event:
            case settlement.AnswerCame(answer):
                return answer
            case settlement.RefusedForGood(code):
                return v1.Refused(code, "the cloud will not answer this", permanent=True)
            case settlement.ExchangeFailed("budget") if self._budget is not None:
                pause_s = self._budget.pause_s()
                return v1.Refused("budget", "not now", permanent=False, retry_after_s=pause_s)
            case _:
                return v1.Refused("overloaded", "no answer", permanent=False, retry_after_s=busy_s)

    def news(self) -> None:
        """Something the gateway should hear before the next regular heartbeat."""
        self._pace(circuit.NewsCame())

    def hold(self, *, backlog: bool, records: bool) -> None:
        """Whether these have to wait; live questions and heartbeats never do."""
        self._outbox.hold(on=records)
        if backlog != self._circuit.held:
            self._pace(circuit.Held(backlog))

    @property
    def up(self) -> bool:
        """Whether a question asked now would be sent."""
        return self._circuit.up and self._transport.connected

    def round_trips(self) -> tuple[float, ...]:
        """Seconds that live questions took lately as the link is now, at most 64, oldest first.

        One without an answer stands there with at least `reply_timeout_s`.
        """
        return self._round_trips.recent()

    async def status(self) -> LinkStatus:
        """How the link is, and this side of the ledger."""
        return LinkStatus(
            transport=self._transport.name,
            up=self.up,
            last_contact=self._last_contact,
            turned_away=self._turned_away,
            ledger=await self._outbox.ledger(),
        )

    # -- questions on the link

    def _ask(self, question: v1.Escalation, live: bool) -> None:  # noqa: FBT001 - a port's argument
        self._talk(self._ask_live(question) if live else self._ask_from_backlog(question))

    async def _ask_live(self, question: v1.Escalation) -> None:
        self._pace(circuit.LiveBegan())
        began = self._clock.monotonic()
        asked_s = 0.0
        try:
            event, asked_s = await self._exchange(question)
        finally:
            self._pace(circuit.LiveEnded(asked_s))
        if event != NOT_PAID:
            self._came_back(event, self._clock.monotonic() - began)
        self._questions.heard(question.request_id, event)

    def _came_back(self, event: settlement.Event, took_s: float) -> None:
        if not isinstance(event, settlement.AnswerCame):
            took_s = max(took_s, self._settings.reply_timeout_s)
        if self._circuit.up:
            self._round_trips.took(self._transport.name, took_s)
            self._on_change()

    async def _ask_from_backlog(self, question: v1.Escalation) -> None:
        busy_s, asked_s, began = 0.0, 0.0, self._clock.monotonic()
        try:
            event, asked_s = await self._exchange(question)
            if isinstance(event, settlement.AnswerCame):
                # Where nobody waits for the cloud any more, this tells when it is quick again.
                self._came_back(event, self._clock.monotonic() - began)
            match event:
                case settlement.ExchangeFailed("budget") if self._budget is not None:
                    busy_s = max(self._budget.pause_s(), BUSY_S)
                case settlement.ExchangeFailed(reason) if reason != "link_down":
                    busy_s = max(asked_s, BUSY_S)
                case _:
                    pass  # answered, or the circuit knows
            # Its place is given on once the outbox holds it no longer, or it would be found again.
            written = await asyncio.gather(*self._questions.heard(question.request_id, event))
            if not all(written):
                busy_s = max(busy_s, BUSY_S)
        finally:
            self._pace(circuit.BacklogEnded(busy_s, asked_s))

    async def _exchange(self, question: v1.Escalation) -> tuple[settlement.Event, float]:
        """What became of it, and how long the gateway asks to be left alone."""
        if self._budget is None:
            return await self._exchange_paid(question)
        if self._budget.never(question):
            self._on_refusal(question.request_id)
            return settlement.RefusedForGood("over_budget"), 0.0
        paid = await self._budget.spend(question)
        if paid is None:
            return NOT_PAID, 0.0
        try:
            return await self._exchange_paid(question)
        finally:
            self._budget.ended(paid)

    async def _exchange_paid(self, question: v1.Escalation) -> tuple[settlement.Event, float]:
        timeout_s = max(self._settings.reply_timeout_s, question.timeout_ms / 1000)
        try:
            reply = await self._transport.exchange(question, timeout_s=timeout_s)
        except MessageTooLarge as error:
            self._on_refusal(question.request_id)
            return settlement.RefusedForGood(error.code), 0.0
        except (LinkError, WireError) as error:
            log.debug("question.unanswered request=%s why=%s", question.request_id, error)
            return settlement.ExchangeFailed("link_down"), 0.0
        if isinstance(reply, v1.Escalated) and reply.request_id != question.request_id:
            log.warning("question.answer_of_another got=%.80r", reply.request_id)
            return settlement.ExchangeFailed("odd_reply"), 0.0
        event = settlement.event_of(reply)
        match event:
            case settlement.AnswerCame(answer):
                self._on_answer(answer)
            case settlement.RefusedForGood():
                self._on_refusal(question.request_id)
            case _:
                pass  # it will be asked again
        busy = event == settlement.ExchangeFailed("overloaded")
        return event, reply.retry_after_s if busy and isinstance(reply, v1.Refused) else 0.0

    async def _send_backlog(self, places: int) -> None:
        tried: list[str] = []
        more = False
        try:
            # Those under way stand there as well, so as many more are looked at.
            limit = places + len(self._talks)
            found = await self._outbox.escalations(limit)
            for number, stored in enumerate(found):
                if len(tried) == places:
                    more = number < len(found)
                    break
                if self._questions.found(stored):
                    tried.append(stored.request_id)
            more = more or len(found) == limit
            if tried:
                await self._outbox.tried(tried)
        except OutboxError as error:
            log.error("backlog.unreadable code=%s why=%s", error.code, error)
        finally:
            self._pace(circuit.BacklogTaken(places, len(tried), more))

    # -- heartbeats and pace

    async def _beat(self) -> None:
        try:
            reply = await self._transport.exchange(
                await self._heartbeat(), timeout_s=self._settings.reply_timeout_s
            )
        except SyncError as error:
            log.debug("link.no_heartbeat code=%s why=%s", error.code, error)
            if isinstance(error, LinkUnauthorised):
                self._turned_away = f"{error.code}: {error}"
            self._pace(circuit.BeatFailed(self._chance.random()))
            return
        asked_s = reply.retry_after_s if isinstance(reply, v1.Refused) else 0.0
        self._pace(circuit.BeatReplied(asked_s))
        match reply:
            case v1.BeatReply(desired=desired):
                self._turned_away = None
                self._on_desired(desired)
            case v1.Refused(code, message):
                log.warning("link.turned_away code=%s why=%r", code, message)
                self._turned_away = f"{code}: {message}"
            case _:
                log.warning("link.odd_reply reply=%s", type(reply).__name__)

    async def _heartbeat(self) -> v1.Beat:
        ledger = await self._outbox.ledger()
        report = self._report()
        return v1.Beat(
            device=self._device,
            incarnation=self._outbox.incarnation,
            boot=self._outbox.boot,
            at=self._clock.wall(),
            link=self._transport.name,
            tasks=report.tasks,
            refusals=report.refusals,
            issued=ledger.issued,
            pending=ledger.pending,
            escalations_waiting=ledger.escalations_waiting,
            agent_version=self._agent_version,
        )

    def _replied(self, said: v1.Up, _: v1.Down) -> None:
        self._last_contact = self._clock.wall()
        self._pace(circuit.Replied(question=isinstance(said, v1.Escalation)))

    def _unheard(self, said: v1.Up, asked_at: float) -> None:
        question = isinstance(said, v1.Escalation)
        self._pace(circuit.NoReply(self._chance.random(), asked_at, question=question))

    def _sent(self, size: int) -> None:
        self.sent_bytes += size

    def _failed(self) -> None:
        self._pace(circuit.ExchangeFailed())

    def _pace(self, event: circuit.Event) -> None:
        if self._stop.is_set():
            return
        step = circuit.step(self._circuit, event, self._clock.monotonic())
        if step.state.up != self._circuit.up:
            log.info("link.%s name=%s", "up" if step.state.up else "down", self._transport.name)
            if not step.state.up:
                self._round_trips.went_down()
        turned = step.state.up != self._circuit.up
        self._circuit = step.state
        if turned:
            self._on_change()
        for effect in step.effects:
            match effect:
                case circuit.Beat():
                    self._talk(self._beat())
                case circuit.SendBacklog(places):
                    self._talk(self._send_backlog(places))
                case circuit.WakeAt(at):
                    self._wake_at(at)

    def _wake_at(self, at: float) -> None:
        if self._wake is not None:
            self._wake.cancel()
        # The loop's clock may be another than ours: only the difference means something.
        pause = max(0.0, at - self._clock.monotonic())
        self._wake = asyncio.get_running_loop().call_later(
            pause, lambda: self._pace(circuit.Woke())
        )

    def _deliver(self) -> None:
        self._delivery = asyncio.create_task(
            self._outbox.deliver(self._transport, self._stop, device=self._device)
        )
        self._delivery.add_done_callback(self._delivered)

    def _delivered(self, delivery: asyncio.Task[None]) -> None:
        if self._stop.is_set():
            return
        # It has no end of its own; without it the device would go on and deliver nothing for ever.
        error = None if delivery.cancelled() else delivery.exception()
        log.critical("link.delivery_ended cancelled=%s", delivery.cancelled(), exc_info=error)
        asyncio.get_running_loop().call_later(BUSY_S, self._deliver)

    def _talk(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._talks.add(task)
        task.add_done_callback(self._talked)

    def _talked(self, task: asyncio.Task[None]) -> None:
        self._talks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("link.fault", exc_info=error)
