"""Disks on their bad days, under real agents: full, read-only, somebody else's, left behind.

Each has a small file system of its own, mounted in a name space of the test's own making.
"""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_agent.sdk import Client, LongstopError
from models.twins import build_twin
from tests.local_device import easy, hard
from tests.programs import PYTHON, TASK, Agent, Gateway, Program, until

pytestmark = pytest.mark.e2e

FAST = ("cloud.pace.beat_s=1", "outbox.linger_ms=20", "limits.sample_s=0.2")
SMALL = (*FAST, "outbox.limits.budget_bytes=1048576", "outbox.limits.escalation_bytes=262144")


@contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[Path]:
    """A file system of this size at `place`."""
    place.mkdir(parents=True)
    mount("-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place))
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def fill(disk: Path) -> Path:
    """Leave no room at all."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return filler


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("cloud")) as gateway:
        gateway.publish("1.0.0")
        gateway.desire("1.0.0")
        yield gateway


def test_a_disk_that_is_full_mid_run_costs_no_answer_and_says_so(
    gateway: Gateway, tmp_path: Path
) -> None:
    with (
        small_disk(tmp_path / "a", 12) as disk,
        Agent(disk, gateway.invite("full-mid-run"), *SMALL) as agent,
    ):
        until(lambda: agent.serves("1.0.0"), what="served")
        filler = fill(disk)
        with agent.client() as client:
            for label in range(3):
                for _ in range(40):
                    assert client.infer(easy(label), deadline_ms=5000).source == "edge"
            assert client.infer(hard(0, 2), deadline_ms=10_000).label == "right"
        doctor = agent.tell("doctor")
        assert doctor.returncode == 1
        assert "disk space" in doctor.stdout
        filler.unlink()
        with agent.client() as client:
            client.infer(easy(1), deadline_ms=5000)
        until(lambda: agent.status()["issued"] >= 122, what="each is numbered, stored or lost")
        until(lambda: agent.status()["pending"] == 0, what="delivered")
        until(lambda: agent.status()["lost_unreported"] == 0, what="losses reported")
        assert agent.stop() == 0


def test_a_disk_that_is_full_at_start_is_named_and_the_start_after_is_well(
    gateway: Gateway, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "a", 12) as disk:
        with Agent(disk, gateway.invite("full-at-start"), *SMALL) as agent:
            until(lambda: agent.serves("1.0.0"), what="served")
            assert agent.stop() == 0
        filler = fill(disk)
        with agent.again() as again:
            assert again.process.wait(60) == 1
            assert "outbox_unavailable" in again.said()
            assert "the disk is full: make room" in again.said()
        filler.unlink()
        with agent.again() as last:
            until(lambda: last.serves("1.0.0"), what="served again")
            with last.client() as client:
                assert client.infer(easy(1), deadline_ms=5000).source == "edge"


def test_a_read_only_file_system_is_named_and_doctor_knows_what_to_do(
    gateway: Gateway, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "a", 12) as disk:
        with Agent(disk, gateway.invite("read-only"), *SMALL) as agent:
            until(lambda: agent.serves("1.0.0"), what="served")
        mount("-o", "remount,ro", str(disk))
        told = agent.tell("run")
        assert told.returncode == 1
        assert "data_folder_unusable" in told.stderr
        assert "Read-only file system" in told.stderr
        doctor = agent.tell("doctor")
        assert doctor.returncode == 1
        assert "mounted read-only" in doctor.stdout
        assert "remount,rw" in doctor.stdout
        mount("-o", "remount,rw", str(disk))
        with agent.again() as again:
            until(lambda: again.serves("1.0.0"), what="served again")


def test_a_data_folder_of_somebody_else_is_named_with_what_to_do(tmp_path: Path) -> None:
    data = tmp_path / "a"
    data.mkdir(mode=0o700)
    os.chown(data, 4711, 4711)
    # Root without the right to override owners is as good as any other user.
    other = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    package = str(build_twin(TASK, "1", tmp_path / "package"))
    words = ["edge_agent", "run", "--data", str(data), "--package", package]
    done = subprocess.run([*other, *PYTHON, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("longstop-agent: data_folder_unusable: ")
    assert "run the agent as the folder's owner" in done.stderr
    doctor = subprocess.run(
        [*other, *PYTHON, "edge_agent", "doctor", "--data", str(data)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert doctor.returncode == 1
    assert "belongs to user 4711, and you are user 0" in doctor.stdout


def test_sockets_left_by_a_dead_process_are_replaced_and_others_left_alone(tmp_path: Path) -> None:
    package = build_twin(TASK, "1", tmp_path / "package")
    run = tmp_path / "a" / "run"
    run.mkdir(parents=True)
    for name in ("agent", TASK):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(run / f"{name}.sock"))
    agent = Program(
        [*PYTHON, "edge_agent", "run", "--data", str(tmp_path / "a"), "--package", str(package)],
        tmp_path / "agent.log",
    )
    with agent:
        with Client(TASK, name="test", run=run) as client:
            until(lambda: answers(client), what="answered over sockets of its own")
        assert agent.stop() == 0
    assert list(run.iterdir()) == []


def answers(client: Client) -> bool:
    try:
        return client.infer(easy(1), deadline_ms=2000).source == "edge"
    except LongstopError:
        return False
