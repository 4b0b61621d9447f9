"""One server under one load: the bare call on its core, then the load, the server's CPU counted."""

from functools import partial

from msgspec import Struct

from models.tensors import Sample, datatype_of
from sync.wire import live, oip, v1
from tests.bench import closed_loop
from tests.bench.inputs import LABELS, SURE, BareCall, Shape
from tests.bench.measure import cores, cpu_seconds, median, over, pinned
from tests.bench.setting import NotMeasured

_RAW_RUNS = 1000
_DEADLINE_MS = 5000


class ServingRow(Struct, frozen=True, kw_only=True):
    """One server under one load; medians over rounds."""

    server: str
    """`gateway`, `floor` (a bare loop) or `control` (the gateway, asked in JSON)."""
    input: str
    concurrency: int
    rounds: int
    cpu_us: float
    """Of the server's process, per answered request."""
    session_run_us: float
    """CPU time of the bare call on the same core, just before."""
    over_us: float
    """How much the first is above the second, round by round."""
    answered_per_s: float


class Server(Struct, frozen=True):
    """Somebody who answers."""

    name: str
    pid: int
    port: int


class Cell:
    """Collects the rounds of one server under one load."""

    def __init__(
        self,
        server: Server,
        asked: closed_loop.Request,
        call: BareCall,
        *,
        input_name: str,
        concurrency: int,
        seconds: float,
    ) -> None:
        self.server = server
        self.input_name = input_name
        self.concurrency = concurrency
        self.trouble: NotMeasured | None = None
        self._asked = asked
        self._call = call
        self._seconds = seconds
        self._run_us: list[float] = []
        self._cpu_us: list[float] = []
        self._per_s: list[float] = []

    def round(self) -> float:
        """Measure once more; after a failure nothing is asked of this cell again."""
        if self.trouble is not None:
            return 0.0
        with pinned(cores()[0]):
            run_us = self._call.cpu_us(_RAW_RUNS)
        try:
            with pinned(cores()[-1]):
                load = closed_loop.load(
                    self.server.port,
                    self._asked,
                    concurrency=self.concurrency,
                    seconds=self._seconds,
                    cpu_s=partial(cpu_seconds, self.server.pid),
                )
            if self.server.name != "floor":
                _check(load.last)
        except (NotMeasured, OSError) as error:
            self.trouble = NotMeasured(f"{self.server.name} at {self.concurrency}: {error}")
            return 0.0
        self._run_us.append(run_us)
        self._cpu_us.append(load.cpu_us)
        self._per_s.append(load.answered / load.took_s)
        return load.cpu_us - run_us

    def row(self) -> ServingRow:
        """What the rounds come to. Raises `NotMeasured`."""
        if self.trouble is not None:
            raise self.trouble
        return ServingRow(
            server=self.server.name,
            input=self.input_name,
            concurrency=self.concurrency,
            rounds=len(self._cpu_us),
            cpu_us=median(self._cpu_us),
            session_run_us=median(self._run_us),
            over_us=over(self._cpu_us, self._run_us),
            answered_per_s=median(self._per_s, 0),
        )


def question(shape: Shape, raw: Sample, token: str, *, binary: bool) -> closed_loop.Request:
    """What a device of this task would send, headers included, or the same with JSON tensors."""
    tensor = v1.Tensor(shape.spec.name, datatype_of(shape.spec.dtype), raw.shape, raw.tobytes())
    escalation = v1.Escalation("bench-1", closed_loop.ID, shape.task, "1", _DEADLINE_MS, (tensor,))
    encoded = oip.encode_request(live.request_of(escalation), binary=binary)
    headers = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/octet-stream" if binary else "application/json",
        live.REQUEST_ID: closed_loop.ID,
        live.DEADLINE_MS: str(_DEADLINE_MS),
        live.PACKAGE_VERSION: "1",
    }
    if encoded.header_length is not None:
        headers[oip.HEADER_LENGTH] = str(encoded.header_length)
    return closed_loop.request(f"/v2/models/{shape.task}/infer", headers, encoded.body)


def _check(answer: bytes) -> None:
    """A server that answers nonsense is fast. Raises `NotMeasured`."""
    head, _, body = answer.partition(b"\r\n\r\n")
    _, named, length = head.lower().partition(f"{oip.HEADER_LENGTH}:".lower().encode())
    header_length = int(length.split(b"\r\n")[0]) if named else None
    label = live.answer_of(oip.decode_response(body, header_length)).label
    if label != LABELS[SURE]:
        raise NotMeasured(f"the server answered {label!r} where {LABELS[SURE]!r} is right")
