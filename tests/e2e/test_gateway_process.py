"""The gateway as a process: its commands, its end, and what it leaves behind."""

import asyncio
import http.client
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec import structs

from cloud_gateway.broker import mosquitto
from models.twins import LABELS, build_twin, twin_sample
from sync.errors import LinkError
from sync.transport.base import Transport
from sync.transport.http import HttpTransport
from sync.transport.mqtt import MqttTransport
from sync.wire import codec, v1
from tests.gateway_process import END_S, GatewayProcess, alive, gateway_process, run_command
from tests.records import answered

pytestmark = pytest.mark.e2e


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + END_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host.removeprefix("http://"), int(port))) == 0


def beat(device: str) -> v1.Beat:
    return v1.Beat(device, "i1", 1, 10.0, "mqtt", (), (), 0, 0, 0, "0.1.0")


def escalation(device: str) -> v1.Escalation:
    sample = twin_sample(0, 2, confidence=0.5)
    tensor = v1.Tensor("answers", "FP32", sample.shape, sample.astype("<f4").tobytes())
    return v1.Escalation(device, "r1", "sides", "1", 300, (tensor,))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_order_and_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    with gateway_process(tmp_path) as gateway:
        broker = gateway.children
        assert len(broker) == 1
        assert gateway.serving.broker == ("mosquitto" if mosquitto.find() else "amqtt")
        assert gateway.serving.mqtt is not None
        assert listens(gateway.serving.mqtt)
        assert listens(gateway.serving.gateway)
        assert gateway.end(number) == 0
        assert not listens(gateway.serving.mqtt)
        assert not listens(gateway.serving.gateway)
        assert not alive(broker[0])
        assert gateway.process.stderr is not None
        assert gateway.process.stderr.read() == ""
    assert not (tmp_path / "address").exists()


def test_somebody_watching_the_page_does_not_hold_up_its_end(tmp_path: Path) -> None:
    with gateway_process(tmp_path, "--broker", "none") as gateway:
        host, _, port = gateway.serving.gateway.removeprefix("http://").rpartition(":")
        watcher = http.client.HTTPConnection(host, int(port), timeout=END_S)
        watcher.request("GET", "/v1/fleet/events")
        answer = watcher.getresponse()
        assert answer.readline().startswith(b"event:")
        began = time.monotonic()
        assert gateway.end() == 0
        # Well before uvicorn's patience with open connections ends.
        assert time.monotonic() - began < 4
        watcher.close()


@pytest.mark.parametrize("kind", ["mosquitto", "amqtt"])
def test_a_gateway_that_is_killed_takes_its_broker_along(tmp_path: Path, kind: str) -> None:
    if kind == "mosquitto" and mosquitto.find() is None:
        pytest.skip("mosquitto is not installed")
    with gateway_process(tmp_path, "--broker", kind) as gateway:
        broker = gateway.children
        assert len(broker) == 1
        gateway.process.kill()
        gateway.process.wait()
        assert until(lambda: not alive(broker[0]))
        assert gateway.serving.mqtt is not None
        assert not listens(gateway.serving.mqtt)
    # What it left says where it was; the next one starts all the same, and says where it is.
    with gateway_process(tmp_path, "--broker", "none") as again:
        again.command("device", "list")


