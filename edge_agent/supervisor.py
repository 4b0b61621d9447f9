"""Wires the control half of a device: sockets, workers, outbox, link, updates. No model runs here.

Everything is built in `Supervisor`, started in `running` and ended in the reverse order, so that
nothing a worker has written is lost on the way out: workers first, then the link, then the outbox.
"""

import asyncio
import logging
import random
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import convert
from msgspec.structs import replace

from edge_agent import __version__
from edge_agent.cloud import handover
from edge_agent.cloud.budget import FILE as BUDGET_FILE
from edge_agent.cloud.budget import Budget, Tariff, boot_id, tariff
from edge_agent.cloud.line import Line
from edge_agent.cloud.link import CloudLink, DeviceReport
from edge_agent.control import messages
from edge_agent.control.run import AgentSocket
from edge_agent.control.unanswered import Unanswered
from edge_agent.errors import AgentError, PackageDoesNotRun, WorkerFailed
from edge_agent.governor import limits
from edge_agent.governor.run import Governor
from edge_agent.risk import key as audit_key
from edge_agent.risk.child import CalibrateProcess
from edge_agent.risk.run import Risk
from edge_agent.risk.store import Key
from edge_agent.risk.watch import Terms
from edge_agent.sdk.errors import LongstopError
from edge_agent.settings import (
    AgentSettings,
    most_package_bytes,
    outbox_within,
    run_folder,
    token,
    token_file,
    workplace,
)
from edge_agent.update import job
from edge_agent.update.activation import Activation, Installed
from edge_agent.update.factory import bring_all
from edge_agent.update.local import LocalPackage
from edge_agent.update.run import FetchProcess, TaskUpdate, Updates
from edge_agent.update.store import PackageStore
from edge_agent.upkeep import memory
from edge_agent.upkeep.blame import Blame
from edge_agent.upkeep.hold import Held
from edge_agent.upkeep.keeper import Care, Keeper, PackageOrder
from edge_agent.upkeep.process import WorkerProcess
from edge_agent.upkeep.run import TaskWorkers
from edge_agent.upkeep.said import Said
from edge_agent.upkeep.shares import Shares, why_not_beside
from edge_agent.upkeep.sockets import RunFolder
from edge_agent.workplace import RiskReport, SourceState, Workplace, source_of
from sync.clock import SystemClock
from sync.errors import MalformedMessage, SettingsError
from sync.outbox.run import Outbox
from sync.runner import ThreadRunner
from sync.transport.base import Transport
from sync.wire import v1

if TYPE_CHECKING:
    from edge_agent.local_api.oip import Served

log = logging.getLogger(__name__)

SHORT_DIGEST = 12
CONDITIONS_S = 0.1
"""Workers are told of link and budget this often at most."""


