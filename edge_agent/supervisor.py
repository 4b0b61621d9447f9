"""Wires the control half of a device: sockets, workers, outbox, link, updates. No model runs here.

Everything is built and started in `running` and ended in the reverse order, so that nothing a
worker has written is lost on the way out: workers first, then the link, then the outbox.
"""

import asyncio
import logging
import random
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from edge_agent import __version__
from edge_agent.cloud import handover
from edge_agent.cloud.budget import FILE as BUDGET_FILE
from edge_agent.cloud.budget import Budget, Tariff, boot_id, tariff
from edge_agent.cloud.link import CloudLink, DeviceReport
from edge_agent.control import messages
from edge_agent.control.run import AgentSocket
from edge_agent.errors import PackageDoesNotRun
from edge_agent.governor import limits
from edge_agent.governor.run import Governor
from edge_agent.risk import key as audit_key
from edge_agent.risk.child import CalibrateProcess
from edge_agent.risk.run import Risk
from edge_agent.settings import (
    AgentSettings,
    most_package_bytes,
    outbox_within,
    run_folder,
    token_file,
)
from edge_agent.update import job
from edge_agent.update.factory import bring_all
from edge_agent.update.local import LocalPackage
from edge_agent.update.run import FetchProcess, TaskUpdate, Updates
from edge_agent.update.store import PackageStore
from edge_agent.upkeep.hold import Held
from edge_agent.upkeep.sockets import RunFolder
from edge_agent.wiring.crew import Crew
from edge_agent.wiring.hearing import Hearing, said_terms
from edge_agent.wiring.listeners import Listeners
from edge_agent.wiring.reports import Reports
from edge_agent.wiring.ways import Ways
from sync.clock import SystemClock
from sync.errors import SettingsError
from sync.outbox.run import Outbox
from sync.runner import ThreadRunner
from sync.wire import v1

if TYPE_CHECKING:
    from edge_agent.local_api.callers import Served

