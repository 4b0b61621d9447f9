"""How late answers are, and whether they come at all, while the cloud is sick.

A real device (supervisor, worker, SDK) is asked hard cases by four callers with deadlines of 100,
300 and 1000 ms, through a link with one fault after the other. Overrun is the moment the caller has
its answer minus its deadline, by the caller's own clock; below zero is early. Floor: a device that
has no cloud. Control: a client of an HTTP library that waits for the cloud under a timeout of its
own and falls back to the edge's answer then.
"""

import contextlib
import http.client
import itertools
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from edge_agent.sdk import Client, DeadlineExceeded, LongstopError
from models.tensors import Sample
from models.twins import build_twin, twin_sample
from tests.bench.programs import Gateway, enrol, finish, gateway, installed, running, until
from tests.bench.setting import NotMeasured, Setting, begin, end, note
from tests.sick_cloud import QUESTIONS, TRANSPORT

SAYS = "how late answers are while the cloud is sick in each way we know"
TASK, VERSION, DEVICE = "sides", "1.0.0", "bench-1"
CALLERS = 4
DEADLINES_MS = (100, 300, 1000)
PAUSE_S = 0.01
LIMIT_MS = 10.0
BROKER = ("broker_refuse", "broker_black_hole", "all_half_open")
DNS = ("dns_unknown", "dns_hangs")
NAIVE_TIMEOUT_S = 1.0
_GRACE_S = 60.0
_FAST = ("cloud.pace.probe.base_s=0.2", "cloud.pace.probe.cap_s=0.5", "cloud.pace.beat_s=1")


class DeadlineRow(Struct, frozen=True):
    """One fault. Overruns are percentiles over all requests of all deadlines, in ms."""

    fault: str
    requests: int
    answered: int
    unanswered: int
    errors: int
    """Requests that ended in any other way than an answer or `DeadlineExceeded`."""
    from_cloud: int
    overrun_p50_ms: float
    overrun_p99_ms: float
    overrun_max_ms: float
    overrun_p99_ms_100: float
    """Of the requests with a deadline of 100 ms; the two below likewise."""
    overrun_p99_ms_300: float
    overrun_p99_ms_1000: float


class DeadlineFigures(Setting, frozen=True, kw_only=True):
    """The worst of all rows; `floor_` without a cloud, `control_` with a naive client."""

    overrun_p99_ms: float | None
    unanswered: int | None
    floor_overrun_p99_ms: float | None
    control_overrun_p99_ms: float | None
    rows: tuple[DeadlineRow, ...]
    why: dict[str, str]


class Plan(Struct, frozen=True):
    """How long each fault lasts."""

    seconds: float


QUICK, FULL = Plan(2.5), Plan(20.0)


class Asked(Struct, frozen=True):
    """What became of one request."""

    deadline_ms: int
    overrun_ms: float
    source: str
    """`edge`, `cloud`, `none` (unanswered) or `error`."""


