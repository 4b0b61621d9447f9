"""The installed programs as an operator starts them: a gateway with packages, an enrolled agent.

Each has a log in the bench's own folder and is ended by its own process id.
"""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from tests.bench.setting import NotMeasured

T = TypeVar("T")
_PATIENCE_S = 60.0
_GRACE_S = 15.0


class Serving(Struct, frozen=True):
    """What `longstop-gateway serve` says once it answers."""

    gateway: str
    mqtt: str | None
    broker: str


class Invitation(Struct, frozen=True):
    """What `device add` gives out."""

    gateway: str
    token: str
    key: str
    mqtt: str | None


def installed(program: str) -> str:
    """Path of one of our console scripts, beside the running interpreter."""
    return str(Path(sys.executable).with_name(program))


def until(
    what: str,
    happened: Callable[[], bool],
    *,
    otherwise: Callable[[], str] = str,
    within_s: float = _PATIENCE_S,
) -> None:
    """Wait for something to become true.

    Raises `NotMeasured` naming it when it does not, and saying what is so instead.
    """
    end = time.monotonic() + within_s
    while not happened():
        if time.monotonic() > end:
            raise NotMeasured(f"waited {within_s:.0f} s in vain until {what} {otherwise()}".strip())
        time.sleep(0.02)


@contextlib.contextmanager
def running(log: Path, *argv: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A program that stays until the block ends; both its outputs go to the log."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        stop(process)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask it to end, and make it if it does not."""
    process.terminate()
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def finish(*argv: str) -> bytes:
    """Run a program to its end and return what it printed. Raises `NotMeasured`."""
    done = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        words = done.stderr.decode(errors="replace")[-400:]
        raise NotMeasured(f"{Path(argv[0]).name} {' '.join(argv[1:3])} failed: {words}")
    return done.stdout


class Gateway:
    """A gateway that serves, and its operator's commands."""

    def __init__(self, home: Path, process: "subprocess.Popen[bytes]", serving: Serving) -> None:
        self.home = home
        self.pid = process.pid
        self.serving = serving

    def publish(self, folder: Path) -> None:
        """Sign a package and hand it over."""
        self._operate("package", "publish", str(folder), "--key", str(self.home / "publisher.key"))

    def desire(self, task: str, version: str) -> None:
        self._operate("package", "desire", task, version)

    def invite(self, device: str) -> Invitation:
        """Add a device."""
        said = self._operate("device", "add", device)
        return msgspec.json.decode(said, type=Invitation)

    def _operate(self, *words: str) -> bytes:
        data = str(self.home / "data")
        return finish(installed("longstop-gateway"), *words, "--data", data, "--json")


@contextlib.contextmanager
def gateway(home: Path, *, broker: str) -> Iterator[Gateway]:
    """A key, then `longstop-gateway serve` on free ports. Raises `NotMeasured`."""
    home.mkdir(parents=True)
    program, data, log = installed("longstop-gateway"), str(home / "data"), home / "serve.log"
    key = str(home / "publisher.key")
    finish(program, "key", "init", "--private", key, "--data", data, "--json")
    serve = ["serve", "--data", data, "--json", "--broker", broker]
    serve += ["--port", "0", "--mqtt-port", "0"]
    with running(log, program, *serve) as process:

        def said() -> Serving | None:
            return _first_line(log, Serving)

        until("the gateway serves", lambda: process.poll() is not None or said() is not None)
        serving = said()
        if serving is None:
            raise NotMeasured(f"the gateway ended at once: {log.read_text()[-400:]}")
        yield Gateway(home, process, serving)


def enrol(invitation: Invitation, device: str, data: Path) -> None:
    """Make a data folder a device of the gateway, as the printed line would."""
    words = ["enroll", "--gateway", invitation.gateway, "--device", device]
    # A token may begin with a dash, which alone would be read as another option.
    words += [f"--token={invitation.token}", "--key", invitation.key, "--data", str(data)]
    if invitation.mqtt:
        words += ["--mqtt", invitation.mqtt]
    finish(installed("longstop-agent"), *words)


def _first_line(log: Path, kind: type[T]) -> T | None:
    """The first line of a log that is such a JSON object, if there is one yet."""
    for line in log.read_bytes().splitlines():
        with contextlib.suppress(msgspec.DecodeError):
            return msgspec.json.decode(line, type=kind)
    return None
