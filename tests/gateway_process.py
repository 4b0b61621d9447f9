"""`longstop-gateway` as people run it: a process of its own, spoken to by its own commands."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import msgspec

from cloud_gateway import cli
from cloud_gateway.shapes import Invitation, Serving

START_S = 60.0
END_S = 30.0
ROOT = Path(__file__).resolve().parent.parent
PROGRAM = [sys.executable, "-P", "-m", "cloud_gateway.cli"]


class GatewayProcess:
    """One running gateway."""

    def __init__(self, process: subprocess.Popen[str], serving: Serving, data: Path) -> None:
        self.process = process
        self.serving = serving
        self.data = data

    @property
    def children(self) -> list[int]:
        """Processes it has started and that run now."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def command(self, *words: str) -> str:
        """The output of an admin command, which must succeed."""
        done = run_command(*words, "--data", str(self.data))
        assert done.code == 0, done.stderr
        return done.stdout

    def add(self, name: str) -> Invitation:
        return msgspec.json.decode(self.command("device", "add", name, "--json"), type=Invitation)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Tell it to end and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(END_S)


class Done(NamedTuple):
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str


def run_command(*words: str) -> Done:
    """One `longstop-gateway` command, in this process; `serve` in one of its own."""
    if words[0] == "serve":
        done = subprocess.run(
            [*PROGRAM, *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)
    said, complained = io.StringIO(), io.StringIO()
    with redirect_stdout(said), redirect_stderr(complained):
        code = cli.main(words)
    return Done(code, said.getvalue(), complained.getvalue())


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextmanager
def gateway_process(data: Path, *words: str) -> Iterator[GatewayProcess]:
    """A gateway on free ports. Whatever a test left of it is killed in the end, by its pid."""
    process = subprocess.Popen(
        [
            *PROGRAM,
            "serve",
            "--data",
            str(data),
            "--port",
            "0",
            "--mqtt-port",
            "0",
            "--json",
            *words,
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": "error"},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            yield GatewayProcess(process, msgspec.json.decode(line, type=Serving), data)
        finally:
            if process.poll() is None:
                process.kill()