class Proxy:
    """`tests.sick_cloud` as a process of its own, so that it takes nothing from the callers."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        assert process.stdout is not None
        self.http, self.mqtt = map(int, process.stdout.readline().split())

    def be(self, fault: str, *kinds: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join((fault, *kinds)) + "\n")
        self._process.stdin.flush()
        if self._process.stdout.readline().strip() != "ok":
            raise NotMeasured(f"the proxy did not become {fault}")


@contextlib.contextmanager
def proxy(http_port: int, mqtt_port: int) -> Iterator[Proxy]:
    command = [sys.executable, "-P", "-m", "tests.sick_cloud", str(http_port), str(mqtt_port)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Proxy(process)
        finally:
            process.kill()


@contextlib.contextmanager
def agent(data: Path, log: Path, *settings: str, within: Sequence[str] = ()) -> Iterator[None]:
    """The device of this data folder, serving. Raises `NotMeasured`."""
    words = [word for setting in (*_FAST, *settings) for word in ("--set", setting)]
    command = [*within, installed("longstop-agent"), "run", "--data", str(data), *words]
    with running(log, *command) as process:

        def serves() -> bool:
            if process.poll() is not None:
                raise NotMeasured(f"the agent ended: {log.read_text()[-400:]}")
            with contextlib.suppress(LongstopError), client(data) as asking:
                asking.infer(hard(), deadline_ms=1000)
                return True
            return False

        until("the device answers", serves, within_s=_GRACE_S)
        yield


def client(data: Path) -> Client:
    return Client(TASK, name="bench", run=data / "run")


def hard() -> Sample:
    return twin_sample(0, 2, confidence=0.5)


def load(data: Path, seconds: float) -> list[Asked]:
    """What became of all requests of four callers in that time."""
    stop = time.monotonic() + seconds
    found: list[list[Asked]] = [[] for _ in range(CALLERS)]

    def call(number: int) -> None:
        given = hard()
        deadlines = itertools.cycle(DEADLINES_MS[number % 3 :] + DEADLINES_MS[: number % 3])
        with client(data) as asking:
            while time.monotonic() < stop:
                found[number].append(ask(asking, given, next(deadlines)))
                time.sleep(PAUSE_S)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [one for asked in found for one in asked]


def ask(asking: Client, given: Sample, deadline_ms: int) -> Asked:
    began = time.perf_counter()
    try:
        source: str = asking.infer(given, deadline_ms=deadline_ms).source
    except DeadlineExceeded:
        source = "none"
    except Exception as error:  # noqa: BLE001 - any exception to a caller is what is counted here
        note(f"{type(error).__name__}: {error}")
        source = "error"
    return Asked(deadline_ms, (time.perf_counter() - began) * 1000 - deadline_ms, source)


def row(fault: str, asked: Sequence[Asked]) -> DeadlineRow:
    """One fault's requests, summed up."""
    overruns = [one.overrun_ms for one in asked]
    sources = [one.source for one in asked]

    def p99_of(deadline_ms: int) -> float:
        return percentile([one.overrun_ms for one in asked if one.deadline_ms == deadline_ms], 0.99)

    return DeadlineRow(
        fault=fault,
        requests=len(asked),
        answered=sources.count("edge") + sources.count("cloud"),
        unanswered=sources.count("none"),
        errors=sources.count("error"),
        from_cloud=sources.count("cloud"),
        overrun_p50_ms=round(statistics.median(overruns), 2),
        overrun_p99_ms=percentile(overruns, 0.99),
        overrun_max_ms=percentile(overruns, 1.0),
        overrun_p99_ms_100=p99_of(100),
        overrun_p99_ms_300=p99_of(300),
        overrun_p99_ms_1000=p99_of(1000),
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share does not exceed; NaN-free, 0 of nothing."""
    if not values:
        return 0.0
    return round(sorted(values)[max(0, math.ceil(share * len(values)) - 1)], 2)


def naive(port: int, seconds: float) -> list[Asked]:
    """The control: asks the cloud, waits under a timeout of its own, answers itself after it."""
    stop = time.monotonic() + seconds
    found: list[Asked] = []
    for deadline_ms in itertools.cycle(DEADLINES_MS):
        if time.monotonic() > stop:
            return found
        began = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=NAIVE_TIMEOUT_S)
        try:
            connection.request("POST", f"/v2/models/{TASK}/infer", b"x" * 64)
            connection.getresponse().read()
            source = "cloud"
        except (OSError, http.client.HTTPException):
            source = "edge"
        finally:
            connection.close()
        found.append(Asked(deadline_ms, (time.perf_counter() - began) * 1000 - deadline_ms, source))
    return found


class Bench:
    """One gateway, one enrolled device, and what was found."""

    def __init__(self, home: Path, plan: Plan) -> None:
        self._home = home
        self._plan = plan
        self._data = home / "device"
        self.rows: list[DeadlineRow] = []
        self.why: dict[str, str] = {}
        self.floor: float | None = None
        self.control: float | None = None

    def run(self) -> None:
        package = build_twin(TASK, VERSION, self._home / "package")
        self._take("floor_overrun_p99_ms", lambda: self._without_a_cloud(package))
        self._take("overrun_p99_ms unanswered control_overrun_p99_ms", lambda: self._sick(package))

    def _take(self, keys: str, measure: Callable[[], None]) -> None:
        try:
            measure()
        except (NotMeasured, OSError) as error:
            note(str(error))
            self.why.update(dict.fromkeys(keys.split(), str(error)))

    def _without_a_cloud(self, package: Path) -> None:
        alone = self._home / "alone"
        alone.mkdir()
        command = [installed("longstop-agent"), "run", "--data", str(alone)]
        with running(self._home / "alone.log", *command, "--package", str(package)):

            def serves() -> bool:
                with contextlib.suppress(LongstopError), client(alone) as asking:
                    asking.infer(hard(), deadline_ms=1000)
                    return True
                return False

            until("a device without a cloud answers", serves)
            found = row("no_cloud", load(alone, self._plan.seconds))
        self.rows.append(found)
        self.floor = found.overrun_p99_ms

    def _sick(self, package: Path) -> None:
        with gateway(self._home / "cloud", broker="auto") as cloud:
            cloud.publish(package)
            cloud.desire(TASK, VERSION)
            enrol(cloud.invite(DEVICE), DEVICE, self._data)
            http_port = int(cloud.serving.gateway.rpartition(":")[2])
            mqtt_port = int((cloud.serving.mqtt or ":0").rpartition(":")[2])
            with proxy(http_port, mqtt_port) as between:
                address = f"gateway=http://127.0.0.1:{between.http}"
                with agent(self._data, self._home / "http.log", address, "link=http"):
                    for fault in ("none", *TRANSPORT, *QUESTIONS):
                        self._well()
                        between.be(fault, "http")
                        self._fault(fault)
                        between.be("none")
                    between.be("black_hole", "http")
                    asked = naive(between.http, max(self._plan.seconds, 2 * NAIVE_TIMEOUT_S))
                    self.control = percentile([one.overrun_ms for one in asked], 0.99)
                    between.be("none")
                if cloud.serving.mqtt:
                    both = (address, f"mqtt=127.0.0.1:{between.mqtt}", "link=auto")
                    self._brokers(between, both)
        self._names(cloud)

    def _brokers(self, between: Proxy, settings: Sequence[str]) -> None:
        with agent(self._data, self._home / "both.log", *settings):
            for fault in BROKER:
                where, _, what = fault.partition("_")
                kinds = ("mqtt",) if where == "broker" else ("http", "mqtt")
                self._well()
                between.be(what, *kinds)
                self._fault(fault)
                between.be("none")

    def _names(self, cloud: Gateway) -> None:
        """A gateway by a name that nobody knows, and one that resolvers never answer for."""
        port = cloud.serving.gateway.rpartition(":")[2]
        address = f"gateway=http://gateway.invalid:{port}"
        with agent(self._data, self._home / "dns.log", address, "link=http"):
            self._fault("dns_unknown")
        hanging = self._home / "resolv.conf"
        # Nobody answers there, and the resolver asks again and again.
        hanging.write_text("nameserver 192.0.2.1\noptions timeout:30 attempts:5\n")
        mount = f'mount --bind {hanging} /etc/resolv.conf && exec "$@"'
        try:
            finish("unshare", "-m", "sh", "-c", mount, "sh", "true")
        except (NotMeasured, OSError):
            note("dns_hangs left out: another resolv.conf takes root and mount namespaces")
            return
        within = ("unshare", "-m", "sh", "-c", mount, "sh")
        with agent(self._data, self._home / "dns.log", address, "link=http", within=within):
            self._fault("dns_hangs")

    def _well(self) -> None:
        """Wait until the cloud answers, so that a fault meets a device that trusts its link."""
        with client(self._data) as asking:
            until(
                "the cloud answers again",
                lambda: ask(asking, hard(), DEADLINES_MS[-1]).source == "cloud",
            )

    def _fault(self, fault: str) -> None:
        """The load from the beginning of a fault."""
        found = row(fault, load(self._data, self._plan.seconds))
        note(
            f"{fault:18} {found.requests:5} asked, {found.unanswered} unanswered,"
            f" overrun p50 {found.overrun_p50_ms} p99 {found.overrun_p99_ms} ms"
        )
        self.rows.append(found)


def main(arguments: Sequence[str] | None = None) -> int:
    options, setting = begin("deadline", SAYS, arguments)
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    with tempfile.TemporaryDirectory(prefix="longstop-deadline-") as home:
        bench = Bench(Path(home), QUICK if options.quick else FULL)
        bench.run()
    figures = summed_up(setting, bench.rows, bench.floor, bench.control, bench.why)
    return end(figures, figures.why, doubtful(figures), json=options.json)


def summed_up(
    setting: Setting,
    rows: Sequence[DeadlineRow],
    floor: float | None,
    control: float | None,
    why: dict[str, str],
) -> DeadlineFigures:
    sick = [one for one in rows if one.fault != "no_cloud"]
    lacking = "overrun_p99_ms" in why or not sick
    return DeadlineFigures(
        **msgspec.structs.asdict(setting),
        overrun_p99_ms=None if lacking else max(one.overrun_p99_ms for one in sick),
        unanswered=None if lacking else sum(one.unanswered + one.errors for one in sick),
        floor_overrun_p99_ms=floor,
        control_overrun_p99_ms=control,
        rows=tuple(rows),
        why=why,
    )


def doubtful(figures: DeadlineFigures) -> list[str]:
    """What is missed; nothing where all is well."""
    said = [
        f"missed: overrun_p99_ms of {one.fault} is {one.overrun_p99_ms}, at most {LIMIT_MS:g}"
        for one in figures.rows
        if one.overrun_p99_ms > LIMIT_MS
    ]
    said += [
        f"missed: of {one.requests} requests under {one.fault} {one.answered} were answered"
        for one in figures.rows
        if one.answered != one.requests
    ]
    control = figures.control_overrun_p99_ms
    if control is not None and control <= LIMIT_MS:
        said.append(f"the control looks good: {control} ms")
    return said


if __name__ == "__main__":
    sys.exit(main())
