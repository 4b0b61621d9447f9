"""Agents as processes against a real gateway: answers, switches, refusals, endings."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from cloud_gateway.cli import main
from edge_agent.sdk import Answer, Client, LongstopError
from edge_agent.sdk.wire import FrameReader, head
from models.manifest import decode, encode
from tests.editions import build_editions, turned
from tests.local_device import easy, hard
from tests.peculiar_packages import build_custom, build_lookup
from tests.programs import Agent, Gateway, until

pytestmark = pytest.mark.e2e

FAST = ("cloud.pace.beat_s=1", "outbox.linger_ms=50")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("cloud")) as gateway:
        gateway.publish("1.0.0")
        gateway.desire("1.0.0")
        yield gateway


@pytest.fixture
def agent(gateway: Gateway, tmp_path: Path) -> Iterator[Agent]:
    name = f"bench-{tmp_path.name[-20:].strip('_')}"
    with Agent(tmp_path / "a", gateway.invite(name), *FAST, debug=True) as agent:
        until(lambda: agent.serves("1.0.0"), what="first package served")
        yield agent


def test_it_answers_here_asks_the_cloud_and_both_ledgers_agree(
    gateway: Gateway, agent: Agent
) -> None:
    with agent.client() as client:
        here = client.infer(easy(1), deadline_ms=2000)
        assert (here.label, here.source, here.final) == ("middle", "edge", True)
        there = client.infer(hard(0, 2), deadline_ms=5000)
        assert (there.label, there.source, there.final) == ("right", "cloud", True)
    told = agent.tell("infer", "--json-array", json.dumps(easy(2).tolist()), "--json")
    assert json.loads(told.stdout)["label"] == "right"
    until(lambda: agent.status()["issued"] == 3, what="records numbered")
    until(lambda: agent.status()["pending"] == 0, what="records delivered")
    status = agent.status()
    assert (status["connected"], status["lost_unreported"], status["link"]) == (True, 0, "http")
    assert delivered(gateway, agent) == 3
    assert agent.stop() == 0
    assert list(agent.run.iterdir()) == [], "no socket is left behind"


def delivered(gateway: Gateway, agent: Agent) -> int:
    """By the gateway's own database."""
    counted = gateway.rows(
        "SELECT coalesce(sum(hi - lo + 1), 0) FROM batch WHERE device = ?", agent.device
    )
    return int(counted[0][0])


def test_a_new_version_takes_over_without_dropping_a_request(
    gateway: Gateway, agent: Agent
) -> None:
    answers: list[Answer] = []
    troubles: list[LongstopError] = []
    stop = threading.Event()

    def ask(client: Client) -> None:
        while not stop.is_set():
            try:
                answers.append(client.infer(easy(1), deadline_ms=3000))
            except LongstopError as error:
                troubles.append(error)
            time.sleep(0.005)

    with agent.client() as client:
        askers = [threading.Thread(target=ask, args=(client,)) for _ in range(2)]
        for asker in askers:
            asker.start()
        gateway.publish("2.0.0")
        gateway.desire("2.0.0", agent.device)
        until(lambda: agent.serves("2.0.0"), what="switched")
        until(lambda: answers[-1].version == "2.0.0", what="answers of the new version")
        time.sleep(1.5)  # connections that stayed with the old worker are closed by now
        stop.set()
        for asker in askers:
            asker.join()
        last = [answer for answer in answers if answer.version == "1.0.0"][-1]
        again = client.infer(easy(2), deadline_ms=3000, request_id=last.request_id)
    assert _but_for_the_way(again) == _but_for_the_way(last), "the new worker was told"
    assert troubles == []
    assert {answer.version for answer in answers} == {"1.0.0", "2.0.0"}
    assert answers[-1].version == "2.0.0"


def _but_for_the_way(answer: Answer) -> Answer:
    return replace(answer, timings=replace(answer.timings, round_trip_us=0))


def test_a_request_that_comes_again_after_a_kill_gets_the_same_answer(agent: Agent) -> None:
    with agent.client() as client:
        before = client.infer(easy(1), deadline_ms=3000, request_id="once")
        (task,) = agent.status()["tasks"]
        os.kill(task["pid"], signal.SIGKILL)
        again = client.infer(easy(2), deadline_ms=30_000, request_id="once")
        other = client.infer(easy(2), deadline_ms=30_000, request_id="twice")
    assert _but_for_the_way(again) == _but_for_the_way(before)
    assert other.label == "right"
    until(lambda: agent.status()["issued"] == 2, what="both counted once")


