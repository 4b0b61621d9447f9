"""Where the agent's sockets lie.

The run folder is, first of all that apply: what the caller names, LONGSTOP_RUN, `/run/longstop`
when it is there, else `~/.local/share/longstop/run`. In it the supervisor owns one socket per task,
`<task>.sock`, and `agent.sock` for everything that is not an input.
"""

import os
import re
from pathlib import Path

from edge_agent.sdk.errors import BadArgument, SocketPathTooLong

VARIABLE = "LONGSTOP_RUN"
SYSTEM = Path("/run/longstop")
LONGEST = 107
"""Bytes of a Unix socket's path on Linux."""
START = "start it with: longstop-agent run"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")


def run_folder(named: str | os.PathLike[str] | None = None) -> Path:
    """The folder to look in."""
    if named is not None:
        return Path(named)
    if told := os.environ.get(VARIABLE):
        return Path(told)
    if SYSTEM.is_dir():
        return SYSTEM
    return Path.home() / ".local" / "share" / "longstop" / "run"


def task_socket(folder: Path, task: str) -> str:
    """Path of a task's socket. Raises `BadArgument`, `SocketPathTooLong`."""
    return _socket(folder, checked_name("task", task))


def agent_socket(folder: Path) -> str:
    """Path of the agent's own socket. Raises `SocketPathTooLong`."""
    return _socket(folder, "agent")


def checked_name(argument: str, name: object) -> str:
    """A name that may stand in a path. Raises `BadArgument`."""
    if not isinstance(name, str) or _NAME.match(name) is None:
        raise BadArgument(
            f"{argument} {name!r} is not a name: letters, digits, dot, dash and underscore,"
            " at most 63, beginning with a letter or digit"
        )
    return name


def _socket(folder: Path, name: str) -> str:
    path = str(folder / f"{name}.sock")
    size = len(os.fsencode(path))
    if size > LONGEST:
        raise SocketPathTooLong(
            f"socket path {path} has {size} bytes, Unix allows {LONGEST};"
            f" choose a shorter run folder (run=… or {VARIABLE}, the same for agent and SDK)"
        )
    return path
