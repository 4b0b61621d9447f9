"""What a client asks the agent itself, on `agent.sock`: tasks, status, revisions, feedback.

No I/O.
"""

import json
from collections.abc import Sequence
from typing import TypeVar, cast

from edge_agent.sdk import messages, wire
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

T = TypeVar("T")
_Table = dict[str, object]

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


def tell_feedback(client: str, task: str, request_id: object, label: object) -> bytes:
    """Say what the right answer to a request was. Raises `BadArgument`."""
    said = {"op": "feedback", "client": client, "task": task}
    for name, value, most in (("request_id", request_id, 128), ("label", label, 1024)):
        if not isinstance(value, str) or not 1 <= len(value) <= most:
            raise BadArgument(f"{name} must be text of 1 to {most} characters, not {value!r:.80}")
        said[name] = value
    return wire.head(json.dumps(said).encode())


def read_feedback(meta: bytes) -> bool:
    """Whether the feedback was the first word on its request. Raises `ProtocolMismatch`."""
    try:
        return _a(bool, _said(meta)["counted"])
    except (KeyError, TypeError) as error:
        raise _mismatch(error) from error


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
        return tuple(_a(str, task) for task in _a(list, _said(meta)["tasks"]))
    except (KeyError, TypeError) as error:
        raise _mismatch(error) from error


def read_revisions(meta: bytes) -> list[Revision]:
    """The revisions that were waiting. Raises `ProtocolMismatch`."""
    try:
        return [
            Revision(
                request_id=_a(str, one["request_id"]),
                task=_a(str, one["task"]),
                label=_a(str, one["label"]),
                confidence=_number_or_none(one["confidence"]),
                version=_a(str, one["version"]),
                at=_number(one["at"]),
                details=messages.details_of(_a(str, one.get("answer", ""))),
            )
            for one in _tables(_said(meta)["revisions"])
        ]
    except (KeyError, TypeError) as error:
        raise _mismatch(error) from error


def read_status(meta: bytes) -> Status:
    """What the supervisor says of the device. Raises `ProtocolMismatch`."""
    try:
        status = _table(_said(meta)["status"])
        return Status(
            device=_a(str, status["device"]),
            agent_version=_a(str, status["agent_version"]),
            gateway=_a(str, status["gateway"]),
            link=_a(str, status["link"]),
            connected=_a(bool, status["connected"]),
            last_contact=_number_or_none(status["last_contact"]),
            tasks=tuple(
                TaskStatus(
                    task=_a(str, task["task"]),
                    version=_text_or_none(task["version"]),
                    state=_a(str, task["state"]),
                    wanted=_text_or_none(task["wanted"]),
                )
                for task in _tables(status["tasks"])
            ),
            issued=_a(int, status["issued"]),
            pending=_a(int, status["pending"]),
            escalations_waiting=_a(int, status["escalations_waiting"]),
            revisions_waiting=_a(int, status["revisions_waiting"]),
        )
    except (KeyError, TypeError) as error:
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


def _said(meta: bytes) -> _Table:
    """What the agent answered, or what it refused as the same-named error."""
    try:
        said = _table(json.loads(meta))
        if said["ok"]:
            return said
        code, message = str(said["code"]), str(said["message"])
    except (ValueError, KeyError, TypeError) as error:
        raise _mismatch(error) from error
    raise error_of(code, message)


def _a(kind: type[T], value: object) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} where {kind.__name__} belongs")
    return value


def _table(value: object) -> _Table:
    # Out of JSON: its names are text.
    return cast("_Table", _a(dict, value))


def _tables(value: object) -> list[_Table]:
    return [_table(one) for one in _a(list, value)]


def _number(value: object) -> float:
    return float(value) if isinstance(value, int) else _a(float, value)


def _number_or_none(value: object) -> float | None:
    return None if value is None else _number(value)


def _text_or_none(value: object) -> str | None:
    return None if value is None else _a(str, value)


def _mismatch(error: Exception) -> ProtocolMismatch:
    return ProtocolMismatch(
        f"the agent's reply cannot be read ({error!r}); install the SDK that belongs to this agent"
    )