class Supervisor:
    """One agent. `running` brings it up and down."""

    def __init__(
        self,
        settings: AgentSettings,
        data: Path,
        *,
        packages: tuple[LocalPackage, ...],
        debug: bool,
    ) -> None:
        self._settings = settings
        self._data = data
        self._packages = {package.task: package for package in packages}
        self._clock = SystemClock()
        self._chance = random.SystemRandom()
        self._started = self._clock.wall()
        self._workplace = workplace(settings, data)
        self._sockets = RunFolder(run_folder(settings, data))
        self._workers: dict[str, TaskWorkers] = {}
        self._said: dict[str, Said] = {}
        self._sources: dict[str, SourceState] = {}
        self._shares = Shares(settings.tasks)
        self._renewing: set[asyncio.Task[None]] = set()
        self._store = PackageStore(data / "packages")
        self._disk = ThreadRunner("packages")
        self._fetching = ThreadRunner("fetch", threads=4)
        self._fetch_process = FetchProcess(
            self._fetching, self._store.home, most_package_bytes(settings)
        )
        self._updates = Updates(self._store, self._update_of)
        self._agent_socket = AgentSocket(self, debug=debug)
        self._governor: Governor
        self._calibrating = ThreadRunner("calibrate")
        self._calibrate_process = CalibrateProcess(self._calibrating)
        self._audited_lines: dict[Line, Key] = {}
        self._resent: list[Callable[[], int]] = []
        self._unanswered: defaultdict[str, Unanswered] = defaultdict(Unanswered)
        self._telling: asyncio.TimerHandle | None = None
        self._outbox: Outbox
        self._link: CloudLink
        self._budget: Budget | None = None
        self._risk: Risk

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        told = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, told.set)
        async with self.running():
            await told.wait()
            log.info("agent.stopping")
        log.info("agent.stopped")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Up inside, down after.

        Raises `AgentAlreadyRunning`, `OutboxBusy`, `OutboxUnavailable`, `SocketTaken`,
        `SocketPathTooLong`.
        """
        settings = self._settings
        async with AsyncExitStack() as stack:
            stack.enter_context(Held(self._data / "agent.lock"))
            stack.callback(self._sockets.close)
            agent_socket = self._sockets.agent()
            stack.callback(self._disk.close)
            stack.callback(self._fetching.close)
            writer = ThreadRunner("outbox")
            stack.callback(writer.close)
            self._outbox = await Outbox.open(
                self._data / "outbox",
                clock=self._clock,
                runner=writer,
                settings=outbox_within(settings),
                chance=self._chance,
            )
            stack.push_async_callback(self._outbox.close)
            transport = self._transport()
            if (terms := self._tariff()) is not None:
                keeper = ThreadRunner("budget")
                stack.callback(keeper.close)
                self._budget = Budget(
                    terms,
                    self._data / BUDGET_FILE,
                    clock=self._clock,
                    runner=keeper,
                    boot=boot_id(),
                    resent=lambda: sum(resent() for resent in self._resent),
                    on_change=self._conditions_changed,
                )
                stack.push_async_callback(self._budget.close)
                self._budget.start()
            self._link = CloudLink(
                device=settings.device,
                agent_version=__version__,
                transport=transport,
                outbox=self._outbox,
                clock=self._clock,
                chance=self._chance,
                settings=settings.cloud,
                report=self._report,
                on_desired=self._updates.desire,
                on_revision=self._agent_socket.revised,
                on_answer=lambda answer: self._risk.answered(answer),  # noqa: PLW0108 - made below
                on_refusal=lambda request: self._risk.refused(request),  # noqa: PLW0108
                on_change=self._conditions_changed,
                budget=self._budget,
            )
            stack.push_async_callback(self._link.close)
            judge = ThreadRunner("risk")
            stack.callback(judge.close)
            stack.callback(self._calibrating.close)
            audit_key.read_or_make(self._data)
            self._risk = await Risk.open(
                self._data / "risk.db",
                runner=judge,
                clock=self._clock,
                settings=settings.audit,
                line=self._link,
                calibrate=self._calibrate_process.calibrate,
                report=self._link.noted,
                on_change=self._link.news,
            )
            stack.push_async_callback(self._risk.close)
            stack.callback(self._calibrate_process.close)
            await self._link.start()
            governing = ThreadRunner("governor")
            stack.callback(governing.close)
            self._governor = Governor(
                settings.limits,
                self._data,
                device=self,
                report=self._link.noted,
                clock=self._clock,
                runner=governing,
            )
            stack.callback(self._governor.save)
            stack.push_async_callback(self._workers_end)
            stack.callback(asyncio.create_task(self._govern(), name="governor").cancel)
            stack.push_async_callback(self._updates.close)
            stack.callback(self._fetch_process.close)
            self._updates.start()
            delivered = asyncio.create_task(
                bring_all(settings.factory, self._fetch_process.bring, self._updates.factory)
            )
            stack.callback(delivered.cancel)
            for package in self._packages.values():
                self._updates.desire_local(package.task, package.version)
            stack.push_async_callback(self._agent_socket.close)
            await self._agent_socket.start(agent_socket)
            await self._listen_http(stack)
            log.info("agent.running device=%s data=%s", settings.device, self._data)
            if not self._updates.states():
                log.info("agent.waiting why=no_package_yet next=the_gateway_says_which")
            yield

    async def _listen_http(self, stack: AsyncExitStack) -> None:
        """Where it is set. A device answers its own programs, too, when nobody can listen there."""
        listen = self._settings.http.listen
        if not listen:
            return
        try:
            from edge_agent.local_api import oip
        except ModuleNotFoundError as error:
            log.error("http.not_listening why=%s next=pip_install_longstop[http]", error)
            return
        folder = run_folder(self._settings, self._data)
        try:
            port = await stack.enter_async_context(oip.listening(listen, folder, self, __version__))
        except OSError as error:
            log.error("http.not_listening at=%s why=%s", listen, error)
        else:
            log.info("http.listening at=%s port=%d", listen, port)

    def served(self, task: str) -> "Served | None":
        """For the local HTTP listener: a task that answers now."""
        from edge_agent.local_api.oip import Served

        current = self._workers[task].current if task in self._workers else None
        if current is None or current.ready is None or current.state != "serving":
            return None
        return Served(current.ready.version, current.ready.given)

    # -- what `agent.sock` asks

    def tasks(self) -> tuple[str, ...]:
        """Tasks with a worker."""
        return tuple(sorted(task for task, its in self._workers.items() if its.current))

    async def status(self) -> messages.StatusReport:
        link = await self._link.status()
        right, compared = self._risk.feedback_counts()
        return messages.StatusReport(
            device=self._settings.device,
            agent_version=__version__,
            gateway=self._settings.gateway,
            link=link.transport,
            connected=link.up,
            last_contact=link.last_contact,
            turned_away=link.turned_away,
            started=self._started,
            now=self._clock.wall(),
            incarnation=self._outbox.incarnation,
            boot=self._outbox.boot,
            issued=link.ledger.issued,
            pending=link.ledger.pending,
            lost_unreported=link.ledger.lost,
            escalations_waiting=link.ledger.escalations_waiting,
            revisions_waiting=link.ledger.revisions_waiting,
            level=limits.measures(self._governor.state).level.name.lower(),
            level_why=self._governor.state.why,
            usage=self._usage(),
            budget=None
            if self._budget is None
            else convert(self._budget.state(), messages.BudgetReport, from_attributes=True),
            tasks=tuple(
                self._task_report(task, state) for task, state in self._updates.states().items()
            ),
            feedback_right=right,
            feedback_compared=compared,
        )

    async def revisions(self, client: str, limit: int) -> tuple[v1.Revised, ...]:
        return await self._outbox.revisions(client, limit)

    async def record_skipped(self, skipped: messages.Skipped) -> None:
        await self._link.skipped(
            v1.Skipped(
                skipped.task,
                skipped.source,
                skipped.reason,
                skipped.count,
                skipped.first_id,
                skipped.last_id,
                at=self._clock.wall(),
            )
        )

    async def take(self, client: str, request_ids: tuple[str, ...]) -> None:
        await self._outbox.take(client, request_ids)

    async def feedback(self, client: str, task: str, request_id: str, label: str) -> bool:
        """Raises `OutboxError` where it could not be kept."""
        said = v1.Feedback(request_id, client, task, label, self._clock.wall())
        return await self._risk.feedback(said, self._outbox.put)

    # -- what workers bring

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
            escalation = handover.escalation_of(said, body, self._settings.device)
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
        outcome.add_done_callback(partial(_tell, line, said.id))

    def record(self, record: v1.Answered) -> None:
        self._risk.recorded(record.request_id, record.label)
        _ = self._link.record(record)  # when it ends, the link waits until it is durable

    def skipped(self, record: v1.Skipped) -> None:
        _ = self._link.skipped(record)

    def missed(self, count: int) -> None:
        _ = self._link.lose(count, "pipe_full")

    def source_said(self, task: str, state: SourceState) -> None:
        self._sources[task] = state

    # -- what workers are told

    def _conditions(self) -> handover.Conditions:
        tastes, budget = self._settings.budget, self._budget
        trips = tuple(round(each, 4) for each in self._link.round_trips())
        if budget is None:
            return handover.Conditions(up=self._link.up, round_trips=trips)
        return handover.Conditions(
            up=self._link.up,
            round_trips=trips,
            left=budget.most,
            price=budget.price,
            call_cost=budget.terms.call_cost,
            byte_cost=budget.terms.byte_cost,
            revision_worth=tastes.revision_worth,
            wait_cost=tastes.wait_cost,
        )

    def _conditions_changed(self) -> None:
        if self._telling is None:
            loop = asyncio.get_running_loop()
            self._telling = loop.call_later(CONDITIONS_S, self._tell_conditions)

    def _tell_conditions(self) -> None:
        self._telling = None
        conditions = self._conditions()
        for its in self._workers.values():
            its.tell(conditions)

    # -- what the governor asks

    def worker_pids(self) -> tuple[int, ...]:
        pids = (its.current.pid for its in self._workers.values() if its.current is not None)
        return tuple(pid for pid in pids if pid is not None)

    def sent_bytes(self) -> int:
        return self._link.sent_bytes

    def take_measures(self, measures: limits.Measures) -> None:
        self._link.hold(backlog=not measures.backlog, records=not measures.records)
        self._outbox.linger(measures.linger)
        refusing = ""
        if measures.level is limits.Level.REFUSING:
            refusing = f"the device is too hot to answer: {self._governor.state.why}; ask again"
        for workers in self._workers.values():
            workers.tell(handover.Sparing(measures.audits, measures.sources, refusing))

    def renew_largest(self, sizes: dict[int, int]) -> None:
        serving = [its.current for its in self._workers.values() if its.current is not None]
        largest = max(serving, key=lambda one: sizes.get(one.pid or 0, 0), default=None)
        if largest is not None:
            largest.renew()

    async def _govern(self) -> None:
        try:
            await self._governor.run()
        except Exception:  # nothing else of the device hangs on it
            log.exception("governor.fault")

    # -- what updates ask of workers

    def serve(self, task: str, package: Installed, folder: Path) -> None:
        self._workers_of(task).serve(_order(package, folder))

    async def try_out(self, task: str, package: Installed, folder: Path) -> None:
        why = self._one_at_a_time(task)
        if why is not None:
            log.warning("update.one_at_a_time task=%s why=%s", task, why)
        await self._workers_of(task).try_out(_order(package, folder), beside=why is None)

    def stop_trial(self, task: str) -> None:
        self._workers_of(task).stop_trial()

    def switch(self, task: str, package: Installed) -> None:
        folder = self._store.package(task, package.digest)
        self._workers_of(task).switch(_order(package, folder))
        self._link.news()

    # -- parts

    def _gone(self, line: Line, tell: Callable[[Terms], None]) -> None:
        if (key := self._audited_lines.pop(line, None)) is not None:
            self._risk.left(key, tell)

    def _transport(self) -> Transport:
        settings = self._settings
        if not settings.gateway:
            from edge_agent.cloud.unlinked import Unlinked

            return Unlinked()
        secret = token(settings, self._data)
        match settings.link:
            case "http":
                return self._http(secret)
            case "mqtt":
                return self._mqtt(secret)
            case "auto":
                from sync.transport.two_ways import TwoWays

                ways = (self._mqtt(secret), self._http(secret))
                both = TwoWays(
                    *(ways if settings.prefer == "mqtt" else reversed(ways)),
                    probe=self._probe,
                    chance=self._chance,
                    policy=settings.failover,
                )
                self._resent.append(lambda: both.asked_twice)
                return both

    def _http(self, secret: str) -> Transport:
        from sync.transport.http import HttpTransport

        try:
            http = HttpTransport(self._settings.gateway, secret, files=self._settings.tls)
        except ValueError as error:
            raise SettingsError(f"gateway: {error}") from error
        self._resent.append(lambda: http.resent)
        return http

    def _mqtt(self, secret: str) -> Transport:
        from sync.transport.mqtt import MqttTransport

        settings = self._settings
        host, _, port = settings.mqtt.rpartition(":")
        return MqttTransport(
            host.strip("[]"),
            int(port),
            device=settings.device,
            token=secret,
            files=settings.tls if settings.mqtt_tls else None,
        )

    def _tariff(self) -> Tariff | None:
        try:
            return tariff(self._settings.budget)
        except ValueError as error:
            raise SettingsError(str(error)) from error

    def _probe(self) -> v1.Up:
        """What may be said at any time and changes nothing: that no record is lost."""
        at = self._clock.wall()
        return v1.LossReport(self._settings.device, self._outbox.incarnation, (), at)

    def _update_of(self, task: str) -> TaskUpdate:
        return TaskUpdate(
            task,
            store=self._store,
            runner=self._disk,
            clock=self._clock,
            chance=self._chance,
            workers=self,
            fetch=self._fetch,
            news=self._link.news,
        )

    async def _fetch(self, task: str, version: str) -> job.Outcome:
        source: job.FromGateway | job.FromFolder
        if (local := self._packages.get(task)) is not None:
            source = job.FromFolder(str(local.folder))
        else:
            secret_file = token_file(self._settings, self._data)
            source = job.FromGateway(
                self._settings.gateway,
                str(secret_file),
                self._settings.public_key,
                self._settings.tls,
            )
        return await self._fetch_process.bring(task, version, source)

    def _workers_of(self, task: str) -> TaskWorkers:
        workers = self._workers.get(task)
        if workers is None:
            workers = self._workers[task] = TaskWorkers(partial(self._keeper, task))
        return workers

    def _keeper(
        self, task: str, package: PackageOrder, *, on_trial: bool, history: Blame | None
    ) -> Keeper:
        settings = self._settings
        return Keeper(
            package,
            launch=partial(self._launch, task),
            care=Care(
                settings.restart,
                settings.watchdog,
                self._shares.memory_bytes(task, self._memory_bytes()),
            ),
            clock=self._clock,
            chance=self._chance,
            on_failed=partial(self._package_failed, task),
            on_change=self._link.news,
            on_over=partial(self._renew, task),
            on_trial=on_trial,
            history=history,
        )

    def _memory_bytes(self) -> int:
        """What there is for us: the machine's, or our budget where that is less."""
        total, budget = memory.total_bytes(), self._settings.limits.ram_mb
        return total if budget is None else min(total or budget << 20, budget << 20)

    def _renew(self, task: str, keeper: Keeper) -> None:
        """Its worker takes more memory than it may: a fresh one gives it back."""
        why = self._one_at_a_time(task)
        log.warning("worker.renewed task=%s beside=%s", task, why is None)
        renewing = asyncio.create_task(self._workers_of(task).renew(keeper, beside=why is None))
        self._renewing.add(renewing)
        renewing.add_done_callback(self._renewing.discard)

    def _one_at_a_time(self, task: str) -> str | None:
        """Why a swap of this task would not run two workers at once; None: it would."""
        current = self._workers_of(task).current
        rss_bytes = 0 if current is None else current.rss_bytes
        free = memory.available_bytes()
        if (budget := self._settings.limits.ram_mb) is not None:
            sample = self._governor.sample
            ours = sample.supervisor_bytes + sample.worker_bytes
            free = min(free, max(0, (budget << 20) - ours))
        return why_not_beside(self._settings.swap, free, rss_bytes)

    async def _launch(
        self, task: str, package: PackageOrder, avoid: tuple[str, ...]
    ) -> WorkerProcess:
        try:
            listening = self._sockets.task(task)
        except (AgentError, LongstopError) as error:
            raise WorkerFailed(str(error)) from error
        given = self._settings.sources.get(task)
        return await WorkerProcess.start(
            package=package.folder,
            task=task,
            digest=package.digest,
            device=self._settings.device,
            source=None if given is None else source_of(given),
            place=_without(self._workplace, avoid),
            terms=tuple(
                handover.StandingTerms(signed, _said_terms(terms))
                for signed, terms in self._risk.standing(task, package.digest)
            ),
            queue=self._shares.of(task).concurrency,
            nice=self._shares.nice(task),
            listening=listening,
            ears=self,
            said=self._said.setdefault(task, Said()),
        )

    def _package_failed(self, task: str, package: PackageOrder, error: PackageDoesNotRun) -> None:
        now = self._clock.wall()
        self._updates.failed(task, package.digest, error.code, str(error), now)

    async def _workers_end(self) -> None:
        await asyncio.gather(
            *(its.close(within_s=self._settings.stop_s) for its in self._workers.values())
        )

    # -- what is told of them

    def _report(self) -> DeviceReport:
        tasks = []
        for task, workers in sorted(self._workers.items()):
            if (current := workers.current) is not None:
                package = current.package
                tasks.append(
                    v1.TaskState(
                        task,
                        package.version,
                        package.digest[:SHORT_DIGEST],
                        current.state,
                        current.blame.degraded or "",
                        _task_risk(self._risk.report(task, package.digest)),
                    )
                )
        return DeviceReport(tuple(tasks), self._updates.refusals())

    def _usage(self) -> messages.Usage:
        state, sample = self._governor.state, self._governor.sample
        return messages.Usage(
            cpu_share=sample.cpu_share,
            supervisor_bytes=sample.supervisor_bytes,
            worker_bytes=sample.worker_bytes,
            disk_bytes=sample.disk_bytes,
            disk_free_bytes=sample.disk_free_bytes,
            uplink_bytes=state.day.uplink_bytes,
            flash_bytes=state.day.flash_bytes,
            celsius=sample.celsius,
            over=state.over,
        )

    def _task_report(self, task: str, state: Activation) -> messages.TaskReport:
        current = self._workers[task].current if task in self._workers else None
        ready = None if current is None else current.ready
        return messages.TaskReport(
            task=task,
            state="waiting" if current is None else current.state,
            version=None if current is None else current.package.version,
            digest=None if current is None else current.package.digest,
            pid=None if current is None else current.pid,
            restarts=0 if current is None else current.restarts,
            wanted=state.wanted or None,
            update=state.phase.value,
            refused=tuple(
                messages.RefusedVersion(each.version, each.code, each.reason, each.at)
                for each in state.refused
            ),
            runs_on=None if ready is None else ready.runs_on,
            uncertified=None if ready is None else ready.uncertified,
            risk=None if current is None else self._risk.report(task, current.package.digest),
            source=self._sources.get(task),
            degraded=None if current is None else current.blame.degraded,
            last_end=None if current is None else current.last_end,
            rss_bytes=0 if current is None else current.rss_bytes,
            unanswered=self._unanswered[task].count if task in self._unanswered else 0,
            one_at_a_time=self._one_at_a_time(task),
        )


