"""The agent itself: does it run, does it answer, and what does it say of its tasks?"""

import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from edge_agent.commands.checks.finding import Finding, Patient, broken, ok, warning
from edge_agent.control.messages import TaskReport

MANY_RESTARTS = 3
_START = "start it: longstop-agent run"


def agent(patient: Patient) -> Iterator[Finding]:
    """Whether an agent runs on this data folder and answers."""
    holder = _holder(patient.data / "agent.lock")
    status = patient.status
    if status is not None:
        yield ok("agent", f"runs (version {status.agent_version}, boot {status.boot})")
        for task in status.tasks:
            yield _task(task)
        if not status.tasks:
            yield warning(
                "tasks",
                "no package has come yet",
                "on the gateway: longstop-gateway package desire, for this device or for all",
            )
    elif holder is not None:
        yield broken(
            "agent",
            f"process {holder} holds the data folder and does not answer",
            f"read its log; if it hangs, end it (kill {holder}) and {_START}",
        )
    elif (patient.run / "agent.sock").exists():
        yield broken(
            "agent",
            "does not run, and did not end in order: its socket is still there",
            f"read its log for the reason, then {_START}; the start replaces the socket",
        )
    else:
        yield warning("agent", "does not run", _START)


def sockets(patient: Patient) -> Iterator[Finding]:
    """Whether programs can reach what should answer in the run folder."""
    from edge_agent.sdk.errors import LongstopError
    from edge_agent.sdk.places import agent_socket

    try:
        agent_socket(patient.run)
    except LongstopError as error:
        yield broken("sockets", str(error), 'set a shorter run folder: run = "/run/longstop"')
        return
    if not patient.run.exists():
        yield ok("sockets", f"none yet; {patient.run} is made at the start")
        return
    if os.statvfs(patient.run).f_flag & os.ST_RDONLY:
        yield broken(
            "sockets",
            f"{patient.run} lies on a read-only file system",
            "what is said of the file system, or another run folder: run = …",
        )
        return
    if not os.access(patient.run, os.W_OK | os.X_OK):
        yield broken(
            "sockets",
            f"{patient.run} belongs to user {patient.run.stat().st_uid} and may not be written",
            "give the agent's user that folder, or another one: run = …",
        )
        return
    found = sorted(patient.run.glob("*.sock"))
    in_the_way = [path.name for path in found if not path.is_socket()]
    silent = [path.name for path in found if path.is_socket() and not _answers(path)]
    if in_the_way:
        yield broken(
            "sockets",
            f"{', '.join(in_the_way)} in {patient.run} are no sockets",
            "move them away; the agent does not delete what it has not made",
        )
    if silent and patient.status is not None:
        yield warning(
            "sockets",
            f"nobody answers at {', '.join(silent)} in {patient.run}",
            "they are of tasks this device no longer serves: remove them",
        )
    elif silent:
        yield ok("sockets", f"{len(silent)} left by an agent that died; the next start clears them")
    elif not in_the_way:
        yield ok("sockets", f"{len(found)} in {patient.run}, all answer")


def _task(task: TaskReport) -> Finding:
    name = f"task {task.task}"
    what = f"{task.state} {task.version or 'nothing'}"
    if task.state == "failed":
        return broken(
            name,
            f"{what}: its worker does not come up ({task.restarts} restarts)",
            "read the agent's log for worker.failed; set another version on the gateway",
        )
    if task.uncertified is not None:
        return warning(
            name,
            f"{what}, uncertified: {task.uncertified}",
            "its answers carry no promise here; make a certificate for this device"
            " (longstop-models calibrate)",
        )
    if task.restarts >= MANY_RESTARTS:
        return warning(
            name, f"{what}, after {task.restarts} restarts", "read the agent's log for worker.ended"
        )
    if task.refused:
        last = task.refused[-1]
        return warning(
            name,
            f"{what}; refused {last.version}: {last.code}: {last.reason}",
            "correct the package and publish it under a new version",
        )
    if task.state != "serving":
        return warning(name, what, "wait a minute; if it stays, read the agent's log")
    return ok(name, f"{what} in process {task.pid}")


def _holder(lock: Path) -> str | None:
    """Process id of who holds the data folder; None where nobody does."""
    try:
        handle = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(handle, 32).decode(errors="replace").strip() or "unknown"
    finally:
        os.close(handle)
    return None


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as knocking:
        knocking.settimeout(0.5)
        try:
            knocking.connect(str(path))
        except OSError:
            return False
    return True
