"""Performs what the watches decide: keeps audits, sends their questions, calibrates, reports.

1. An audit's question owes nobody a revision, so it does not stand in the outbox, whose every
   question is a debt: it waits here, and goes when the link has nothing else to do.
2. What there is no room for is a missing audit, and nothing else is the worse for it.
3. Everything here may fail without a request noticing: a full disk costs evidence, not answers.
"""

import asyncio
import logging
import sqlite3
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Annotated, Protocol

from msgspec import Meta, Struct
from msgspec.structs import replace

from edge_agent.risk.job import Order, Outcome
from edge_agent.risk.monitor import begun_anew
from edge_agent.risk.store import Audit, Key, Standing, Store
from edge_agent.risk.watch import Terms, Watch, new_standing, terms_of
from edge_agent.workplace import RiskReport
from models.calibrate.certificate import Certificate
from sync.clock import Clock
from sync.runner import Runner
from sync.wire import v1

log = logging.getLogger(__name__)

LOOK_S = 0.5
"""How often an idle link is looked for while questions wait."""
BUSY_S = 5.0
"""Pause after a question that got no answer."""
ANSWERS_KNOWN = 4096
"""Labels kept for people who come to know better."""

Calibrating = Callable[[Order], Awaitable[Outcome]]


class AuditSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How the risk of the device's own answers is watched."""

    share: Annotated[float, Meta(ge=0, le=0.05)] = 0.02
    """Of requests, whose answer is compared with the cloud's; 0 watches nothing."""
    horizon: Annotated[int, Meta(ge=100)] = 1000
    """A healthy device raises no alarm within so many audits, with chance 1 - `delta`."""
    delta: Annotated[float, Meta(gt=0, lt=1)] = 0.05
    bytes: Annotated[int, Meta(ge=0)] = 8 << 20
    """Room for inputs on their way to be audited."""


class Line(Protocol):
    """The way to the cloud, as audits use it."""

    def quiet(self) -> bool:
        """Whether nothing else is under way or waits."""
        ...

    async def audit(self, question: v1.Escalation) -> v1.Escalated | v1.Refused:
        """The cloud's answer, or why there is none."""
        ...


