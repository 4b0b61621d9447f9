"""What is told of a device: to people on its status page, to the gateway in a heartbeat."""

from msgspec import convert

from edge_agent import __version__
from edge_agent.cloud.budget import Budget
from edge_agent.cloud.link import CloudLink, DeviceReport
from edge_agent.control import messages
from edge_agent.governor import limits
from edge_agent.governor.run import Governor
from edge_agent.risk.run import Risk
from edge_agent.settings import AgentSettings
from edge_agent.update.activation import Activation
from edge_agent.update.run import Updates
from edge_agent.wiring.crew import Crew
from edge_agent.wiring.hearing import Hearing
from edge_agent.workplace import RiskReport
from sync.clock import Clock
from sync.outbox.run import Outbox
from sync.wire import v1

SHORT_DIGEST = 12
_FEW = 50
"""Audits are told to the gateway in such steps, so that not every heartbeat is news."""


class Reports:
    """Asks every part and changes none."""

    def __init__(
        self,
        settings: AgentSettings,
        *,
        outbox: Outbox,
        link: CloudLink,
        budget: Budget | None,
        risk: Risk,
        governor: Governor,
        hearing: Hearing,
        crew: Crew,
        updates: Updates,
        clock: Clock,
        started: float,
    ) -> None:
        self._settings = settings
        self._outbox = outbox
        self._link = link
        self._budget = budget
        self._risk = risk
        self._governor = governor
        self._hearing = hearing
        self._crew = crew
        self._updates = updates
        self._clock = clock
        self._started = started

    def of_device(self) -> DeviceReport:
        """For the next heartbeat."""
        tasks = []
        for task in self._crew.tasks():
            if (current := self._crew.current(task)) is not None:
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

    async def status(self) -> messages.StatusReport:
        """For people."""
        link = await self._link.status()
        right, compared = self._risk.feedback_counts()
        governed = self._governor.state
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
            level=limits.measures(governed).level.name.lower(),
            level_why=governed.why,
            usage=self._usage(),
            budget=None
            if self._budget is None
            else convert(self._budget.state(), messages.BudgetReport, from_attributes=True),
            tasks=tuple(self._task(task, state) for task, state in self._updates.states().items()),
            feedback_right=right,
            feedback_compared=compared,
        )

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

    def _task(self, task: str, state: Activation) -> messages.TaskReport:
        current = self._crew.current(task)
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
            source=self._hearing.source_of(task),
            degraded=None if current is None else current.blame.degraded,
            last_end=None if current is None else current.last_end,
            rss_bytes=0 if current is None else current.rss_bytes,
            unanswered=self._hearing.unanswered_of(task),
            one_at_a_time=self._crew.one_at_a_time(task),
        )


def _task_risk(report: RiskReport | None) -> v1.TaskRisk | None:
    if report is None:
        return None
    return v1.TaskRisk(
        mode=report.mode,
        certificate=report.certificate,
        promised=report.promised,
        low=round(report.low, 3),
        high=round(report.high, 3),
        audits=report.audits // _FEW * _FEW,
        alarm_at=report.alarm_at,
        why=report.why,
    )
