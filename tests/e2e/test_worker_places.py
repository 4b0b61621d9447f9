"""Real workers and what they are given: feature sources, leave to run code, a runtime to choose."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from edge_agent.cloud.handover import Escalate, Failed, NoAnswer, Ready
from edge_agent.sdk import Answer, Client
from edge_agent.worker import DOES_NOT_RUN
from edge_agent.workplace import HttpTable, SqliteTable, Workplace
from models.manifest import decode, encode
from tests.editions import EDITION_RISK, build_editions, turned
from tests.peculiar_packages import TASK, build_custom, build_lookup
from tests.played_supervisor import PlayedSupervisor, wait_until
from tests.tiny_models import build_tiny

pytestmark = pytest.mark.e2e

NUMBERS = np.array([5, 0], np.float32)


def no_cloud(said: Escalate) -> NoAnswer:
    return NoAnswer(said.id, "link_down")


def write_rows(file: Path, *rows: tuple[str, float, float]) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute(
            "CREATE TABLE customers (id TEXT PRIMARY KEY, fine REAL, odd REAL, at REAL)"
        )
        for row in rows:
            database.execute("INSERT INTO customers VALUES (?, ?, ?, ?)", (*row, time.time() - 100))
        database.commit()


def ask(client: Client, customer: str) -> Answer:
    return client.infer({"customer": customer}, deadline_ms=5000)


def test_features_of_a_file_on_the_device_decide_the_answer_and_their_age_is_recorded(
    tmp_path: Path,
) -> None:
    write_rows(tmp_path / "features.db", ("ann", 0.0, 5.0), ("bob", 5.0, 0.0))
    with PlayedSupervisor(tmp_path, build_lookup(tmp_path / "p"), TASK) as supervisor:
        supervisor.place = Workplace(
            data=str(tmp_path),
            features={"customers": SqliteTable("features.db", "customers", "id", "at")},
        )
        supervisor.start_ready(no_cloud)
        with Client(TASK, run=tmp_path) as client:
            # On a busy machine a source may not answer within 50 ms at first.
            wait_until(lambda: ask(client, "ann").label == "fraud")
            told = [ask(client, name).label for name in ("ann", "bob", "carol")]
            assert told == ["fraud", "honest", "honest"]
        ages = [record.feature_age_s for record in supervisor.records()]
        assert ages[-3] == pytest.approx(100, abs=30)
        assert ages[-1] == -1.0, "carol got the default"


def test_a_source_that_is_out_costs_an_answer_its_features_and_no_more(tmp_path: Path) -> None:
    with PlayedSupervisor(tmp_path, build_lookup(tmp_path / "p"), TASK) as supervisor:
        supervisor.place = Workplace(
            data=str(tmp_path),
            gateway="http://127.0.0.1:9",
            token_file=str(tmp_path / "no-such-token"),
            features={"customers": HttpTable("/v1/features/customers")},
        )
        worker = supervisor.start(on_escalate=no_cloud)
        ready, _ = worker.expect(Ready)
        assert ready.uncertified is None, "golden answers are those of the default"
        with Client(TASK, run=tmp_path) as client:
            assert ask(client, "ann").label == "honest"


class Table(BaseHTTPRequestHandler):
    """Says that everybody is a fraud, to whoever has the token."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        good = self.headers["Authorization"] == "Bearer secret"
        asked = msgspec.json.decode(body)
        said = msgspec.json.encode({"values": [0.0, 5.0], "age_s": 3.0})
        right = good and self.path == "/v1/features/customers" and asked["names"] == ["fine", "odd"]
        self.send_response(200 if right else 404)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def served() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Table)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_worker_asks_the_gateway_for_features_with_the_devices_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    with served() as url, PlayedSupervisor(tmp_path, build_lookup(tmp_path / "p"), TASK) as played:
        played.place = Workplace(
            data=str(tmp_path),
            gateway=url,
            token_file=str(tmp_path / "token"),
            features={"customers": HttpTable("/v1/features/customers")},
        )
        played.start_ready(no_cloud)
        with Client(TASK, run=tmp_path) as client:
            wait_until(lambda: ask(client, "ann").label == "fraud")
        *_, record = played.records()
        assert record.feature_age_s == pytest.approx(3, abs=1)