def test_an_archive_altered_on_the_gateways_disk_is_refused_and_reported(
    gateway: Gateway, agent: Agent
) -> None:
    gateway.publish("3.0.0")
    (digest,) = gateway.rows("SELECT edge_sha256 FROM release WHERE version = '3.0.0'")[0]
    (blob,) = (path for path in (gateway.data / "blobs").rglob("*") if path.name == digest)
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(data)
    gateway.desire("3.0.0", agent.device)
    until(lambda: agent.status()["tasks"][0]["refused"], what="refused")
    (task,) = agent.status()["tasks"]
    assert (task["version"], task["state"]) == ("1.0.0", "serving")
    (refused,) = task["refused"]
    assert (refused["version"], refused["code"]) == ("3.0.0", "hash_mismatch")
    assert "fetch it again" in refused["reason"]
    until(
        lambda: (
            "hash_mismatch"
            in str(gateway.rows("SELECT * FROM refusal WHERE device = ?", agent.device))
        ),
        what="the gateway knows why",
    )
    with agent.client() as client:
        assert client.infer(easy(), deadline_ms=3000).version == "1.0.0"
    time.sleep(2.5)  # heartbeats that ask for it again
    assert agent.said().count("update.fetching task=sides version=3.0.0") == 1


def test_the_supervisor_has_loaded_nothing_heavy(agent: Agent) -> None:
    with agent.client() as client:
        client.infer(hard(), deadline_ms=3000)
    heavy = {"numpy", "onnxruntime", "openvino", "fastapi", "httpx", "cryptography", "tuf"}
    heavy |= {"uvicorn", "sqlite_utils", "paho"}
    names = modules(agent.run)
    loaded = {name.partition(".")[0] for name in names}
    assert "asyncio" in loaded
    assert loaded & heavy == set()
    # What a certificate says is read here as well; nothing else of models is.
    read = {"models", "models.calibrate", "models.calibrate.certificate", "models.calibrate.curve"}
    assert {name for name in names if name.partition(".")[0] == "models"} <= read


def modules(run: Path) -> list[str]:
    import socket

    reader = FrameReader()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(run / "agent.sock"))
        connection.sendall(head(b'{"op":"modules"}'))
        while True:
            frames = reader.filled(connection.recv_into(reader.buffer()))
            if frames:
                told: list[str] = json.loads(frames[0].meta)["modules"]
                return told


def test_a_second_agent_on_the_same_data_is_refused_by_name(agent: Agent) -> None:
    second = agent.tell("run")
    assert second.returncode == 1
    assert "agent_already_running" in second.stderr
    assert str(agent.process.pid) in second.stderr
    other = agent.tell("status")
    assert other.returncode == 0


def test_an_agent_killed_without_warning_comes_back_and_pays_its_debts(
    gateway: Gateway, agent: Agent
) -> None:
    gateway.process.send_signal(signal.SIGSTOP)
    try:
        with agent.client() as client:
            answers = [client.infer(hard(0, 2), deadline_ms=300) for _ in range(5)]
            assert {answer.final for answer in answers} == {False}
            until(lambda: agent.status()["escalations_waiting"] == 5, what="questions stored")
        worker = agent.worker()
        assert worker is not None
        agent.stop(signal.SIGKILL)
        until(lambda: not alive(worker), what="the worker ends with its supervisor")
        assert (agent.run / "agent.sock").exists()
        with agent.again() as again:
            until(lambda: again.serves("1.0.0"), what="serving again, without the gateway")
            gateway.process.send_signal(signal.SIGCONT)
            until(lambda: again.status()["escalations_waiting"] == 0, what="asked again")
            with again.client() as client:
                revised = list(client.revisions(wait_s=0.5))
            asked = {answer.request_id for answer in answers}
            assert {one.request_id for one in revised} == asked
            assert {one.label for one in revised} == {"right"}
            assert again.stop() == 0
    finally:
        gateway.process.send_signal(signal.SIGCONT)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_revoked_token_leaves_the_device_serving_and_its_records_kept(
    gateway: Gateway, agent: Agent
) -> None:
    gateway.admin.remove_device(agent.device)
    with agent.client() as client:
        answer = client.infer(hard(), deadline_ms=400)
        assert (answer.final, answer.label) == (False, "left")
        assert client.infer(easy(), deadline_ms=3000).final
    until(lambda: agent.status()["turned_away"], what="the reason is shown")
    status = agent.status()
    assert status["turned_away"].startswith("token_revoked: ")
    assert status["escalations_waiting"] == 1
    assert status["pending"] == 2
    assert "turned away" in agent.tell("status").stdout


