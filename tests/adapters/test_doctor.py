"""longstop-agent doctor without an agent: each trouble is named, with what to do next."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge_agent import cli
from edge_agent.commands import doctor
from edge_agent.commands.checks import disk, memory, versions
from edge_agent.commands.checks.clock import clock
from edge_agent.commands.checks.finding import Finding, Patient
from edge_agent.commands.checks.tls import tls
from edge_agent.settings import AgentSettings
from sync.transport.tls import TlsFiles
from sync.trust import keys
from tests.authority import Authority, Identity

KEY = keys.public_text(keys.generate())
NOW = datetime(2026, 11, 20, tzinfo=UTC).timestamp()


def enrolled(data: Path, gateway: str = "http://127.0.0.1:9", *more: str) -> Path:
    words = ["enroll", "--gateway", gateway, "--device", "bench-1", "--token", "secret"]
    words += ["--key", KEY, "--offline", "--data", str(data), *more]
    assert cli.main(words) == 0
    return data


def findings(data: Path, name: str) -> tuple[Finding, ...]:
    told = doctor.examine(data, None)
    return tuple(one for one in told.findings if one.name == name)


def finding(data: Path, name: str) -> Finding:
    (one,) = findings(data, name)
    return one


def patient(data: Path) -> Patient:
    return Patient(data, data / "run", AgentSettings(), None)


@contextmanager
def answering(reply: bytes | None) -> Iterator[str]:
    """A server that takes connections and says this to each; None says nothing, for ever."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                if reply is None:
                    held.append(connection)
                    continue
                with connection:
                    connection.recv(65536)
                    connection.sendall(reply)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in held:
            connection.close()