def test_commands_tell_the_gateway_and_the_line_they_print_enrols(tmp_path: Path) -> None:
    key = tmp_path / "operator" / "publisher.key"
    data = tmp_path / "data"
    made = run_command("key", "init", "--data", str(data), "--private", str(key))
    assert made.code == 0, made.stderr
    public = (data / "trust" / "publisher.pub").read_text().strip()
    with gateway_process(data, "--broker", "none") as gateway:
        line = gateway.command("device", "add", "d1").split()
        assert line[:4] == ["longstop-agent", "enroll", "--gateway", gateway.serving.gateway]
        assert line[4:6] == ["--device", "d1"]
        assert line[8:] == ["--key", public]
        folder = build_twin("sides", "1", tmp_path / "package")
        told = gateway.command("package", "publish", str(folder), "--key", str(key))
        assert told.startswith("published sides 1;")
        assert "answers in the cloud" in gateway.command("package", "list")
        gateway.command("package", "desire", "sides", "1")
        gateway.command("package", "desire", "sides", "1", "--device", "d1")
        assert "d1" in gateway.command("device", "list")
        gateway.command("device", "remove", "d1")
        assert "d1" not in gateway.command("device", "list")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["device", "remove", "nobody"], "unknown_device"),
        (["device", "add", "a/b"], "bad_device_name"),
        (["package", "desire", "sides", "9"], "unknown_task"),
        (["package", "publish", "{data}", "--key", "{key}"], "bad_key"),
        (["device", "list", "--gateway", "http://127.0.0.1:9"], "gateway_unreachable"),
        (["device", "list", "--admin-token", "{key}"], "gateway_unreachable"),
        (["serve", "--port", "0", "--broker", "none"], "data_in_use"),
        (["serve", "--set", "brokr.kind=none"], "bad_settings"),
        (["serve", "--set", "port=many"], "bad_settings"),
        (["serve", "--port", "99999"], "bad_settings"),
        (["serve", "--mqtt-port", "99999"], "bad_settings"),
        (["serve", "--set", "max_body_bytes=-1"], "bad_settings"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else value,
)
def test_a_command_that_fails_says_why_in_one_line(
    gateway: GatewayProcess, words: list[str], code: str
) -> None:
    filled = [word.format(data=gateway.data, key=gateway.data / "absent") for word in words]
    done = run_command(*filled, "--data", str(gateway.data), "--json")
    assert done.code == 1
    assert done.stderr.startswith(f"longstop-gateway: {code}: ")
    assert len(done.stderr.splitlines()) == 1
    assert f'"code":"{code}"' in done.stdout


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path_factory.mktemp("gateway"), "--broker", "none") as running:
        yield running


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["serve", "--data", "{file}"], "data_folder_unusable"),
        (["serve", "--data", "/proc/longstop"], "data_folder_unusable"),
        (["key", "init", "--data", "{free}", "--private", "{file}/key"], "bad_key_place"),
        (["key", "init", "--data", "{file}", "--private", "{free}/key"], "data_folder_unusable"),
    ],
)
def test_a_place_that_cannot_be_used_is_named(tmp_path: Path, words: list[str], code: str) -> None:
    file = tmp_path / "file"
    file.touch()
    done = run_command(*(word.format(file=file, free=tmp_path / "free") for word in words))
    assert done.code == 1
    assert done.stderr.startswith(f"longstop-gateway: {code}: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_command_without_a_gateway_says_how_to_start_one(tmp_path: Path) -> None:
    done = run_command("device", "list", "--data", str(tmp_path))
    assert (done.code, done.stdout) == (1, "")
    assert "longstop-gateway serve" in done.stderr


def test_a_taken_port_is_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run_command("serve", "--data", str(tmp_path), "--port", port)
        assert done.code == 1
        assert "port_taken" in done.stderr
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("link", ["http", "mqtt"])
def test_a_device_speaks_is_answered_and_is_shut_out_when_it_is_removed(
    tmp_path: Path, link: str
) -> None:
    key = tmp_path / "publisher.key"
    data = tmp_path / "data"
    run_command("key", "init", "--data", str(data), "--private", str(key))

    async def exchange(transport: Transport, message: v1.Up) -> v1.Down:
        async with asyncio.timeout(END_S):
            while True:
                try:
                    return await transport.exchange(message, timeout_s=5)
                except LinkError:
                    await asyncio.sleep(0.05)  # not connected yet

    async def speak(gateway: GatewayProcess, token: str) -> None:
        transport: Transport
        if link == "http":
            transport = HttpTransport(gateway.serving.gateway, token)
        else:
            assert gateway.serving.mqtt is not None
            host, _, port = gateway.serving.mqtt.rpartition(":")
            transport = MqttTransport(host, int(port), device="d1", token=token)
        notices: list[v1.Notice] = []
        await transport.open(notices.append)
        try:
            assert isinstance(await exchange(transport, beat("d1")), v1.BeatReply)
            reply = await exchange(transport, escalation("d1"))
            assert isinstance(reply, v1.Escalated)
            assert (reply.label, reply.version) == (LABELS[2], "1")
            batch = v1.Batch("d1", "i1", 1, 1, 3, 9.0, codec.pack_records([answered()] * 3))
            outcomes = []
            for _ in range(3):
                ack = await exchange(transport, batch)
                assert isinstance(ack, v1.BatchAck)
                outcomes.append(ack.outcome)
            assert outcomes == ["committed", "duplicate", "duplicate"]
            if link == "mqtt":
                refused = await exchange(transport, structs.replace(beat("d1"), device="d2"))
                assert isinstance(refused, v1.Refused)
                assert refused.code == "wrong_device"
                await asyncio.to_thread(gateway.command, "package", "desire", "sides", "1")
                async with asyncio.timeout(END_S):
                    while not notices:  # noqa: ASYNC110 - the link fills it
                        await asyncio.sleep(0.02)
            await asyncio.to_thread(gateway.command, "device", "remove", "d1")
            if link == "http":
                refused = await transport.exchange(beat("d1"), timeout_s=5)
                assert isinstance(refused, v1.Refused)
                assert (refused.code, refused.permanent) == ("token_revoked", False)
            else:
                async with asyncio.timeout(END_S):
                    while transport.connected:  # noqa: ASYNC110 - the broker ends it
                        await asyncio.sleep(0.02)
                with pytest.raises(LinkError):
                    await transport.exchange(beat("d1"), timeout_s=2)
        finally:
            await transport.close()

    with gateway_process(data) as gateway:
        folder = build_twin("sides", "1", tmp_path / "package")
        gateway.command("package", "publish", str(folder), "--key", str(key))
        asyncio.run(speak(gateway, gateway.add("d1").token))
        assert gateway.end() == 0
    with sqlite3.connect(data / "gateway.db") as connection:
        assert connection.execute("SELECT sum(n) FROM device_answers").fetchone() == (3,)
        assert connection.execute("SELECT answered FROM device_escalations").fetchone() == (1,)
    connection.close()