class Risk:
    """All watches of a device. Made by `open`, used from one event loop."""

    def __init__(
        self,
        store: Store,
        *,
        runner: Runner,
        clock: Clock,
        settings: AuditSettings,
        line: Line,
        calibrate: Calibrating,
        report: Callable[[v1.Alarm], object],
        on_change: Callable[[], None],
    ) -> None:
        self._store = store
        self._runner = runner
        self._clock = clock
        self._settings = settings
        self._line = line
        self._calibrate = calibrate
        self._report = report
        self._on_change = on_change
        self._watches: dict[Key, Watch] = {}
        self._standings: dict[str, Standing] = {}
        self._past: dict[str, list[Audit]] = {}
        self._place = 0
        self._questions: OrderedDict[int, tuple[Key, str, int]] = OrderedDict()
        self._answers: OrderedDict[str, str] = OrderedDict()
        self._right, self._compared = 0, 0
        self._wake = asyncio.Event()
        self._working: set[asyncio.Task[None]] = set()
        self._writing: set[asyncio.Future[None]] = set()
        self._sending: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        runner: Runner,
        clock: Clock,
        settings: AuditSettings,
        line: Line,
        calibrate: Calibrating,
        report: Callable[[v1.Alarm], object],
        on_change: Callable[[], None],
    ) -> "Risk":
        """Take up what is in this file. `runner` has one thread of its own."""
        try:
            store = await runner.submit(partial(Store, path))
        except (sqlite3.Error, OSError) as error:
            log.error("risk.kept_in_memory path=%s why=%s", path, error)
            store = await runner.submit(partial(Store, None))
        risk = cls(
            store,
            runner=runner,
            clock=clock,
            settings=settings,
            line=line,
            calibrate=calibrate,
            report=report,
            on_change=on_change,
        )
        await runner.submit(risk._load)
        risk._sending = asyncio.create_task(risk._send())
        return risk

    async def close(self) -> None:
        """End what is under way, then let go of the file."""
        ending = [*self._working, *([self._sending] if self._sending else [])]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, *self._writing, return_exceptions=True)
        await self._runner.submit(self._store.close)

    # -- what workers bring

    def joined(
        self,
        task: str,
        digest: str,
        signed: Certificate,
        uncertified: str | None,
        tell: Callable[[Terms], None],
    ) -> Key:
        """A worker serves this package. It is told its terms now, and again when they change."""
        key = Key(task, digest, signed.id if uncertified is None else "")
        watch = self._watches.get(key)
        if watch is None:
            watch = self._watches[key] = self._watch(key, signed, uncertified)
            watch.begin(self._clock.wall())
        watch.workers.append(tell)
        tell(watch.terms)
        watch.advance(self._clock.wall())
        return key

    def standing(self, task: str, digest: str) -> list[tuple[str, Terms]]:
        """What is in force under each certificate of this package that was watched before."""
        guards = {text: kept.guard for text, kept in self._standings.items()}
        guards |= {key.text(): watch.guard for key, watch in self._watches.items()}
        found = []
        for text, guard in guards.items():
            its_task, its_digest, certificate = text.rsplit("/", 2)
            if its_task == task and digest.startswith(its_digest) and certificate:
                found.append((certificate, terms_of(guard)))
        return found

    def left(self, key: Key, tell: Callable[[Terms], None]) -> None:
        """That worker is gone."""
        workers = self._watches[key].workers
        if tell in workers:
            workers.remove(tell)

    def audited(
        self, key: Key, request_id: str, label: str, score: float | None, *, local: bool
    ) -> None:
        """A worker has answered a request that is audited; this comes in decision order."""
        watch = self._watches[key]
        audit = Audit(self._place + 1, request_id, self._clock.wall(), label, score, local)
        if not watch.audited(audit):
            return
        self._place += 1
        self._write(partial(self._store.add, key, audit))
        watch.advance(self._clock.wall())

    def ask(self, key: Key, question: v1.Escalation) -> None:
        """The input of an audited request that the cloud has not been asked about."""
        watch = self._watches[key]
        audit = watch.known(question.request_id)
        if audit is None or audit.outcome is not None or audit.place in self._questions:
            return
        question = replace(question, timeout_ms=0)
        size = sum(len(tensor.data) for tensor in question.inputs)
        self._questions[audit.place] = (key, question.request_id, size)
        self._write(partial(self._store.keep_question, audit.place, question))
        while sum(size for _, _, size in self._questions.values()) > self._settings.bytes:
            _, (whose, request_id, _) = self._questions.popitem(last=False)
            log.info("risk.audit_dropped request=%s why=no_room", request_id)
            self._watches[whose].missing(request_id, self._clock.wall())
        self._wake.set()

    def recorded(self, request_id: str, label: str) -> None:
        """A request was answered; remembered for a while, for people who come to know better."""
        self._answers[request_id] = label
        if len(self._answers) > ANSWERS_KNOWN:
            self._answers.popitem(last=False)

    def answered(self, said: v1.Escalated) -> None:
        """The cloud's answer to any request."""
        for watch in self._watches.values():
            if watch.key.task == said.task:
                watch.answered(said.request_id, said.label, said.version, self._clock.wall())

    def refused(self, request_id: str) -> None:
        """The cloud will never answer this one."""
        for watch in self._watches.values():
            watch.missing(request_id, self._clock.wall())

    # -- what people say and ask

    async def feedback(
        self, said: v1.Feedback, issue: Callable[[v1.Feedback], Awaitable[object]]
    ) -> bool:
        """Somebody knows the right answer; whether it is the first word on this request.

        It is issued before it is remembered: an end between the two makes it come twice, and the
        gateway keeps the first.
        """
        try:
            if await self._runner.submit(partial(self._store.knows_feedback, said.request_id)):
                return False
        except sqlite3.Error as error:
            log.error("risk.unreadable why=%s", error)  # the gateway keeps the first word anyway
        await issue(said)
        label = self._answers.get(said.request_id)
        for watch in self._watches.values():
            audit = watch.known(said.request_id)
            if audit is not None and watch.key.task == said.task:
                audit.truth = said.label
                label = label or audit.label
                self._write(partial(self._store.truth, audit.place, said.label))
        right = None if label is None else label == said.label
        if right is not None:
            self._compared += 1
            self._right += right
        self._write(partial(self._store.add_feedback, said.request_id, right=right))
        return True

    def feedback_counts(self) -> tuple[int, int]:
        """How often people found the device's answers right, of how many that were compared."""
        return self._right, self._compared

    def report(self, task: str, digest: str) -> RiskReport | None:
        """How the package of a task stands; None while nothing is watched."""
        found = [
            watch
            for watch in self._watches.values()
            if watch.key.task == task and digest.startswith(watch.key.digest)
        ]
        serving = [watch for watch in found if watch.workers]
        return (serving or found)[-1].report() if found else None

    # -- inside

    def _load(self) -> None:
        self._place = self._store.last_place()
        self._standings = self._store.standings()
        self._right, self._compared = self._store.feedback()

    def _watch(self, key: Key, signed: Certificate, uncertified: str | None) -> Watch:
        standing = self._standings.get(key.text())
        horizon, delta = self._settings.horizon, self._settings.delta
        if standing is None:
            standing = new_standing(signed, uncertified, horizon=horizon, delta=delta)
        monitor = standing.monitor
        if (monitor.horizon, monitor.delta) != (horizon, delta):
            fresh = replace(begun_anew(monitor), horizon=horizon, delta=delta)
            standing = replace(standing, monitor=fresh)
        past = self._past_of(key)
        return Watch(
            key,
            signed,
            standing,
            past,
            save=lambda now, counted: self._save(key, now, counted),
            resolved=self._resolved,
            report=lambda certificate, kind, why: self._tell(key, certificate, kind, why),
            calibrate=lambda order: self._work(self._make(key, order)),
        )

    def _past_of(self, key: Key) -> list[Audit]:
        # Once for each package and start: a few thousand rows, some milliseconds.
        try:
            past = self._store.audits(key)
            by_place = {audit.place: audit for audit in past if audit.outcome is None}
            for place, size in self._store.questions():
                if place in by_place:
                    self._questions[place] = (key, by_place[place].request_id, size)
        except sqlite3.Error as error:
            log.error("risk.unreadable key=%s why=%s", key.text(), error)
            return []
        if self._questions:
            self._wake.set()
        return past

    def _save(self, key: Key, standing: Standing, counted: tuple[int, ...]) -> None:
        self._write(partial(self._store.keep, key, standing, counted))

    def _resolved(self, audit: Audit) -> None:
        self._questions.pop(audit.place, None)
        outcome = audit.outcome
        if outcome is not None:
            self._write(partial(self._store.resolve, audit.place, outcome, audit.cloud))

    def _tell(self, key: Key, certificate: str, kind: str, why: str) -> None:
        match kind:
            case "broken" | "recalibrated" | "cloud_changed":
                self._report(v1.Alarm(key.task, certificate, kind, why, self._clock.wall()))
                self._on_change()
            case _:
                raise AssertionError(f"no turn of the risk is called {kind!r}")

    async def _make(self, key: Key, order: Order) -> None:
        watch = self._watches[key]
        until = watch.gathered_until
        try:
            outcome = await self._calibrate(order)
        except OSError as error:
            outcome = Outcome(None, f"the calibrating process did not do its work: {error}")
        watch.calibrated(outcome, until, len(order.samples), self._clock.wall())

    async def _send(self) -> None:
        while True:
            if not self._questions:
                self._wake.clear()
                await self._wake.wait()
            if not self._line.quiet():
                await asyncio.sleep(LOOK_S)
                continue
            try:
                pause_s = await self._send_one(next(iter(self._questions)))
            except Exception:  # the outermost loop: log, wait, go on
                log.exception("risk.sending_fault")
                pause_s = BUSY_S
            if pause_s:
                await asyncio.sleep(pause_s)

    async def _send_one(self, place: int) -> float:
        """Ask about one audit; gives back how long to wait before the next."""
        key, request_id, _ = self._questions[place]
        question = await self._runner.submit(partial(self._store.question, place))
        said: v1.Escalated | v1.Refused = v1.Refused("unreadable", "gone", permanent=True)
        if question is not None:
            said = await self._line.audit(question)
        match said:
            case v1.Escalated():
                self.answered(said)
            case v1.Refused(permanent=True):
                self._watches[key].missing(request_id, self._clock.wall())
            case v1.Refused():
                return max(BUSY_S, said.retry_after_s)
        # Whatever was said, it has had its turn.
        self._questions.pop(place, None)
        return 0.0

    def _write(self, call: Callable[[], None]) -> None:
        # Begun at once, so that what is written keeps its order.
        writing = asyncio.ensure_future(self._runner.submit(call))
        self._writing.add(writing)
        writing.add_done_callback(self._written)

    def _written(self, writing: asyncio.Future[None]) -> None:
        self._writing.discard(writing)
        if not writing.cancelled() and (error := writing.exception()) is not None:
            log.error("risk.not_stored why=%s", error)

    def _work(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("risk.fault", exc_info=error)
