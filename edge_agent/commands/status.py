"""`longstop-agent status`: the device in a few lines."""

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edge_agent.commands.troubles import troubles
from edge_agent.control.messages import (
    BudgetReport,
    SaidStatus,
    StatusReport,
    TaskReport,
    Usage,
)
from edge_agent.sdk import agent
from edge_agent.sdk.call import now
from edge_agent.sdk.connection import Broken, Connection, NotListening
from edge_agent.sdk.errors import AgentUnavailable, ProtocolMismatch
from edge_agent.sdk.places import START, agent_socket
from edge_agent.workplace import RiskReport, SourceState


def ask(run: Path) -> StatusReport:
    """What the agent says of its device. Raises `AgentUnavailable`, `ProtocolMismatch`."""
    path = agent_socket(run)
    try:
        connection = Connection(path)
        try:
            said = connection.exchange((agent.STATUS,), now() + agent.ASK_S).meta
        finally:
            connection.close()
        return msgspec.json.decode(said, type=SaidStatus).status
    except NotListening as error:
        raise AgentUnavailable(f"no agent answers at {path}; {START}") from error
    except (Broken, TimeoutError) as error:
        raise AgentUnavailable(f"the agent at {path} gave no answer; {START}") from error
    except msgspec.DecodeError as error:
        raise ProtocolMismatch(
            f"the agent at {path} is of another version: {error}; restart it"
        ) from error


def as_json(status: StatusReport) -> str:
    return json.dumps(msgspec.to_builtins(status))


def lines(status: StatusReport) -> Iterator[str]:
    """For a person: what is wrong first."""
    for trouble in troubles(status):
        yield f"wrong    {trouble.what}"
        yield f"         do: {trouble.do}"
    yield (
        f"device   {status.device or 'without a name'}, up for {_age(status.now - status.started)}"
        f" (agent {status.agent_version}, boot {status.boot})"
    )
    yield f"gateway  {_gateway(status)}"
    yield (
        f"records  {status.issued} issued, {status.pending} pending,"
        f" {status.lost_unreported} lost and not yet reported"
    )
    yield (
        f"hard     {status.escalations_waiting} waiting for the cloud,"
        f" {status.revisions_waiting} revisions waiting for their clients"
    )
    if status.feedback_compared:
        yield (
            f"feedback {status.feedback_right} of {status.feedback_compared} answers right,"
            " by those who know"
        )
    if (usage := status.usage) is not None:
        yield f"uses     {_usage(usage)}"
    if (budget := status.budget) is not None:
        yield _budget(budget)
    if not status.tasks:
        yield "tasks    none yet: waiting for the gateway to say which package to run"
    for task in status.tasks:
        yield from _task(task, status.now)


def _usage(usage: Usage) -> str:
    heat = "" if usage.celsius is None else f", {usage.celsius:.0f} °C"
    return (
        f"{usage.cpu_share:.1%} of the processor{heat},"
        f" {(usage.supervisor_bytes + usage.worker_bytes) >> 20} MB of memory,"
        f" {usage.disk_bytes >> 20} MB of disk ({usage.disk_free_bytes >> 20} free);"
        f" this day {usage.uplink_bytes >> 10} kB sent, {usage.flash_bytes >> 10} kB written"
    )


def _budget(budget: BudgetReport) -> str:
    million = 1e6 if budget.unit == "bytes" else 1.0
    unit = "MB" if budget.unit == "bytes" else "of money"
    price = (
        "nothing is spent any more"
        if budget.price is None
        else f"1 {unit} must bring {budget.price * million:.3g} right answers"
    )
    return (
        f"budget   {budget.spent / million:.4g} of {budget.limit / million:.4g} {unit} spent in"
        f" this hour, the next begins in {_age(budget.ends_in_s)}; {price}"
    )


def _gateway(status: StatusReport) -> str:
    if not status.gateway:
        return "none: this device answers alone"
    contact = (
        "no contact yet"
        if status.last_contact is None
        else f"last contact {_age(status.now - status.last_contact)} ago"
    )
    state = "connected" if status.connected else "not connected"
    if status.turned_away is not None:
        state = f"turned away ({status.turned_away})"
    return f"{status.gateway} over {status.link}: {state}, {contact}"


def _task(task: TaskReport, now_s: float) -> Iterator[str]:
    loaded = f"{task.version} ({task.digest[:12]})" if task.version and task.digest else "nothing"
    doing = "" if task.update == "idle" else f", {task.update.replace('_', ' ')} of {task.wanted}"
    pid = "" if task.pid is None else f", pid {task.pid}"
    yield f"task     {task.task}: {task.state} {loaded}{pid}, {task.restarts} restarts{doing}"
    if (on := task.runs_on) is not None:
        where = f"{on.runtime} on {on.provider} in {on.precision}"
        edition = "" if on.edition == "main" else f", edition {on.edition}"
        yield f"         runs on {where}{edition} ({on.why})"
    if task.unanswered:
        yield f"         unanswered: {task.unanswered} requests, the model was not done in time"
    if task.uncertified is not None:
        yield f"         uncertified: {task.uncertified}"
    if (source := task.source) is not None:
        yield from _source(source, now_s)
    if task.degraded is not None:
        yield f"         degraded: {task.degraded}"
    if task.one_at_a_time is not None:
        yield f"         swaps one at a time: {task.one_at_a_time}"
    if task.last_end is not None:
        yield f"         last ended: {task.last_end}"
    if task.risk is not None:
        yield from _risk(task.risk)
    for refused in task.refused:
        ago = _age(now_s - refused.at)
        yield f"         refused {refused.version} {ago} ago: {refused.code}: {refused.reason}"


def _source(source: SourceState, now_s: float) -> Iterator[str]:
    last = "" if source.last_input is None else f", the last {_age(now_s - source.last_input)} ago"
    skipped = ", ".join(f"{one.count} {one.reason}" for one in source.skipped) or "none"
    yield (
        f"         source {source.kind} {source.state}: {source.offered} inputs{last},"
        f" {source.answered} answered, skipped: {skipped}"
    )
    if source.error:
        yield f"         source trouble: {source.error}"


def _risk(risk: RiskReport) -> Iterator[str]:
    certificate = risk.certificate or "no certificate"
    if risk.mode == "uncertified":
        yield f"         risk: nothing is promised ({risk.why})"
        return
    seen = (
        f"{risk.losses} of {risk.audits} audits differ, risk {risk.low:.1%} to {risk.high:.1%},"
        f" at most {risk.promised:.1%} promised, evidence {risk.evidence:.0%}"
    )
    yield f"         {risk.mode} ({certificate}): {seen}"
    if risk.mode == "safe":
        yield f"         alarm: {risk.why}"
    if risk.waiting:
        yield f"         {risk.waiting} audits wait for the cloud"
    if risk.labelled:
        yield f"         {risk.wrong} of {risk.labelled} labelled audits wrong only here"
    if risk.advice is not None:
        yield f"         advice: {risk.advice}; that alone says nothing of the risk"


def _age(seconds: float) -> str:
    seconds = max(0.0, seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