def _order(package: Installed, folder: Path) -> PackageOrder:
    return PackageOrder(package.version, package.digest, str(folder))


def _without(place: Workplace, avoid: tuple[str, ...]) -> Workplace:
    """The same for a worker that must do without these; nothing is measured while callers wait."""
    if not avoid:
        return place
    runtime = replace(place.runtime, choose=False, avoid=(*place.runtime.avoid, *avoid))
    return replace(place, runtime=runtime)


def _task_risk(report: RiskReport | None) -> v1.TaskRisk | None:
    if report is None:
        return None
    return v1.TaskRisk(
        mode=report.mode,
        certificate=report.certificate,
        promised=report.promised,
        low=round(report.low, 3),
        high=round(report.high, 3),
        audits=report.audits // 50 * 50,
        alarm_at=report.alarm_at,
        why=report.why,
    )


def _tell_terms(line: Line, terms: Terms) -> None:
    line.send(_said_terms(terms))


def _said_terms(terms: Terms) -> handover.Terms:
    return handover.Terms(
        threshold=terms.threshold,
        certificate=terms.certificate,
        mode=terms.mode,
        why=terms.why,
        certified_risk=terms.certified_risk,
        curve=terms.curve,
    )


def _tell(line: Line, request_id: str, outcome: asyncio.Future[v1.Escalated | v1.Refused]) -> None:
    if outcome.cancelled():
        return
    match outcome.result():
        case v1.Escalated(label=label, confidence=confidence, version=version, answer=answer):
            line.send(handover.Answer(request_id, label, confidence, version, answer))
        case v1.Refused(code):
            line.send(handover.NoAnswer(request_id, code))
