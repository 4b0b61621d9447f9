"""A whole device at a gateway: what it holds, what it costs at rest, how fast it comes and returns.

Agent and gateway are the installed programs with their defaults; the package was published, wanted
and fetched as an operator would have it. The broker is mosquitto where there is one.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct, structs

from edge_agent.commands import status
from edge_agent.control.messages import StatusReport
from edge_agent.sdk import Client
from edge_agent.sdk.errors import LongstopError
from models import package
from models.manifest import Role
from models.tensors import Sample
from tests.bench.measure import Memory, cpu_seconds, memory
from tests.bench.programs import Gateway, enrol, gateway, installed, running, until
from tests.bench.rows import KillRow, ProcessRow, StartRow
from tests.bench.setting import NotMeasured
from tests.bench.steady_load import DEADLINE_MS, SteadyLoad

_NAME = "bench-1"
_VERSION = "1"
_WARM_REQUESTS = 500
_SETTLE_S = 3.0
_CALLERS = 4
_PAUSE_S = 0.01
_LOAD_S = 1.0
_BARE = """
import os, sys
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
given = session.get_inputs()[0]
session.run(None, {given.name: numpy.zeros([1, *given.shape[1:]], numpy.float32)})
print(flush=True)
"""


class Device(Struct, frozen=True):
    """An enrolled device of one task, whether its agent runs or not."""

    data: Path
    folder: Path
    """The package it runs."""
    task: str
    raw: Sample
    link: str = "http"
    """The default of enrolment: MQTT wherever the gateway has a broker."""

    @property
    def run(self) -> Path:
        return self.data / "run"

    @contextlib.contextmanager
    def agent(self) -> Iterator["subprocess.Popen[bytes]"]:
        """`longstop-agent run` inside the block."""
        words = [installed("longstop-agent"), "run", "--data", str(self.data)]
        with running(self.data / "agent.log", *words) as process:
            yield process

    def client(self) -> Client:
        return Client(self.task, run=self.run)

    def report(self) -> StatusReport | None:
        """What the agent says of itself; None while nobody answers."""
        with contextlib.suppress(LongstopError):
            return status.ask(self.run)
        return None

    def worker(self) -> int:
        """The process that answers. Raises `NotMeasured`."""
        report = self.report()
        for task in report.tasks if report is not None else ():
            if task.state == "serving" and task.pid is not None:
                return task.pid
        raise NotMeasured(f"no worker serves {self.task}: {self._log()}")

    def at_rest(self) -> bool:
        """Serving, linked, and owing the gateway nothing."""
        report = self.report()
        return (
            report is not None
            and report.connected
            and report.pending == 0
            and any(task.state == "serving" for task in report.tasks)
        )

    def first_answer(self, agent: "subprocess.Popen[bytes]") -> None:
        """Ask until there is an answer. Raises `NotMeasured`."""
        end = time.monotonic() + DEADLINE_MS / 1000
        with self.client() as client:
            while True:
                try:
                    client.infer(self.raw, deadline_ms=DEADLINE_MS)
                except LongstopError as error:
                    if agent.poll() is not None or time.monotonic() > end:
                        raise NotMeasured(f"no answer ({error}): {self._log()}") from error
                    time.sleep(0.002)
                else:
                    return

    def words(self) -> str:
        """How the device is, for a sentence that says why there is no figure."""
        report = self.report()
        said = "nobody answers" if report is None else ", ".join(status.lines(report))
        return f"({said}; the log ends: {self._log()})"

    def _log(self) -> str:
        return (self.data / "agent.log").read_text(errors="replace")[-400:]


@contextlib.contextmanager
def device(home: Path, folder: Path, task: str, raw: Sample) -> Iterator[tuple[Device, Gateway]]:
    """A gateway that serves, and a device of it that has fetched its package and was stopped."""
    with gateway(home / "cloud", broker="auto") as cloud:
        yield _enrolled(cloud, Device(home / _NAME, folder, task, raw)), cloud


def rest(one: Device, seconds: float) -> list[ProcessRow]:
    """Supervisor and worker of an idle device with its link up. Raises `NotMeasured`."""
    with one.agent() as agent:
        one.first_answer(agent)
        with one.client() as client:
            for _ in range(_WARM_REQUESTS):
                client.infer(one.raw, deadline_ms=DEADLINE_MS)
        until("the device is at rest", one.at_rest, otherwise=one.words)
        time.sleep(_SETTLE_S)
        pids = (agent.pid, one.worker())
        held = memory(pids)
        before, begun = [cpu_seconds(pid) for pid in pids], time.perf_counter()
        time.sleep(seconds)
        after, took_s = [cpu_seconds(pid) for pid in pids], time.perf_counter() - begun
        if not one.at_rest() or one.worker() != pids[1]:
            raise NotMeasured("the device did not stay at rest, linked and with the same worker")
    used_s = [ends - begins for begins, ends in zip(before, after, strict=True)]
    return [
        _row("supervisor", one.link, held[:1], used_s[:1], took_s),
        _row("worker", one.link, held[1:], used_s[1:], took_s),
        _row("both", one.link, held, used_s, took_s),
    ]


def start_and_kill(one: Device) -> tuple[StartRow, KillRow]:
    """One start of the agent, then one worker of it killed under load. Raises `NotMeasured`."""
    file = package.read(one.folder, Role.EDGE).first_model
    floor_ms = _bare_start_ms(file)
    begun = time.perf_counter()
    with one.agent() as agent:
        one.first_answer(agent)
        start = StartRow(round((time.perf_counter() - begun) * 1000, 1), floor_ms)
        return start, _kill(one)


def _kill(one: Device) -> KillRow:
    """An answer in a dead worker's socket is none: only a request made after its death counts."""
    with one.client() as client:
        with SteadyLoad(one.client, one.raw, callers=_CALLERS, pause_s=_PAUSE_S) as load:
            time.sleep(_LOAD_S)
            worker = one.worker()
            killed = time.perf_counter()
            os.kill(worker, signal.SIGKILL)
            while _alive(worker):
                time.sleep(0.0005)
            client.infer(one.raw, deadline_ms=DEADLINE_MS)
            recovered = time.perf_counter()
            time.sleep(_LOAD_S)
        if one.worker() == worker:
            raise NotMeasured(f"worker {worker} was killed and still answers")
    return KillRow(
        recover_ms=round((recovered - killed) * 1000, 1),
        longest_wait_ms=round(max(one.took_s for one in load.asked) * 1000, 1),
        asked=len(load.asked),
        failed=load.failed,
    )


