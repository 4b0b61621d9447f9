"""What a client asks the agent itself, on `agent.sock`: tasks, status, revisions. No I/O."""

import json
from collections.abc import Sequence
from typing import Any

from edge_agent.sdk import wire
from edge_agent.sdk.answer import Revision, Status, TaskStatus
from edge_agent.sdk.errors import (
    BadArgument,
    ProtocolMismatch,
    TaskRequired,
    UnknownTask,
    error_of,
)

REVISIONS_AT_ONCE = 100
ASK_S = 5.0
"""How long the agent may take for an answer it has at hand."""

LONGEST_POLL_S = 30.0
"""The agent hears from a waiting client at least this often."""

TASKS = wire.head(b'{"op":"tasks"}')
STATUS = wire.head(b'{"op":"status"}')


def ask_revisions(client: str, taken: Sequence[str], wait_s: float) -> bytes:
    """Ask for what is waiting; `taken` are the request ids the caller is done with."""
    question = {
        "op": "revisions",
        "client": client,
        "taken": list(taken),
        "limit": REVISIONS_AT_ONCE,
        "wait_ms": round(wait_s * 1000),
    }
    return wire.head(json.dumps(question).encode())


def checked_wait_s(wait_s: object) -> float:
    """How long to wait for a revision. Raises `BadArgument`."""
    if isinstance(wait_s, bool) or not isinstance(wait_s, int | float) or not wait_s >= 0:
        raise BadArgument(f"wait_s must be a number of seconds of at least 0, not {wait_s!r}")
    return wait_s


def poll_s(left_s: float) -> float:
    """How long one question may wait when this much is left."""
    return min(max(0.0, left_s), LONGEST_POLL_S)


def read_tasks(meta: bytes) -> tuple[str, ...]:
    """The tasks the device serves. Raises `ProtocolMismatch`."""
    try:
        return tuple(str(task) for task in _said(meta)["tasks"])
    except (KeyError, TypeError) as error:
        raise _mismatch(error) from error


def read_revisions(meta: bytes) -> list[Revision]:
    """The revisions that were waiting. Raises `ProtocolMismatch`."""
    try:
        return [
            Revision(
                request_id=one["request_id"],
                task=one["task"],
                label=one["label"],
                confidence=one["confidence"],
                version=one["version"],
                at=one["at"],
            )
            for one in _said(meta)["revisions"]
        ]
    except (KeyError, TypeError) as error:
        raise _mismatch(error) from error


def read_status(meta: bytes) -> Status:
    """What the supervisor says of the device. Raises `ProtocolMismatch`."""
    try:
        status = _said(meta)["status"]
        return Status(
            device=status["device"],
            agent_version=status["agent_version"],
            gateway=status["gateway"],
            link=status["link"],
            connected=status["connected"],
            last_contact=status["last_contact"],
            tasks=tuple(
                TaskStatus(task["task"], task["version"], task["state"], task["wanted"])
                for task in status["tasks"]
            ),
            issued=status["issued"],
            pending=status["pending"],
            escalations_waiting=status["escalations_waiting"],
            revisions_waiting=status["revisions_waiting"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _mismatch(error) from error


def only_task(tasks: tuple[str, ...]) -> str:
    """The task meant by a client that names none. Raises `TaskRequired`."""
    if len(tasks) == 1:
        return tasks[0]
    if not tasks:
        raise TaskRequired(
            "this device serves no task yet; see longstop-agent status for what it is waiting for"
        )
    raise TaskRequired(
        f"this device serves {', '.join(sorted(tasks))}: say which, as in"
        f" Client(task={min(tasks)!r})"
    )


def unknown_task(task: str, tasks: tuple[str, ...]) -> UnknownTask:
    """The error for a task the device does not serve."""
    serves = ", ".join(sorted(tasks)) or "none yet"
    return UnknownTask(
        f"this device does not serve task {task!r}; it serves: {serves}."
        " Correct the name, or give the device a package for it"
    )


def _said(meta: bytes) -> Any:
    try:
        said = json.loads(meta)
        ok = said["ok"]
        if ok:
            return said
        code, message = str(said["code"]), str(said["message"])
    except (ValueError, KeyError, TypeError) as error:
        raise _mismatch(error) from error
    raise error_of(code, message)


def _mismatch(error: Exception) -> ProtocolMismatch:
    return ProtocolMismatch(
        f"the agent's reply cannot be read ({error!r}); install the SDK that belongs to this agent"
    )