log = logging.getLogger(__name__)

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
        self._sockets = RunFolder(run_folder(settings, data))
        self._store = PackageStore(data / "packages")
        self._disk = ThreadRunner("packages")
        self._fetching = ThreadRunner("fetch", threads=4)
        self._fetch_process = FetchProcess(
            self._fetching, self._store.home, most_package_bytes(settings)
        )
        self._updates = Updates(self._store, self._update_of)
        self._agent_socket = AgentSocket(self, debug=debug)
        self._listeners = Listeners(settings, data, self)
        self._calibrating = ThreadRunner("calibrate")
        self._calibrate_process = CalibrateProcess(self._calibrating)
        self._telling: asyncio.TimerHandle | None = None
        # From `running`, in this order; each is handed those before it.
        self._outbox: Outbox
        self._budget: Budget | None = None
        self._link: CloudLink
        self._risk: Risk
        self._crew: Crew
        self._governor: Governor
        self._reports: Reports

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
        async with AsyncExitStack() as stack:
            stack.enter_context(Held(self._data / "agent.lock"))
            stack.callback(self._sockets.close)
            agent_socket = self._sockets.agent()
            stack.callback(self._disk.close)
            stack.callback(self._fetching.close)
            await self._open_books(stack)
            await self._open_link(stack)
            self._open_crew(stack)
            await self._link.start()
            stack.push_async_callback(self._crew.close)
            stack.callback(asyncio.create_task(self._govern(), name="governor").cancel)
            stack.push_async_callback(self._updates.close)
            stack.callback(self._fetch_process.close)
            self._updates.start()
            delivered = asyncio.create_task(
                bring_all(self._settings.factory, self._fetch_process.bring, self._updates.factory)
            )
            stack.callback(delivered.cancel)
            for package in self._packages.values():
                self._updates.desire_local(package.task, package.version)
            stack.push_async_callback(self._agent_socket.close)
            await self._agent_socket.start(agent_socket)
            await self._listeners.open(stack)
            log.info("agent.running device=%s data=%s", self._settings.device, self._data)
            if not self._updates.states():
                log.info("agent.waiting why=no_package_yet next=the_gateway_says_which")
            yield

    async def _open_books(self, stack: AsyncExitStack) -> None:
        """What must not be lost: outbox and ledger."""
        writer = ThreadRunner("outbox")
        stack.callback(writer.close)
        self._outbox = await Outbox.open(
            self._data / "outbox",
            clock=self._clock,
            runner=writer,
            settings=outbox_within(self._settings),
            chance=self._chance,
        )
        stack.push_async_callback(self._outbox.close)

    async def _open_link(self, stack: AsyncExitStack) -> None:
        """The way to the cloud, what may be spent on it, and what is learnt from it."""
        settings = self._settings
        ways = Ways(settings, self._data, chance=self._chance, probe=self._probe)
        transport = ways.transport()
        if (terms := self._tariff()) is not None:
            keeper = ThreadRunner("budget")
            stack.callback(keeper.close)
            self._budget = Budget(
                terms,
                self._data / BUDGET_FILE,
                clock=self._clock,
                runner=keeper,
                boot=boot_id(),
                resent=ways.resent,
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
            on_revision=self._revised,
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

    def _open_crew(self, stack: AsyncExitStack) -> None:
        """Who keeps workers up, within which limits, and who tells of them."""
        settings = self._settings
        hearing = Hearing(
            settings.device,
            link=self._link,
            risk=self._risk,
            budget=self._budget,
            conditions=self._conditions,
        )
        self._crew = Crew(
            settings,
            self._data,
            sockets=self._sockets,
            store=self._store,
            ears=hearing,
            around=self,
            clock=self._clock,
            chance=self._chance,
        )
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
        self._reports = Reports(
            settings,
            outbox=self._outbox,
            link=self._link,
            budget=self._budget,
            risk=self._risk,
            governor=self._governor,
            hearing=hearing,
            crew=self._crew,
            updates=self._updates,
            clock=self._clock,
            started=self._started,
        )

    def served(self, task: str) -> "Served | None":
        """For the listeners of other languages: a task that answers now."""
        from edge_agent.local_api.callers import Served

        current = self._crew.current(task)
        if current is None or current.ready is None or current.state != "serving":
            return None
        return Served(current.ready.version, current.ready.given)

    # -- what `agent.sock` asks

    def tasks(self) -> tuple[str, ...]:
        """Tasks with a worker."""
        return self._crew.tasks()

    async def status(self) -> messages.StatusReport:
        return replace(await self._reports.status(), local_mqtt=self._listeners.broker_trouble)

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

    def _revised(self, client: str) -> None:
        self._agent_socket.revised(client)
        self._listeners.revised(client)

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
        self._crew.tell(self._conditions())

    # -- what the governor asks

    def worker_pids(self) -> tuple[int, ...]:
        return self._crew.pids()

    def sent_bytes(self) -> int:
        return self._link.sent_bytes

    def take_measures(self, measures: limits.Measures) -> None:
        self._link.hold(backlog=not measures.backlog, records=not measures.records)
        self._outbox.linger(measures.linger)
        refusing = ""
        if measures.level is limits.Level.REFUSING:
            refusing = f"the device is too hot to answer: {self._governor.state.why}; ask again"
        self._crew.tell(handover.Sparing(measures.audits, measures.sources, refusing))

    def renew_largest(self, sizes: dict[int, int]) -> None:
        self._crew.renew_largest(sizes)

    async def _govern(self) -> None:
        try:
            await self._governor.run()
        except Exception:  # nothing else of the device hangs on it
            log.exception("governor.fault")

    # -- what the crew asks

    def standing_terms(self, task: str, digest: str) -> tuple[handover.StandingTerms, ...]:
        return tuple(
            handover.StandingTerms(signed, said_terms(terms))
            for signed, terms in self._risk.standing(task, digest)
        )

    def our_bytes(self) -> int:
        sample = self._governor.sample
        return sample.supervisor_bytes + sample.worker_bytes

    def package_failed(self, task: str, digest: str, error: PackageDoesNotRun) -> None:
        self._updates.failed(task, digest, error.code, str(error), self._clock.wall())

    def news(self) -> None:
        self._link.news()

    # -- parts

    def _report(self) -> DeviceReport:
        return self._reports.of_device()

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
            workers=self._crew,
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