def _row(
    name: str, link: str, held: list[Memory], used_s: list[float], took_s: float
) -> ProcessRow:
    return ProcessRow(
        process=name,
        link=link,
        private_mb=round(sum(its.private_mb for its in held), 1),
        pss_mb=round(sum(its.pss_mb for its in held), 1),
        alone_mb=round(sum(its.alone_mb for its in held), 1),
        rss_mb=round(sum(its.rss_mb for its in held), 1),
        idle_cpu_percent=round(100 * sum(used_s) / took_s, 4),
        idle_s=round(took_s, 1),
    )


def _enrolled(cloud: Gateway, one: Device) -> Device:
    cloud.publish(one.folder)
    cloud.desire(one.task, _VERSION)
    one.data.mkdir(parents=True)
    enrol(cloud.invite(_NAME), _NAME, one.data)
    if cloud.serving.mqtt is not None:
        one = structs.replace(one, link=f"mqtt by {cloud.serving.broker}")
    with one.agent():
        until(f"the device has fetched {one.task}", one.at_rest, otherwise=one.words)
    return one


def _bare_start_ms(file: Path) -> float:
    """A bare interpreter from its start until it has run the model once."""
    begun = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-P", "-c", _BARE, str(file)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        took_s = time.perf_counter() - begun
    if not said:
        raise NotMeasured("a bare interpreter did not run the model")
    return round(took_s * 1000, 1)


def _alive(pid: int) -> bool:
    """False once a process no longer runs, whether or not its parent has taken note."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"
