"""A whole agent asked over HTTP, as a program in another language would."""

import contextlib
import http.client
import json
import socket
from pathlib import Path

import pytest

from sync.wire import oip
from sync.wire.v1 import Tensor
from tests.local_device import easy
from tests.programs import Agent, Gateway, until

pytestmark = pytest.mark.e2e


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_an_agent_with_the_setting_answers_over_http(tmp_path: Path) -> None:
    port = free_port()
    settings = (f"http.listen=127.0.0.1:{port}", "cloud.pace.beat_s=1", "outbox.linger_ms=50")
    with Gateway(tmp_path / "cloud") as gateway:
        gateway.publish("1.0.0")
        gateway.desire("1.0.0")
        with Agent(tmp_path / "a", gateway.invite("bench-http"), *settings) as agent:
            until(lambda: agent.serves("1.0.0"), what="package served")
            (task,) = (one["task"] for one in agent.status()["tasks"])
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            with contextlib.closing(connection):
                connection.request("GET", f"/v2/models/{task}")
                model = json.loads(connection.getresponse().read())
                (given,) = model["inputs"]
                assert (model["versions"], given["datatype"]) == (["1.0.0"], "FP32")
                asked = oip.OipRequest((Tensor(given["name"], "FP32", (6,), easy(1).tobytes()),))
                encoded = oip.encode_request(asked)
                connection.request(
                    "POST",
                    f"/v2/models/{task}/infer",
                    encoded.body,
                    {oip.HEADER_LENGTH: str(encoded.header_length), "X-Deadline-Ms": "5000"},
                )
                answer = json.loads(connection.getresponse().read())
            assert answer["outputs"][0]["data"] == ["middle"]
            until(lambda: agent.status()["issued"] == 1, what="counted like any other")