def http(status: str, at: float = NOW) -> bytes:
    date = datetime.fromtimestamp(at, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    return f"HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n".encode()


def test_every_finding_that_is_not_well_says_what_to_do_and_the_exit_code_tells_the_worst(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enrolled(tmp_path)
    capsys.readouterr()
    assert cli.main(["doctor", "--data", str(tmp_path), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] == "broken"
    assert {one["name"] for one in told["findings"]} >= {
        *("agent", "sockets", "identity", "signing key", "gateway", "clock", "data folder"),
        *("disk space", "memory", "versions", "sqlite"),
    }
    for one in told["findings"]:
        assert (one["verdict"] == "ok") == (one["next"] == ""), one
    order = [one["verdict"] for one in told["findings"]]
    assert order == sorted(order, key=["broken", "warning", "ok"].index)
    assert cli.main(["doctor", "--data", str(tmp_path)]) == 1
    text = capsys.readouterr().out
    assert "do: start it: longstop-agent run" in text


def test_only_warnings_have_an_exit_code_of_their_own_and_all_well_is_zero() -> None:
    warned = doctor.Diagnosis("warning", ())
    assert doctor.exit_code(warned) == doctor.ONLY_WARNINGS == 3
    assert doctor.exit_code(doctor.Diagnosis("ok", ())) == 0


@pytest.mark.parametrize(
    ("status", "verdict", "names"),
    [
        ("404 Not Found", "ok", "takes this device's token"),
        ("401 Unauthorized", "broken", "does not take"),
        ("503 Busy", "warning", "busy"),
        ("200 OK", "broken", "no Longstop gateway"),
    ],
)
def test_the_gateway_s_answer_says_whether_it_takes_this_device(
    tmp_path: Path, status: str, verdict: str, names: str
) -> None:
    with answering(http(status)) as url:
        found = finding(enrolled(tmp_path, url), "gateway")
    assert found.verdict == verdict
    assert names in found.saw


def test_a_gateway_and_a_broker_that_take_the_call_and_say_nothing_do_not_hold_it_up(
    tmp_path: Path,
) -> None:
    with answering(None) as url:
        data = enrolled(tmp_path, url, "--mqtt", url.removeprefix("http://"))
        assert finding(data, "gateway").verdict == "broken"
        assert finding(data, "broker").verdict == "ok", "its port answers"
    assert "nobody answers at 127.0.0.1" in finding(data, "broker").saw


def test_the_broker_programs_ask_on_is_looked_at_where_one_is_set(tmp_path: Path) -> None:
    data = enrolled(tmp_path)
    with answering(None) as url:
        port = url.rpartition(":")[2]
        with (data / "agent.toml").open("a") as file:
            file.write(f'[local_mqtt]\nhost = "127.0.0.1"\nport = {port}\n')
        assert finding(data, "local broker").verdict == "ok"
    found = finding(data, "local broker")
    assert found.verdict == "broken"
    assert f"nobody answers at 127.0.0.1:{port}" in found.saw


@pytest.mark.parametrize(
    ("now", "gateway", "verdict"),
    [
        (12.0, None, "broken"),
        (NOW, None, "ok"),
        (NOW, NOW + 2, "ok"),
        (NOW, NOW + 60, "warning"),
        (NOW, NOW - 400, "broken"),
        (NOW + 10 * 365 * 86400, NOW, "broken"),
        (1e300, NOW, "broken"),
    ],
)
def test_the_clock_is_held_against_reason_and_the_gateway(
    tmp_path: Path, now: float, gateway: float | None, verdict: str
) -> None:
    (found,) = clock(patient(tmp_path), gateway, now)
    assert found.verdict == verdict
    assert ("set the clock" in found.next) == (verdict != "ok")


def test_the_clock_is_compared_with_the_date_the_gateway_sends(tmp_path: Path) -> None:
    with answering(http("404 Not Found", 86400.0)) as url:
        found = finding(enrolled(tmp_path, url), "clock")
    assert found.verdict == "broken"
    assert "the gateway says 1970-01-02" in found.saw


def test_files_of_another_user_in_the_data_folder_are_found_before_the_agent_trips_over_them(
    tmp_path: Path,
) -> None:
    if os.geteuid() != 0:
        pytest.fail("this test changes owners and runs as root, as the whole suite does")
    enrolled(tmp_path)
    (tmp_path / "outbox").mkdir()
    (tmp_path / "outbox" / "outbox.db").touch()
    os.chown(tmp_path / "outbox" / "outbox.db", 4711, 4711)
    found = finding(tmp_path, "data folder")
    assert found.verdict == "broken"
    assert "to user 4711" in found.saw
    assert "chown -R 0 " in found.next


def test_a_secret_others_may_read_and_a_key_that_is_none_are_told(tmp_path: Path) -> None:
    enrolled(tmp_path)
    (tmp_path / "token").chmod(0o644)
    text = (tmp_path / "agent.toml").read_text()
    (tmp_path / "agent.toml").write_text(text.replace(KEY, "ed25519:xyz"))
    assert finding(tmp_path, "token").next == f"chmod 600 {tmp_path / 'token'}"
    assert finding(tmp_path, "signing key").verdict == "broken"
    (tmp_path / "token").unlink()
    assert finding(tmp_path, "identity").verdict == "broken"


def test_settings_that_cannot_be_read_are_a_finding_beside_all_others(tmp_path: Path) -> None:
    enrolled(tmp_path)
    with (tmp_path / "agent.toml").open("a") as file:
        file.write("\nbugdet = 3\n")
    assert "bugdet" in finding(tmp_path, "settings").saw
    assert finding(tmp_path, "versions").verdict == "ok"


def test_what_lies_in_the_run_folder_is_told(tmp_path: Path) -> None:
    enrolled(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(run / "agent.sock"))
    assert finding(tmp_path, "sockets").verdict == "ok", "the next start clears it"
    assert "did not end in order" in finding(tmp_path, "agent").saw
    (run / "apparel.sock").write_text("not a socket")
    assert any(
        one.verdict == "broken" and "apparel.sock" in one.saw
        for one in findings(tmp_path, "sockets")
    )
    long = tmp_path / ("x" * 100)
    (found,) = (one for one in doctor.examine(tmp_path, long).findings if one.name == "sockets")
    assert found.verdict == "broken"


def test_an_agent_that_holds_the_folder_and_does_not_answer_is_named(tmp_path: Path) -> None:
    import fcntl

    enrolled(tmp_path)
    with (tmp_path / "agent.lock").open("w") as held:
        held.write("4711\n")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        found = finding(tmp_path, "agent")
    assert found.verdict == "broken"
    assert "process 4711" in found.saw


@pytest.mark.parametrize(
    ("version", "has_it"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
    ],
)
def test_the_wal_reset_bug_is_known_by_version(version: tuple[int, int, int], has_it: bool) -> None:
    assert versions.has_wal_bug(version) is has_it


def test_two_writers_of_the_outbox_are_found_where_sqlite_has_the_bug(tmp_path: Path) -> None:
    path = tmp_path / "outbox" / "outbox.db"
    path.parent.mkdir()
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('create table if not"
        " exists t(x)'); c.commit(); print('open', flush=True); sys.stdin.read()"
    )
    mine = sqlite3.connect(path)
    mine.execute("create table t(x)")
    mine.commit()
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        assert versions.writers_of(path) == sorted([os.getpid(), other.pid])
        (found,) = versions.sqlite(patient(tmp_path))
        affected = versions.has_wal_bug(sqlite3.sqlite_version_info)
        assert found.verdict == ("broken" if affected else "ok")
        assert sqlite3.sqlite_version in found.saw
    mine.close()
    assert versions.writers_of(path) == []


def test_the_file_system_of_a_folder_is_the_innermost_one(tmp_path: Path) -> None:
    mounts = (
        "1 0 8:1 / / rw,noatime - ext4 /dev/sda1 rw\n"
        f"2 1 0:9 / {tmp_path} ro,nosuid - nfs4 host:/x rw\n"
        f"3 1 0:9 / {tmp_path}else rw - tmpfs x rw\n"
    )
    assert disk.mounted(tmp_path / "data", mounts) == ("nfs4", frozenset({"ro", "nosuid"}))
    assert disk.mounted(Path("/"), mounts)[0] == "ext4"


def test_memory_for_two_workers_is_asked_of_the_kernel() -> None:
    assert memory.available("MemTotal: 100 kB\nMemAvailable:   2048 kB\n") == 2 << 20
    assert memory.available("MemTotal: 100 kB\n") is None


def test_a_check_that_breaks_or_hangs_is_a_finding(tmp_path: Path) -> None:
    never = threading.Event()

    def breaks(_: Patient) -> Iterator[Finding]:
        raise ZeroDivisionError("made up")
        yield

    def hangs(_: Patient) -> Iterator[Finding]:
        never.wait()
        yield from ()

    families = (("breaks", breaks, 5.0), ("hangs", hangs, 0.05))
    broken, hung = doctor.look(patient(tmp_path), families)
    never.set()
    assert broken.verdict == "warning"
    assert "made up" in broken.saw
    assert hung.verdict == "broken"
    assert "hangs" in hung.name


def test_tls_identities_are_told_with_their_ends(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ended = authority.identity(begins=timedelta(days=-2), ends=timedelta(days=-1))
    later = authority.identity(begins=timedelta(hours=1), ends=timedelta(days=90))
    good = authority.identity(ends=timedelta(days=90))

    def told(identity: Identity | None, ca: str = "") -> dict[str, str]:
        files = TlsFiles(ca_file=ca)
        if identity is not None:
            files = TlsFiles(ca, str(identity.certificate), str(identity.key))
        loaded = AgentSettings(gateway="https://127.0.0.1:9", tls=files)
        found = tls(Patient(tmp_path, tmp_path / "run", loaded, None))
        return {one.name: one.verdict for one in found}

    assert told(None) == {"tls": "ok"}
    assert told(good) == {"tls.client_cert": "ok"}
    assert told(ended, str(authority.file)) == {
        "tls.ca_file": "warning",  # it holds for two days
        "tls.client_cert": "broken",
    }
    assert told(later) == {"tls.client_cert": "broken"}
    assert told(None, str(tmp_path / "none.pem")) == {"tls": "broken"}
    assert list(tls(patient(tmp_path))) == [], "nothing asks for TLS"
