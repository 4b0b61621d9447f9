"""The local HTTP listener: programs of this machine by the Open Inference Protocol, no web page."""

import asyncio
import contextlib
import http.client
import json
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.local_api import oip as listener
from edge_agent.local_api.callers import Served
from edge_agent.workplace import Given
from models.tensors import Sample
from sync.wire import oip
from sync.wire.v1 import Tensor
from tests.local_device import TASK, LocalDevice, easy, hard


class Facts:
    """What this device serves."""

    def tasks(self) -> tuple[str, ...]:
        return (TASK,)

    def served(self, task: str) -> Served | None:
        return Served("3", Given("sample", "float32", (6,))) if task == TASK else None


class Listening:
    """A device that also listens on a port of its own choice."""

    def __init__(self, device: LocalDevice) -> None:
        self.device = device
        self.port = 0
        self._stack = contextlib.AsyncExitStack()

    async def start(self) -> None:
        opened = listener.listening("127.0.0.1:0", self.device.folder, Facts(), "0.1.0")
        self.port = await self._stack.enter_async_context(opened)

    async def stop(self) -> None:
        await self._stack.aclose()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def ask(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body or None, named)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def infers(self, raw: Sample, **parameters: object) -> dict[str, object]:
        status, _, body = self.ask("POST", f"/v2/models/{TASK}/infer", question(raw, **parameters))
        return {"status": status, **json.loads(body)}


def question(raw: Sample, **parameters: object) -> bytes:
    given = {"name": "sample", "datatype": "FP32", "shape": list(raw.shape), "data": raw.tolist()}
    return json.dumps({"inputs": [given], "parameters": parameters}).encode()


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Listening]:
    with LocalDevice(tmp_path) as device:
        at = Listening(device)
        device.do(at.start())
        try:
            yield at
        finally:
            device.do(at.stop())


def test_curl_gets_an_answer(at: Listening) -> None:
    said = subprocess.run(
        [
            "curl", "-sS", "-d", question(easy()).decode(), at.url(f"/v2/models/{TASK}/infer"),
        ],
        capture_output=True,
        check=True,
    )  # fmt: skip
    answer = json.loads(said.stdout)
    outputs = {one["name"]: one["data"] for one in answer["outputs"]}
    assert outputs["label"] == ["left"]
    assert outputs["confidence"][0] == pytest.approx(0.95, abs=1e-3)
    assert answer["parameters"]["source"] == "edge"
    assert answer["model_name"] == TASK
    assert [record.client for record in at.device.records.written] == ["http"]


def test_tensors_travel_as_raw_bytes_there_and_back(at: Listening) -> None:
    asked = oip.OipRequest(
        (Tensor("sample", "FP32", (1, 6), easy().tobytes()),), id="7", binary_output=True
    )
    encoded = oip.encode_request(asked)
    status, headers, body = at.ask(
        "POST",
        f"/v2/models/{TASK}/infer",
        encoded.body,
        Inference_Header_Content_Length=str(encoded.header_length),
    )
    assert status == 200
    answer = oip.decode_response(body, int(headers["Inference-Header-Content-Length"]))
    outputs = {one.name: one.data for one in answer.outputs}
    assert outputs["label"][4:] == b"left"
    assert struct.unpack("<d", outputs["confidence"])[0] == pytest.approx(0.95, abs=1e-3)
    assert answer.id == "7"


def test_many_requests_go_over_one_connection(at: Listening) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", at.port, timeout=30)
    with contextlib.closing(connection):
        for number in range(20):
            headers = {"X-Request-Id": f"r{number}", "X-Client": "till"}
            connection.request("POST", f"/v2/models/{TASK}/infer", question(easy()), headers)
            assert json.loads(connection.getresponse().read())["id"] == f"r{number}"
    assert [record.client for record in at.device.records.written] == ["till"] * 20


def test_two_requests_sent_at_once_are_answered_in_order(at: Listening) -> None:
    body = question(easy())
    both = b""
    for name in (b"one", b"two"):
        both += (
            b"POST /v2/models/%b/infer HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: %b\r\n"
            b"Content-Length: %d\r\n\r\n" % (TASK.encode(), name, len(body))
        ) + body
    with socket.create_connection(("127.0.0.1", at.port), timeout=30) as caller:
        caller.sendall(both)
        said = b""
        while said.count(b'"model_name"') < 2:
            said += caller.recv(65536)
    assert said.index(b'"id":"one"') < said.index(b'"id":"two"')


