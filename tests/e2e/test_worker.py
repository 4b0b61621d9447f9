"""Real worker processes, with the test in the supervisor's place."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from edge_agent.cloud import handover
from edge_agent.cloud.handover import Answer, Drained, Escalate, Failed, Missed, NoAnswer, Ready
from edge_agent.sdk import Client, WrongShape
from models import package
from models.calibrate.decide import judge
from models.golden import golden_inputs
from models.manifest import Role
from models.predict import Predictor
from models.twins import build_twin
from models.zoo.packages import build_zoo
from tests.local_device import TASK, easy, hard
from tests.played_supervisor import PlayedSupervisor, WorkerProcess, wait_until
from tests.tiny_models import build_tiny

pytestmark = pytest.mark.e2e


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[PlayedSupervisor]:
    """With a twin, whose inputs say what its edge answers."""
    twin = build_twin(TASK, "3", tmp_path / "twin")
    with PlayedSupervisor(tmp_path, twin, TASK) as supervisor:
        yield supervisor


@pytest.fixture
def client(supervisor: PlayedSupervisor) -> Iterator[Client]:
    with Client(TASK, run=supervisor.folder) as client:
        yield client


@pytest.mark.parametrize("task", ["shades", "digits"])
def test_a_worker_serves_a_real_model_as_it_runs_anywhere(tmp_path: Path, task: str) -> None:
    folder = build_tiny(tmp_path) if task == "shades" else build_zoo(task, "1", tmp_path / task)
    whole = package.read(folder, Role.EDGE)
    here, spec = Predictor.load(whole), whole.manifest.input
    golden = replace(whole.manifest.golden, count=20, seed=11)

    def no_cloud(said: Escalate) -> NoAnswer:
        return NoAnswer(said.id, "link_down")

    with PlayedSupervisor(tmp_path, folder, task) as supervisor:
        worker = supervisor.start(on_escalate=no_cloud)
        ready, _ = worker.expect(Ready)
        assert (ready.task, ready.version, ready.digest) == (task, "1", "ab" * 6)
        assert ready.pid == worker.process.pid
        with Client(task, run=tmp_path) as client:
            for sample in golden_inputs(spec, golden):
                answer, mine = client.infer(sample, deadline_ms=5000), here.predict(sample)
                assert answer.label == mine.label
                assert answer.confidence == pytest.approx(mine.confidence)
                verdict = judge(mine.confidence, whole.manifest.certificate.threshold)
                assert answer.hard == verdict.hard
                assert answer.final == (not answer.hard)
            with pytest.raises(WrongShape):
                client.infer(np.zeros((3, 3), spec.dtype))
        assert len(supervisor.records()) == 20


def test_a_hard_input_goes_to_the_supervisor_and_its_answer_comes_back(
    supervisor: PlayedSupervisor, client: Client
) -> None:
    worker = supervisor.start_ready(lambda said: Answer(said.id, "middle", 0.99, "7"))
    answer = client.infer(hard(), request_id="case-7", deadline_ms=5000)
    assert (answer.label, answer.source, answer.version) == ("middle", "cloud", "7")
    asked, body = worker.expect(Escalate)
    assert (asked.id, asked.client, asked.task, asked.version) == ("case-7", "default", TASK, "3")
    assert 0 < asked.timeout_ms <= 4960
    assert body == hard().tobytes()
    (record,) = supervisor.records()
    assert (record.route, record.final, record.hard, record.label) == (
        "cloud",
        True,
        True,
        "middle",
    )


def test_without_an_answer_the_edge_answers_and_a_late_one_does_no_harm(
    supervisor: PlayedSupervisor, client: Client
) -> None:
    worker = supervisor.start_ready()
    answer = client.infer(hard(), request_id="slow", deadline_ms=1000)
    assert (answer.label, answer.final, answer.reason) == ("left", False, "deadline")
    worker.tell(Answer("slow", "middle", 0.99, "7"))
    worker.tell(NoAnswer("never-asked", "link_down"))
    assert client.infer(easy(), deadline_ms=5000).final
    assert [record.reason for record in supervisor.records()] == ["deadline", "confident"]


def test_a_record_is_in_the_pipe_before_its_answer_is_here(
    supervisor: PlayedSupervisor, client: Client
) -> None:
    supervisor.start_ready()
    for _ in range(100):
        answer = client.infer(easy(), deadline_ms=5000)
        (record,) = supervisor.records()
        assert record.request_id == answer.request_id
        assert record.total_us == answer.timings.total_us


class Load:
    """Callers that ask without pause, each with a client of its own, every third input hard."""

    def __init__(self, folder: Path, callers: int = 4) -> None:
        self.answered: list[str] = []
        self.failed: list[Exception] = []
        self._folder = folder
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(callers)]
        for thread in self._threads:
            thread.start()

    def _ask(self, number: int) -> None:
        with Client(TASK, run=self._folder, name=f"caller-{number}") as client:
            count = 0
            while not self._stop.is_set():
                count += 1
                given = easy() if count % 3 else hard()
                try:
                    answer = client.infer(given, deadline_ms=20_000)
                except Exception as error:  # noqa: BLE001 - whatever it is, the test wants to see it
                    self.failed.append(error)
                else:
                    self.answered.append(answer.request_id)

    def grows(self) -> None:
        """Wait until requests made from now on have been answered."""
        before = len(self.answered)
        wait_until(lambda: len(self.answered) > before + 20)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def by_cloud(said: Escalate) -> Answer:
    return Answer(said.id, "middle", 0.99, "7")


class Reading:
    """Reads the pipe all the time, as a supervisor does."""

    def __init__(self, supervisor: PlayedSupervisor) -> None:
        self.ids: list[str] = []
        self._supervisor = supervisor
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while not self._stop.wait(0.002):
            self.ids += [record.request_id for record in self._supervisor.records()]

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self.ids += [record.request_id for record in self._supervisor.records()]


def test_a_swap_under_load_drops_no_request(supervisor: PlayedSupervisor) -> None:
    worker = supervisor.start_ready(by_cloud)
    reading, load = Reading(supervisor), Load(supervisor.folder)
    for _ in range(3):
        load.grows()
        following = supervisor.start_ready(by_cloud)
        worker.tell(handover.Retire())
        worker.expect(Drained)
        assert worker.ended() == 0
        worker = following
    load.grows()
    load.stop()
    reading.stop()
    assert load.failed == []
    assert set(load.answered) <= set(reading.ids)
    assert len(reading.ids) == len(set(reading.ids)), "nobody had to ask twice"


def test_what_was_answered_before_a_kill_is_in_the_pipe_and_the_rest_is_asked_again(
    supervisor: PlayedSupervisor,
) -> None:
    worker = supervisor.start_ready(by_cloud)
    reading, load = Reading(supervisor), Load(supervisor.folder)
    for _ in range(3):
        load.grows()
        worker.kill()
        worker = supervisor.start_ready(by_cloud)
    load.grows()
    load.stop()
    reading.stop()
    assert load.failed == []
    assert set(load.answered) <= set(reading.ids)


def test_records_that_find_no_room_are_counted_and_callers_do_not_wait(
    supervisor: PlayedSupervisor, client: Client
) -> None:
    worker = supervisor.start_ready()
    asked = 600
    for _ in range(asked):
        client.infer(easy(), deadline_ms=5000)
    worker.tell(handover.Retire())
    missed, said = 0, worker.says.get(timeout=30)[0]
    while not isinstance(said, Drained):
        assert isinstance(said, Missed | handover.Alive)
        missed += said.count if isinstance(said, Missed) else 0
        said = worker.says.get(timeout=30)[0]
    assert missed > 0
    assert len(supervisor.records()) + missed == asked


def test_a_worker_ends_with_its_supervisor(supervisor: PlayedSupervisor) -> None:
    worker = supervisor.start_ready()
    worker.hang_up()
    assert worker.process.wait(timeout=10) == 4


def test_ctrl_c_is_the_supervisors_to_hear_and_sigterm_drains(
    supervisor: PlayedSupervisor, client: Client
) -> None:
    worker = supervisor.start_ready()
    worker.process.send_signal(signal.SIGINT)
    assert client.infer(easy(), deadline_ms=5000).final
    worker.process.send_signal(signal.SIGTERM)
    worker.expect(Drained)
    assert worker.ended() == 0


def failure(worker: WorkerProcess) -> Failed:
    failed, _ = worker.expect(Failed)
    assert worker.ended() == 3
    return failed


def test_a_package_that_does_not_run_here_is_named(
    supervisor: PlayedSupervisor, tmp_path: Path
) -> None:
    damaged = build_tiny(tmp_path / "damaged")
    (damaged / "edge.onnx").write_bytes(b"not a model")
    assert failure(supervisor.start(package=damaged, task="shades")).code == "hash_mismatch"
    assert failure(supervisor.start(package=tmp_path / "nowhere")).code == "file_missing"
    other = failure(supervisor.start(task="shoes"))
    assert other.code == "bad_order"
    assert "is of task sides, not shoes" in other.message


@pytest.mark.parametrize(
    "order", [None, "", "{}", '{"listen_fd":3,"listen_df":4}', "[" * 5000], ids=str
)
def test_a_worker_started_by_hand_says_who_starts_workers(order: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != handover.VARIABLE}
    if order is not None:
        environment[handover.VARIABLE] = order
    done = subprocess.run(
        [sys.executable, "-P", "-m", "edge_agent.worker"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "code=bad_order" in done.stderr
    assert "started by the supervisor (longstop-agent run)" in done.stderr


def test_files_in_a_watched_folder_are_answered(
    supervisor: PlayedSupervisor, tmp_path: Path
) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    np.save(inbox / "one.npy", easy(2))
    (inbox / "two.bin").write_bytes(hard().tobytes())
    worker = supervisor.start(directory=inbox, on_escalate=by_cloud)
    worker.expect(Ready)
    wait_until(lambda: {"one.npy.json", "two.bin.json"} <= {path.name for path in inbox.iterdir()})
    assert '"label":"right"' in (inbox / "one.npy.json").read_text()
    assert '"source":"cloud"' in (inbox / "two.bin.json").read_text()
    assert {record.client for record in supervisor.records()} == {f"directory.{TASK}"}
