"""longstop-agent, and mistakes told by name: a code, the thing, the next step."""

import fcntl
import http.server
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent import cli
from edge_agent.settings import load
from sync.outbox.store import Limits, Put, Store
from sync.trust import keys
from sync.wire import codec, v1
from tests.records import answered, revised

KEY = keys.public_text(keys.generate())


class StubGateway:
    """Answers everything with one status."""

    def __init__(self, status: int) -> None:
        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
                pass

        self._server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def __enter__(self) -> "StubGateway":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def enroll_words(data: Path, url: str = "http://127.0.0.1:9", *more: str) -> list[str]:
    words = ["enroll", "--gateway", url, "--device", "bench-1", "--token", "secret"]
    return [*words, "--key", KEY, "--data", str(data), *more]


def enrolled(data: Path) -> Path:
    assert cli.main(enroll_words(data, "http://127.0.0.1:9", "--offline")) == 0
    return data


Harm = Callable[[Path], list[str]]


def misspelt_key(folder: Path) -> list[str]:
    with (enrolled(folder) / "agent.toml").open("a") as file:
        file.write("\n[outbox]\nbugdet = 3\n")
    return ["run", "--data", str(folder)]


def misspelt_override(folder: Path) -> list[str]:
    return ["run", "--data", str(enrolled(folder)), "--set", "cloud.pace.baet_s=1"]


def wrong_type(folder: Path) -> list[str]:
    return ["run", "--data", str(enrolled(folder)), "--set", "stop_s=soon"]


def broken_toml(folder: Path) -> list[str]:
    (enrolled(folder) / "agent.toml").write_text("device = ")
    return ["run", "--data", str(folder)]


def never_enrolled(folder: Path) -> list[str]:
    return ["run", "--data", str(folder)]


def mqtt_without_address(folder: Path) -> list[str]:
    return ["run", "--data", str(enrolled(folder)), "--set", "link=mqtt"]


def long_path(folder: Path) -> list[str]:
    return ["run", "--data", str(enrolled(folder)), "--set", f"run={folder / ('x' * 100)}"]


def a_file_in_the_way(folder: Path) -> list[str]:
    run = enrolled(folder) / "run"
    run.mkdir()
    (run / "agent.sock").write_text("mine")
    return ["run", "--data", str(folder)]


def no_token(folder: Path) -> list[str]:
    (enrolled(folder) / "token").unlink()
    (folder / "token").mkdir()
    return ["run", "--data", str(folder)]


def no_such_port(folder: Path) -> list[str]:
    return ["run", "--data", str(enrolled(folder)), "--set", "gateway=http://there:99999"]


def data_is_a_file(folder: Path) -> list[str]:
    enrolled(folder)
    (folder / "agent.lock").mkdir()
    return ["run", "--data", str(folder)]


def run_is_a_file(folder: Path) -> list[str]:
    (enrolled(folder) / "run").write_text("mine")
    return ["run", "--data", str(folder)]


def no_package(folder: Path) -> list[str]:
    return ["run", "--data", str(folder), "--package", str(folder / "nothing")]


def no_agent(folder: Path) -> list[str]:
    return ["status", "--data", str(folder)]


def no_array(folder: Path) -> list[str]:
    (folder / "input.npy").write_bytes(b"\x93NUMPY not really")
    return ["infer", str(folder / "input.npy"), "--data", str(folder)]


def a_pickle(folder: Path) -> list[str]:
    np.save(folder / "input.npy", np.array([{}], dtype=object), allow_pickle=True)
    return ["infer", str(folder / "input.npy"), "--data", str(folder)]


def ragged(folder: Path) -> list[str]:
    return ["infer", "--json-array", "[[1, 2], [3]]", "--data", str(folder)]


def unknown_dtype(folder: Path) -> list[str]:
    return ["infer", "--json-array", "[1]", "--dtype", "float17", "--data", str(folder)]


def another_file(folder: Path) -> list[str]:
    (folder / "input.gif").write_bytes(b"GIF89a")
    return ["infer", str(folder / "input.gif"), "--data", str(folder)]


def no_text(folder: Path) -> list[str]:
    (folder / "input.txt").write_bytes(b"\xff\xfe")
    return ["infer", str(folder / "input.txt"), "--data", str(folder)]


def no_record(folder: Path) -> list[str]:
    (folder / "input.json").write_text("[1, 2]")
    return ["infer", str(folder / "input.json"), "--data", str(folder)]


def no_json(folder: Path) -> list[str]:
    (folder / "input.json").write_text("{amount: 3}")
    return ["infer", str(folder / "input.json"), "--data", str(folder)]


def no_picture(folder: Path) -> list[str]:
    return ["infer", str(folder / "input.png"), "--data", str(folder)]