def test_health_and_metadata_say_what_is_served(at: Listening) -> None:
    assert at.ask("GET", "/v2/health/live")[0] == 200
    assert at.ask("GET", "/v2/health/ready")[0] == 200
    assert json.loads(at.ask("GET", "/v2")[2])["extensions"] == ["binary_tensor_data"]
    model = json.loads(at.ask("GET", f"/v2/models/{TASK}")[2])
    assert model["inputs"] == [{"name": "sample", "datatype": "FP32", "shape": [6]}]
    assert [one["name"] for one in model["outputs"]] == ["label", "confidence", "answer"]
    assert at.ask("GET", f"/v2/models/{TASK}/ready")[0] == 200
    assert at.ask("GET", "/v2/models/other/ready")[0] == 503


def test_a_deadline_is_kept_whoever_asks(at: Listening) -> None:
    at.device.cloud.after_s = None
    answer = at.infers(hard(), deadline_ms=150)
    assert answer["status"] == 200
    assert answer["parameters"] == {
        "source": "edge",
        "final": False,
        "reason": "deadline",
        "hard": True,
        "degraded": True,
        "certificate": at.device.engine.certificate,
        "model": "abababababab",
        **({"certified_risk": risk} if (risk := _risk(answer)) is not None else {}),
    }


def _risk(answer: dict[str, object]) -> object:
    parameters = answer["parameters"]
    assert isinstance(parameters, dict)
    return parameters.get("certified_risk")


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v2/models/other/infer", question(easy()), 404, "unknown_task"),
        (f"/v2/models/{TASK}/infer", b"{", 400, "malformed_message"),
        (f"/v2/models/{TASK}/infer", b'{"inputs":[]}', 400, "bad_request"),
        (f"/v2/models/{TASK}/infer", question(easy()[:4]), 400, "wrong_shape"),
        (f"/v2/models/{TASK}/infer", question(easy(), deadline_ms="soon"), 400, "bad_request"),
        (f"/v2/models/{TASK}/infer", question(easy(), deadline_ms=-1), 400, "bad_argument"),
        (f"/v2/models/{TASK}/infer", question(easy(), client="a/b"), 400, "bad_argument"),
        ("/v2/nothing", b"{}", 404, "not_found"),
        ("/admin", b"{}", 404, "not_found"),
    ],
)
def test_what_is_wrong_is_said_as_the_protocol_says_it(
    at: Listening, path: str, body: bytes, status: int, code: str
) -> None:
    found, _, said = at.ask("POST", path, body)
    error = json.loads(said)
    assert (found, error["code"]) == (status, code)
    assert error["error"]


@pytest.mark.parametrize(
    "header",
    [
        {"Origin": "https://example.org"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Host": "example.org"},
        {"Host": "example.org:80"},
        {"Host": "127.0.0.1.example.org"},
    ],
)
def test_a_web_page_cannot_ask(at: Listening, header: dict[str, str]) -> None:
    for method, path in (("POST", f"/v2/models/{TASK}/infer"), ("GET", "/v2/health/live")):
        status, _, said = at.ask(method, path, question(easy()), **header)
        assert (status, json.loads(said)["code"]) == (403, "forbidden")
    assert at.device.records.written == []


def test_a_body_without_end_and_headers_without_end_are_cut_off(at: Listening) -> None:
    for head, part, status in (
        (b"POST /v2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n", b"x", 413),
        (b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX-Long: ", b"y", 431),
        (b"HELLO\r\n\r\n", b"z", 400),
    ):
        with socket.create_connection(("127.0.0.1", at.port), timeout=30) as caller:
            with contextlib.suppress(OSError):
                caller.sendall(head)
                for _ in range(200):
                    caller.sendall(part * 65536)
            said = b""
            with contextlib.suppress(OSError):
                while got := caller.recv(65536):
                    said += got
            assert not said or said.startswith(b"HTTP/1.1 %d" % status)
    assert at.infers(easy())["status"] == 200


def test_revisions_and_status_come_the_same_way(at: Listening) -> None:
    status = json.loads(at.ask("GET", "/longstop/status")[2])
    assert status["device"] == "bench-1"
    at.device.revisions.append(
        {
            "request_id": "late",
            "task": TASK,
            "label": "middle",
            "confidence": 0.9,
            "version": "7",
            "at": 5.0,
        }
    )
    said = json.loads(at.ask("GET", "/longstop/revisions?client=till&wait_s=1")[2])
    assert [one["request_id"] for one in said["revisions"]] == ["late"]
    assert at.device.taken == ["late"]


def test_a_port_that_is_taken_is_an_error_and_nothing_more(tmp_path: Path) -> None:
    async def scene() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(OSError, match="address"):
                async with listener.listening(f"127.0.0.1:{port}", tmp_path, Facts(), "0"):
                    pass

    asyncio.run(scene())