def test_code_of_a_package_runs_only_where_settings_allow_it(tmp_path: Path) -> None:
    with PlayedSupervisor(tmp_path, build_custom(tmp_path / "p"), TASK) as supervisor:
        supervisor.place = Workplace(data=str(tmp_path / "data"))
        worker = supervisor.start()
        failed, _ = worker.expect(Failed)
        assert failed.code == "custom_code_forbidden"
        assert "swap.py" in failed.message
        assert worker.ended() == DOES_NOT_RUN
        supervisor.place = replace(supervisor.place, custom_steps=True)
        supervisor.start_ready(no_cloud)
        with Client(TASK, run=tmp_path) as client:
            assert client.infer(NUMBERS, deadline_ms=5000).label == "fraud"


def test_a_worker_says_what_it_runs_on_and_why(tmp_path: Path) -> None:
    with PlayedSupervisor(tmp_path, build_tiny(tmp_path / "p"), "shades") as supervisor:
        supervisor.place = Workplace(data=str(tmp_path / "data"))
        said = [supervisor.start().expect(Ready)[0].runs_on for _ in range(2)]
        assert said[0] is not None
        assert said[0] == said[1], "what the first found out, the second takes"
        assert "edge.onnx on onnx, 1 thread" in said[0].why
        assert (tmp_path / "data" / "choices" / "shades").exists()


def test_a_worker_takes_the_edition_that_keeps_its_promise_here_and_says_why(
    tmp_path: Path,
) -> None:
    folder = build_editions(tmp_path / "p")
    manifest = decode((folder / "manifest.json").read_bytes())
    altered = replace(manifest, golden=turned(manifest.golden))
    (folder / "manifest.json").write_bytes(encode(altered))
    with PlayedSupervisor(tmp_path, folder, "shades") as supervisor:
        supervisor.place = Workplace(data=str(tmp_path / "data"))
        ready, _ = supervisor.start(on_escalate=no_cloud).expect(Ready)
        assert ready.uncertified is None
        assert ready.runs_on is not None
        assert (ready.runs_on.runtime, ready.runs_on.edition) == ("openvino", "openvino")
        assert ready.runs_on.why.startswith("edge.onnx on openvino, 1 thread: ")
        assert "edge.onnx on onnx, 1 thread is unfit" in ready.runs_on.why
        with Client("shades", run=tmp_path) as client:
            answers = [
                client.infer(np.full((2, 3), shade, np.uint8), deadline_ms=5000)
                for shade in (0, 90, 160, 255)
            ]
        certain = [one for one in answers if not one.hard]
        assert certain
        assert {one.certified_risk for one in certain} == {EDITION_RISK}


def test_an_uncertified_answer_says_so_whatever_else_is_wrong(tmp_path: Path) -> None:
    folder = build_tiny(tmp_path / "p")
    manifest = decode((folder / "manifest.json").read_bytes())
    turned = tuple(replace(said, label="another") for said in manifest.golden.edge)
    altered = replace(manifest, golden=replace(manifest.golden, edge=turned))
    (folder / "manifest.json").write_bytes(encode(altered))
    with PlayedSupervisor(tmp_path, folder, "shades") as supervisor:
        ready, _ = supervisor.start(on_escalate=no_cloud).expect(Ready)
        assert "the package stores another" in str(ready.uncertified)
        with Client("shades", run=tmp_path) as client:
            answer = client.infer(np.zeros((2, 3), np.uint8), deadline_ms=5000)
        assert (answer.hard, answer.final, answer.reason) == (True, False, "link_down")
        assert (answer.certified_risk, answer.uncertified) == (None, ready.uncertified)