def test_over_mqtt_a_hard_case_is_answered_and_a_new_version_is_noticed_at_once(
    tmp_path: Path,
) -> None:
    with Gateway(tmp_path / "cloud", broker="auto") as gateway:
        gateway.publish("1.0.0")
        settings = ("cloud.pace.beat_s=600", "outbox.linger_ms=50")
        with Agent(tmp_path / "a", gateway.invite("bench-1"), *settings) as agent:
            until(lambda: agent.status().get("connected"), what="connected")
            assert agent.status()["tasks"] == []
            assert "waiting for the gateway" in agent.tell("status").stdout
            gateway.desire("1.0.0")
            until(lambda: agent.serves("1.0.0"), what="noticed without a regular heartbeat")
            with agent.client() as client:
                there = client.infer(hard(0, 2), deadline_ms=5000)
            assert (there.label, there.source, there.final) == ("right", "cloud", True)
            until(lambda: agent.status()["pending"] == 0, what="records delivered")
            assert agent.status()["link"] == "mqtt"
            assert agent.stop() == 0


def test_a_version_with_code_of_its_own_is_refused_and_the_one_before_goes_on(
    gateway: Gateway, agent: Agent
) -> None:
    gateway.publish_folder(build_custom(gateway.folder / "custom", "9.0.0"))
    gateway.desire("9.0.0", agent.device)
    until(lambda: agent.status()["tasks"][0]["refused"], what="refused")
    (task,) = agent.status()["tasks"]
    assert (task["version"], task["state"]) == ("1.0.0", "serving")
    (refused,) = task["refused"]
    assert (refused["version"], refused["code"]) == ("9.0.0", "custom_code_forbidden")
    with agent.client() as client:
        assert client.infer(easy(), deadline_ms=3000).version == "1.0.0"


def test_status_says_what_a_task_runs_on_and_why(agent: Agent) -> None:
    (task,) = agent.status()["tasks"]
    assert (task["runs_on"]["runtime"], task["runs_on"]["provider"]) == ("twin", "cpu")
    assert task["uncertified"] is None
    assert "runs on twin on cpu in f32 (edge.json on twin, 1 thread" in agent.tell("status").stdout


def test_status_says_which_edition_serves_where_the_main_one_computes_otherwise_here(
    gateway: Gateway, agent: Agent
) -> None:
    folder = build_editions(gateway.folder / "editions")
    manifest = decode((folder / "manifest.json").read_bytes())
    elsewhere = structs.replace(manifest, golden=turned(manifest.golden))
    (folder / "manifest.json").write_bytes(encode(elsewhere))
    gateway.publish_folder(folder)
    gateway.desire("1", agent.device, task="shades")

    def shades() -> list[dict[str, Any]]:
        tasks = agent.status()["tasks"]
        return [one for one in tasks if (one["task"], one["state"]) == ("shades", "serving")]

    until(lambda: bool(shades()), what="serving shades")
    (task,) = shades()
    assert (task["runs_on"]["runtime"], task["runs_on"]["edition"]) == ("openvino", "openvino")
    assert "edge.onnx on onnx, 1 thread is unfit" in task["runs_on"]["why"]
    assert task["uncertified"] is None
    told = agent.tell("status").stdout
    assert "runs on openvino on cpu in f32, edition openvino (edge.onnx on openvino" in told


def test_features_fed_at_the_gateway_decide_what_a_device_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Gateway(tmp_path / "cloud") as gateway:
        gateway.publish_folder(build_lookup(tmp_path / "lookup", "1.0.0"))
        gateway.desire("1.0.0")
        rows = tmp_path / "rows.csv"
        rows.write_text("id,fine,odd\nann,0,5\nbob,5,0\n")
        here = ["--data", str(gateway.data)]
        assert main(["features", "put", "customers", str(rows), *here]) == 0
        assert main(["features", "list", *here]) == 0
        assert "2 rows were put into customers\ncustomers " in capsys.readouterr().out
        source = "features.customers={kind='http', path='/v1/features/customers'}"
        with Agent(tmp_path / "a", gateway.invite("bench-1"), *FAST, source) as agent:
            until(lambda: agent.serves("1.0.0"), what="first package served")
            with agent.client() as client:

                def label(name: str) -> str:
                    return client.infer({"customer": name}, deadline_ms=5000).label

                # On a busy machine the gateway may not answer within 50 ms at first.
                until(lambda: label("ann") == "fraud", what="features of the gateway")
                assert [label(name) for name in ("bob", "carol")] == ["honest", "honest"]
        assert main(["features", "remove", "customers", *here]) == 0
        assert main(["features", "remove", "customers", *here]) == 1
        assert "unknown_table" in capsys.readouterr().err
