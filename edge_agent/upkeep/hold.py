"""One agent on a data folder at a time."""

import fcntl
import os
from pathlib import Path

from edge_agent.errors import AgentAlreadyRunning, DataFolderUnusable


class Held:
    """A lock that ends with its process, kill -9 included.

    Raises `AgentAlreadyRunning`, `DataFolderUnusable`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DataFolderUnusable(
                f"{self._path.parent} cannot be used: {error.strerror}; choose another data folder"
                " (--data) or give the agent the right to write there"
            ) from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._handle, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._handle)
            raise AgentAlreadyRunning(
                f"the agent with process id {holder} runs on {self._path.parent}; stop it first,"
                " or give this one a data folder of its own (--data)"
            ) from error
        os.ftruncate(self._handle, 0)
        os.write(self._handle, f"{os.getpid()}\n".encode())

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)
