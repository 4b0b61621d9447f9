"""The sockets of the run folder: made here, owned by the supervisor, inherited by its workers.

1. A socket left behind by an agent that died is replaced: nobody answers on it.
2. One that somebody answers on is not ours to take, and neither is a file of another kind.
3. What was made here is removed at the end; a task's socket outlives its workers.
"""

import contextlib
import socket
import stat
from pathlib import Path

from edge_agent.errors import AgentAlreadyRunning, AgentError, SocketTaken
from edge_agent.sdk.places import agent_socket, task_socket

BACKLOG = 256
_KNOCK_S = 0.5


class RunFolder:
    """The folder, and the sockets this agent has in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, socket.socket] = {}

    def agent(self) -> socket.socket:
        """`agent.sock`. Raises `AgentAlreadyRunning`, `SocketTaken`, `SocketPathTooLong`."""
        return self._listen(agent_socket(self._folder))

    def task(self, task: str) -> socket.socket:
        """The socket of a task, the same one every time. Raises as `agent` does."""
        return self._listen(task_socket(self._folder, task))

    def close(self) -> None:
        """Close and remove them all."""
        for path, listening in self._open.items():
            listening.close()
            Path(path).unlink(missing_ok=True)
        self._open.clear()

    def _listen(self, path: str) -> socket.socket:
        if path in self._open:
            return self._open[path]
        listening = socket.socket(socket.AF_UNIX)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _clear(Path(path))
            listening.bind(path)
            listening.listen(BACKLOG)
        except OSError as error:
            listening.close()
            raise SocketTaken(
                f"no socket can be made at {path}: {error.strerror}; choose another run folder"
                " (--set run=…)"
            ) from error
        except AgentError:
            listening.close()
            raise
        listening.setblocking(False)
        self._open[path] = listening
        return listening


def _clear(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketTaken(
            f"{path} is not a socket; move it away or choose another run folder (--set run=…)"
        )
    with socket.socket(socket.AF_UNIX) as knocking:
        knocking.settimeout(_KNOCK_S)
        try:
            knocking.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            return
        except OSError as error:
            raise SocketTaken(f"{path} cannot be tried: {error.strerror}") from error
    raise AgentAlreadyRunning(
        f"another agent answers at {path}; stop it, or choose another run folder (--set run=…)"
    )