def nobody_to_infer(folder: Path) -> list[str]:
    return ["infer", "--json-array", "[1]", "--task", "apparel", "--data", str(folder)]


def no_outbox(folder: Path) -> list[str]:
    return ["outbox", "ls", "--data", str(folder)]


def bad_key(folder: Path) -> list[str]:
    words = enroll_words(folder, "http://127.0.0.1:9", "--offline")
    words[words.index(KEY)] = "ed25519:xyz"
    return words


def bad_name(folder: Path) -> list[str]:
    words = enroll_words(folder, "http://127.0.0.1:9", "--offline")
    words[words.index("bench-1")] = "../bench"
    return words


def bad_address(folder: Path) -> list[str]:
    return enroll_words(folder, "gateway.example", "--offline")


def nobody_answers(folder: Path) -> list[str]:
    return enroll_words(folder)


def other_settings_before(folder: Path) -> list[str]:
    enrolled(folder)
    return enroll_words(folder, "http://127.0.0.1:10", "--offline")


@pytest.mark.parametrize(
    ("harm", "code", "names"),
    [
        (misspelt_key, "bad_settings", "`bugdet` - at `$.outbox`"),
        (misspelt_override, "bad_settings", "`baet_s` - at `$.cloud.pace`"),
        (wrong_type, "bad_settings", "$.stop_s"),
        (broken_toml, "bad_settings", "agent.toml"),
        (never_enrolled, "not_enrolled", "longstop-gateway device add"),
        (mqtt_without_address, "not_enrolled", "mqtt"),
        (long_path, "socket_path_too_long", "shorter run folder"),
        (a_file_in_the_way, "socket_taken", "agent.sock"),
        (no_token, "not_enrolled", "enrol again"),
        (no_such_port, "bad_settings", "gateway"),
        (data_is_a_file, "data_folder_unusable", "another data folder"),
        (run_is_a_file, "socket_taken", "another run folder"),
        (no_package, "bad_request", "longstop-models inspect"),
        (no_agent, "agent_unavailable", "longstop-agent run"),
        (no_array, "bad_request", "numpy.save"),
        (a_pickle, "bad_request", "numpy.save"),
        (ragged, "bad_request", "[[1, 2], [3, 4]]"),
        (unknown_dtype, "bad_request", "float17"),
        (another_file, "bad_request", "a picture .jpg or .png, a sound .wav, a text .txt"),
        (no_text, "bad_request", "save it in UTF-8"),
        (no_record, "bad_request", '{"amount": 3}'),
        (no_json, "bad_request", "is no JSON"),
        (no_picture, "bad_request", "No such file or directory; check the path"),
        (nobody_to_infer, "agent_unavailable", "longstop-agent run"),
        (no_outbox, "outbox_unavailable", "outbox.db"),
        (bad_key, "bad_key", "xyz"),
        (bad_name, "bad_settings", "$.device"),
        (bad_address, "bad_settings", "$.gateway"),
        (nobody_answers, "gateway_unreachable", "--offline"),
        (other_settings_before, "already_enrolled", "--replace"),
    ],
)
def test_a_mistake_is_told_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], harm: Harm, code: str, names: str
) -> None:
    words = harm(tmp_path)
    capsys.readouterr()
    assert cli.main([*words, "--json"]) == 1
    told = capsys.readouterr()
    assert told.err.startswith(f"longstop-agent: {code}: ")
    assert names in told.err
    assert json.loads(told.out)["code"] == code


def test_a_second_agent_on_the_same_data_is_told_who_holds_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enrolled(tmp_path)
    with (tmp_path / "agent.lock").open("w") as held:
        held.write("4711\n")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        assert cli.main(["run", "--data", str(tmp_path)]) == 1
    assert "agent_already_running: the agent with process id 4711" in capsys.readouterr().err


