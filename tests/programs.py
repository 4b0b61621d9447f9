"""Real programs for tests that need them: a gateway and agents as processes of their own.

Each has free ports, a temporary folder and a log there, and is ended by its own process id.
"""

import json
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cloud_gateway.admin import make_key, open_admin
from cloud_gateway.commands.device import enrol_line
from cloud_gateway.shapes import DesiredVersion
from edge_agent.commands import status
from edge_agent.sdk import AgentUnavailable, Client
from models.twins import build_twin

TASK = "sides"
PYTHON = [sys.executable, "-P", "-m"]


def until(condition: Callable[[], object], *, within_s: float = 30.0, what: str = "") -> None:
    """Wait for it, looking often."""
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {within_s} s: {what or condition}")
        time.sleep(0.02)


class Program:
    """A process with its log, told to end when the test does."""

    def __init__(self, command: list[str], log: Path, **environ: str) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=output,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **environ},
            )

    def said(self) -> str:
        """The log so far."""
        return self.log.read_text(errors="replace")

    def stop(self, number: signal.Signals = signal.SIGTERM, *, within_s: float = 20.0) -> int:
        """Signal it and wait; gives back the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"did not end; its log: {self.said()}") from None
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            print(f"--- {self.log.name}\n{self.said()[-6000:]}", file=sys.stderr)
        self.stop()


class Gateway(Program):
    """`longstop-gateway serve`, with a signing key; its operator is this test."""

    def __init__(self, folder: Path, *, broker: str = "none", words: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.data = folder / "gateway"
        self._key = folder / "publisher.key"
        folder.mkdir(parents=True, exist_ok=True)
        make_key(self.data, self._key)
        super().__init__(
            [
                *PYTHON,
                "cloud_gateway.cli",
                "serve",
                *("--data", str(self.data), "--port", "0", "--mqtt-port", "0"),
                *("--broker", broker, "--json"),
                *words,
            ],
            folder / "gateway.log",
        )
        if self.process.stdout is None or not (line := self.process.stdout.readline()):
            raise AssertionError(f"the gateway did not start: {self.said()}")
        self.url: str = json.loads(line)["gateway"]
        self.admin = open_admin(self.data, None, None)

    def stop(self, number: signal.Signals = signal.SIGTERM, *, within_s: float = 20.0) -> int:
        self.admin.close()
        return super().stop(number, within_s=within_s)

    def invite(self, name: str) -> list[str]:
        """The words of the line that enrols a device, without the program's name."""
        return shlex.split(enrol_line(self.admin.add_device(name)))[1:]

    def publish(self, version: str, *, task: str = TASK) -> None:
        """A twin package, signed and stored."""
        self.publish_folder(build_twin(task, version, self.folder / f"{task}-{version}"))

    def publish_folder(self, package: Path) -> None:
        """A package that was built, signed and stored."""
        self.admin.publish(package, self._key, lambda _name, _sent, _total: None)

    def desire(self, version: str, *devices: str, task: str = TASK) -> None:
        """These devices, or all, should run it."""
        self.admin.desire(DesiredVersion(task, version, devices, all=not devices))

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Straight from its database."""
        path = self.data / "gateway.db"
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            return database.execute(query, values).fetchall()


class Agent(Program):
    """`longstop-agent run`, enrolled."""

    def __init__(self, folder: Path, invitation: list[str], *settings: str, debug: bool = False):
        self.data = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.run = folder / "run"
        self.device = invitation[invitation.index("--device") + 1] if invitation else ""
        self._settings = settings
        self._debug = "1" if debug else "0"
        if invitation:
            done = subprocess.run(
                [*PYTHON, "edge_agent", *invitation, "--data", str(folder)],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{shlex.join(invitation)}: {done.stderr}"
        sets = [word for setting in settings for word in ("--set", setting)]
        super().__init__(
            [*PYTHON, "edge_agent", "run", "--data", str(folder), *sets],
            folder / "agent.log",
            LONGSTOP_DEBUG=self._debug,
        )

    def again(self) -> "Agent":
        """The same agent, started anew."""
        return Agent(self.data, [], *self._settings, debug=self._debug == "1")

    def client(self, task: str | None = TASK, *, name: str = "test") -> Client:
        return Client(task, name=name, run=self.run)

    def status(self) -> dict[str, Any]:
        """As `longstop-agent status --json` has it; without tasks while nobody answers."""
        try:
            told: dict[str, Any] = json.loads(status.as_json(status.ask(self.run)))
        except AgentUnavailable:
            assert self.process.poll() is None, f"the agent ended: {self.said()[-2000:]}"
            return {"tasks": []}
        return told

    def tell(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A verb of `longstop-agent` on this data folder."""
        return subprocess.run(
            [*PYTHON, "edge_agent", *words, "--data", str(self.data)],
            capture_output=True,
            text=True,
            check=False,
        )

    def serves(self, version: str, *, task: str = TASK) -> bool:
        return any(
            (one["task"], one["version"], one["state"]) == (task, version, "serving")
            for one in self.status()["tasks"]
        )

    def worker(self, *, task: str = TASK) -> int | None:
        """Process id of the worker, by what the log says last."""
        marks = [line for line in self.said().splitlines() if "worker.serving" in line]
        return int(marks[-1].split("pid=")[1].split()[0]) if marks else None