def test_an_outbox_somebody_else_holds_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enrolled(tmp_path)
    (tmp_path / "outbox").mkdir()
    with (tmp_path / "outbox" / "outbox.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert cli.main(["run", "--data", str(tmp_path)]) == 1
    assert "outbox_busy" in capsys.readouterr().err
    assert list((tmp_path / "run").iterdir()) == []


def test_a_run_folder_where_an_agent_answers_is_not_taken_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enrolled(tmp_path)
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "agent.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        assert cli.main(["run", "--data", str(tmp_path)]) == 1
    assert f"another agent answers at {path}" in capsys.readouterr().err


@pytest.fixture
def gateway() -> Iterator[StubGateway]:
    with StubGateway(404) as gateway:
        yield gateway


def test_enrolling_writes_settings_and_a_token_nobody_else_can_read(
    tmp_path: Path, gateway: StubGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "new"
    assert cli.main(enroll_words(data, gateway.url, "--json")) == 0
    assert json.loads(capsys.readouterr().out)["device"] == "bench-1"
    settings = load(data, environ={})
    assert (settings.device, settings.gateway, settings.link) == ("bench-1", gateway.url, "http")
    assert settings.public_key == KEY
    assert (data / "token").read_text() == "secret\n"
    assert stat.S_IMODE((data / "token").stat().st_mode) == 0o600
    assert cli.main(enroll_words(data, gateway.url)) == 0, "the same again changes nothing"
    other = enroll_words(data, gateway.url, "--replace")
    other[other.index("secret")] = "newer"
    assert cli.main(other) == 0
    assert (data / "token").read_text() == "newer\n"


@pytest.mark.parametrize(("status", "names"), [(401, "token"), (200, "no Longstop gateway")])
def test_enrolling_with_the_wrong_gateway_or_token_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], status: int, names: str
) -> None:
    data = tmp_path / "new"
    with StubGateway(status) as gateway:
        assert cli.main(enroll_words(data, gateway.url)) == 1
    told = capsys.readouterr().err
    assert "gateway_unreachable" in told
    assert names in told
    assert not data.exists()


def test_with_a_broker_the_link_is_either_and_the_broker_must_answer(
    tmp_path: Path, gateway: StubGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "new"
    assert cli.main(enroll_words(data, gateway.url, "--mqtt", "127.0.0.1:9")) == 1
    assert "no broker answers" in capsys.readouterr().err
    assert cli.main(enroll_words(data, gateway.url, "--mqtt", "127.0.0.1:9", "--offline")) == 0
    settings = load(data, environ={})
    assert (settings.link, settings.mqtt) == ("auto", "127.0.0.1:9")


def test_the_environment_and_set_reach_every_setting(tmp_path: Path) -> None:
    enrolled(tmp_path)
    settings = load(
        tmp_path,
        environ={"LONGSTOP_AGENT_CLOUD__PACE__BEAT_S": "3", "LONGSTOP_RUN": "/elsewhere"},
        overrides=["outbox.limits.budget_bytes=100000000", 'sources={apparel = "/in"}'],
    )
    assert settings.cloud.pace.beat_s == 3
    assert settings.outbox.limits.budget_bytes == 100_000_000
    assert settings.sources == {"apparel": "/in"}
    assert settings.device == "bench-1"


def test_the_outbox_is_shown_while_it_is_open_and_never_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "outbox" / "outbox.db"
    path.parent.mkdir()
    store = Store.open(path, new_incarnation="ab12", limits=Limits())
    tensor = v1.Tensor("x", "FP32", (2,), bytes(8))
    asked = v1.Escalation("bench-1", "r1", "apparel", "1.0.0", 0, (tensor,))
    owed = answered("r1", final=False, reason="link_down", hard=True)
    store.commit([Put(owed, escalation=asked)], 5.0)
    store.commit([Put(revised("r0"), revision_for="app")], 6.0)
    store.lose(2, "pipe_full")
    before = {part.name: part.stat().st_size for part in path.parent.iterdir()}

    def told(*words: str) -> str:
        assert cli.main(["outbox", *words, "--data", str(tmp_path)]) == 0
        return capsys.readouterr().out

    assert told("ls").splitlines() == [
        "4 records issued as ab12, boot 1: 2 pending, 2 lost and not yet reported",
        f"batch     1..1  {told_bytes(store, 1)} bytes",
        f"batch     2..2  {told_bytes(store, 2)} bytes",
        "lost      3..4  pipe_full",
        f"question  r1  from app, 0 attempts, {len(codec.encode(asked))} bytes",
        "revisions 1 waiting for app",
    ]
    listing = json.loads(told("ls", "--json"))
    assert listing["questions"][0]["request_id"] == "r1"
    assert '"request_id":"r1"' in told("show", "1")
    assert told("show", "r1") == "question r1 of apparel 1.0.0: x FP32 [2]\n"
    assert cli.main(["outbox", "show", "99", "--data", str(tmp_path)]) == 1
    assert "no record 99" in capsys.readouterr().err
    assert {part.name: part.stat().st_size for part in path.parent.iterdir()} == before
    store.close()


def told_bytes(store: Store, number: int) -> int:
    (row,) = (row for row in store.rows(10) if row.lo == number)
    batch = store.batch(row)
    assert batch is not None
    return len(batch.body)


@pytest.mark.parametrize(
    "words",
    [
        ["edge_agent", "outbox", "ls", "--json", "--data"],
        ["cloud_gateway.cli", "device", "list", "--json", "--data"],
    ],
)
def test_a_refusal_nobody_reads_is_told_on_stderr_alone(words: list[str], tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-P", "-m", *words, str(tmp_path / "none")],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("longstop-")
