"""The blocking client against the shipped local API and cascade."""

import array
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edge_agent.sdk import (
    AgentUnavailable,
    BadArgument,
    Client,
    ClientClosed,
    InvalidInput,
    LongstopError,
    SocketPathTooLong,
    TaskRequired,
    UnknownTask,
)
from tests.local_device import TASK, LocalDevice, easy, hard


@pytest.fixture
def device(tmp_path: Path) -> Iterator[LocalDevice]:
    with LocalDevice(tmp_path) as device:
        yield device


@pytest.fixture
def client(device: LocalDevice) -> Iterator[Client]:
    with Client(TASK, run=device.folder) as client:
        yield client


def test_a_confident_input_is_answered_on_the_device(device: LocalDevice, client: Client) -> None:
    answer = client.infer(easy(2))
    assert (answer.label, answer.source, answer.final) == ("right", "edge", True)
    assert (answer.reason, answer.hard, answer.task) == ("confident", False, TASK)
    assert (answer.version, answer.model) == ("3", "abababababab")
    assert answer.confidence == pytest.approx(0.95)
    assert answer.certified_risk is None
    assert 0 < answer.timings.total_us <= answer.timings.round_trip_us
    (record,) = device.records.written
    assert record.request_id == answer.request_id
    assert not device.cloud.asked


def test_a_hard_input_is_answered_by_the_cloud_in_time(device: LocalDevice, client: Client) -> None:
    answer = client.infer(hard(), request_id="case-7")
    assert (answer.label, answer.source, answer.final) == ("middle", "cloud", True)
    assert (answer.reason, answer.version, answer.request_id) == ("escalated", "7", "case-7")
    (escalation,) = device.cloud.asked
    (tensor,) = escalation.inputs
    assert (tensor.name, tensor.datatype, tensor.shape) == ("answers", "FP32", (6,))
    assert tensor.data == hard().tobytes()
    assert 0 < escalation.timeout_ms <= 270


def test_a_cloud_that_never_answers_costs_the_deadline_and_no_more(
    device: LocalDevice, client: Client
) -> None:
    device.cloud.after_s = None
    begun = time.monotonic()
    answer = client.infer(hard(edge=2), deadline_ms=400)
    took_ms = (time.monotonic() - begun) * 1000
    assert (answer.label, answer.source, answer.final) == ("right", "edge", False)
    assert answer.reason == "deadline"
    assert 300 < took_ms < 400


def test_a_cloud_that_declines_costs_no_time(device: LocalDevice, client: Client) -> None:
    device.cloud.refusal = "link_down"
    answer = client.infer(hard(), deadline_ms=5000)
    assert (answer.final, answer.reason) == (False, "link_down")
    assert answer.timings.round_trip_us < 1_000_000


def test_output_without_confidence_is_escalated(device: LocalDevice, client: Client) -> None:
    device.cloud.refusal = "link_down"
    answer = client.infer(np.zeros(6, np.float32))
    assert answer.hard
    assert answer.confidence is None


def test_what_the_caller_knows_is_recorded(device: LocalDevice, client: Client) -> None:
    answers = [client.infer(easy()), client.infer(hard())]
    assert [record.request_id for record in device.records.written] == [
        answer.request_id for answer in answers
    ]
    assert [record.route for record in device.records.written] == ["edge", "cloud"]
    assert all(record.client == "default" for record in device.records.written)


@pytest.mark.parametrize(
    "given",
    [
        easy(),
        array.array("f", easy().tolist()),
        memoryview(easy().tobytes()).cast("f"),
        np.repeat(easy(), 2)[::2],
        easy().reshape(2, 3).ravel(order="K"),
    ],
    ids=["numpy", "array", "memoryview", "not contiguous", "raveled"],
)
def test_anything_with_a_typed_buffer_is_taken(client: Client, given: object) -> None:
    assert client.infer(given).label == "left"


def test_bytes_are_taken_with_dtype_and_shape(client: Client) -> None:
    assert client.infer(easy().tobytes(), dtype="float32", shape=(6,)).label == "left"


NOT_A_NUMBER = easy().copy()
NOT_A_NUMBER[3] = np.nan
BAD_INPUTS: dict[str, tuple[object, str]] = {
    "another dtype": (easy().astype(np.float64), "wrong_dtype"),
    "half precision": (easy().astype(np.float16), "wrong_dtype"),
    "another shape": (easy().reshape(2, 3), "wrong_shape"),
    "no axis": (np.float32(1.0), "wrong_shape"),
    "NaN": (NOT_A_NUMBER, "not_finite"),
    "infinity": (np.full(6, np.inf, np.float32), "not_finite"),
    "an empty array": (np.zeros((0, 6), np.float32), "empty_input"),
    "a text where an array is wanted": ("left", "wrong_dtype"),
    "a file where an array is wanted": (b"left", "wrong_dtype"),
    "a record where an array is wanted": ({"left": 1}, "wrong_dtype"),
    "a record that is no JSON": ({"left": object()}, "unsupported_input"),
    "a list": ([1.0, 2.0], "unsupported_input"),
    "complex numbers": (easy().astype(np.complex64), "wrong_dtype"),
    "foreign byte order": (easy().astype(">f4"), "wrong_dtype"),
    "dates": (np.zeros(6, "M8[s]"), "unsupported_input"),
    "too much": (np.zeros(5 << 20, np.float32), "input_too_large"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_a_bad_input_is_refused_by_name_and_the_next_is_answered(
    device: LocalDevice, client: Client, name: str
) -> None:
    given, code = BAD_INPUTS[name]
    with pytest.raises(InvalidInput) as refused:
        client.infer(given)
    assert refused.value.code == code
    assert ";" in str(refused.value), "says what to do next"
    assert client.infer(easy()).final
    assert len(device.records.written) == 1


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"deadline_ms": 0}, "deadline_ms"),
        ({"deadline_ms": -1}, "deadline_ms"),
        ({"deadline_ms": 1e9}, "deadline_ms"),
        ({"deadline_ms": "300"}, "deadline_ms"),
        ({"deadline_ms": True}, "deadline_ms"),
        ({"request_id": ""}, "request_id"),
        ({"request_id": "a" * 129}, "request_id"),
        ({"request_id": 7}, "request_id"),
        ({"dtype": "float32"}, "dtype"),
    ],
)
def test_a_bad_argument_is_named_at_the_call(
    client: Client, arguments: dict[str, object], word: str
) -> None:
    with pytest.raises(BadArgument, match=word) as refused:
        client.infer(easy(), **arguments)  # type: ignore[arg-type] # that is the test
    assert refused.value.code == "bad_argument"
    assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"dtype": "float32"}, "bad_argument"),
        ({"dtype": "float31", "shape": (6,)}, "wrong_dtype"),
        ({"dtype": "float32", "shape": (7,)}, "wrong_shape"),
        ({"dtype": "float32", "shape": (-1,)}, "bad_argument"),
        ({"dtype": "float32", "shape": 6}, "bad_argument"),
    ],
)
def test_bytes_that_do_not_say_what_they_are_are_refused(
    client: Client, arguments: dict[str, object], code: str
) -> None:
    with pytest.raises(LongstopError) as refused:
        client.infer(easy().tobytes(), **arguments)  # type: ignore[arg-type] # that is the test
    assert refused.value.code == code


def test_a_socket_path_too_long_is_named_with_its_limit(tmp_path: Path) -> None:
    with pytest.raises(SocketPathTooLong, match=r"Unix allows 107; choose a shorter run folder"):
        Client(TASK, run=tmp_path / ("long" * 30))


@pytest.mark.parametrize("name", ["../etc", "", "a b", "-x"])
def test_a_task_that_is_no_name_is_a_bad_argument(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadArgument, match="task"):
        Client(name, run=tmp_path)


def test_an_agent_that_does_not_run_is_named_with_its_socket_and_the_command(
    tmp_path: Path,
) -> None:
    for ask in (lambda: Client(run=tmp_path), lambda: Client(TASK, run=tmp_path).infer(easy())):
        with pytest.raises(AgentUnavailable, match=r"\.sock; start it with: longstop-agent run"):
            ask()


def test_a_socket_nobody_listens_on_is_an_agent_that_does_not_run(tmp_path: Path) -> None:
    left_behind = socket.socket(socket.AF_UNIX)
    left_behind.bind(str(tmp_path / "agent.sock"))
    left_behind.close()
    with pytest.raises(AgentUnavailable, match="no agent listens"):
        Client(run=tmp_path)


def test_an_unknown_task_is_named_with_those_there_are(device: LocalDevice) -> None:
    with pytest.raises(UnknownTask, match=r"'shoes'; it serves: sides"):
        Client("shoes", run=device.folder).infer(easy())


def test_without_a_task_the_only_one_is_meant(device: LocalDevice) -> None:
    with Client(run=device.folder) as client:
        assert client.infer(easy()).task == TASK


@pytest.mark.parametrize(("tasks", "words"), [((), "no task yet"), (("a", "b"), "a, b: say which")])
def test_without_a_task_the_agent_must_serve_exactly_one(
    device: LocalDevice, tasks: tuple[str, ...], words: str
) -> None:
    device.tasks = tasks
    with pytest.raises(TaskRequired, match=words):
        Client(run=device.folder)


def test_threads_share_a_client_and_get_each_their_own_answer(
    device: LocalDevice, client: Client
) -> None:
    def ask(number: int) -> tuple[str, str]:
        answer = client.infer(easy(number % 3), request_id=f"n{number}", deadline_ms=5000)
        return answer.request_id, answer.label

    labels = ("left", "middle", "right")
    with ThreadPoolExecutor(8) as threads:
        got = list(threads.map(ask, range(200)))
    assert got == [(f"n{number}", labels[number % 3]) for number in range(200)]
    assert len(device.records.written) == 200


def test_connections_are_used_again(device: LocalDevice, client: Client) -> None:
    for _ in range(5):
        client.infer(easy())
    assert len(device.api.connections) == 1


def revision(number: int) -> dict[str, object]:
    return {
        "request_id": f"r{number}",
        "task": TASK,
        "label": "right",
        "confidence": 0.9,
        "version": "4",
        "at": 1.5,
    }


def test_revisions_are_taken_once_they_are_dealt_with(device: LocalDevice, client: Client) -> None:
    device.revisions = [revision(number) for number in range(250)]
    got = [one.request_id for one in client.revisions()]
    assert got == [f"r{number}" for number in range(250)]
    assert device.taken == got
    assert list(client.revisions()) == []


def test_a_revision_in_hand_when_the_loop_is_left_comes_again(
    device: LocalDevice, client: Client
) -> None:
    device.revisions = [revision(number) for number in range(3)]
    left = client.revisions()
    assert [next(left).request_id, next(left).request_id] == ["r0", "r1"]
    left.close()  # type: ignore[attr-defined] # an iterator that is a generator
    assert device.taken == ["r0"]
    assert [one.request_id for one in client.revisions()] == ["r1", "r2"]


def test_status_is_told_as_the_agent_tells_it(device: LocalDevice, client: Client) -> None:
    status = client.status()
    assert (status.device, status.connected, status.pending) == ("bench-1", True, 2)
    (task,) = status.tasks
    assert (task.task, task.version, task.state, task.wanted) == (TASK, "3", "serving", "4")


@pytest.mark.parametrize("wait_s", [-1, "1", None, float("nan")])
def test_a_wait_that_is_no_time_is_a_bad_argument(client: Client, wait_s: object) -> None:
    with pytest.raises(BadArgument, match="wait_s"):
        list(client.revisions(wait_s=wait_s))  # type: ignore[arg-type] # that is the test


def test_revisions_are_waited_for(device: LocalDevice, client: Client) -> None:
    later = threading.Timer(0.05, lambda: device.revisions.append(revision(1)))
    later.start()
    waiting = client.revisions(wait_s=5.0)
    assert next(waiting).request_id == "r1"
    begun = time.monotonic()
    assert list(client.revisions(wait_s=0.05)) != []
    assert time.monotonic() - begun >= 0.05
    later.join()


def test_a_closed_client_says_so(client: Client) -> None:
    client.close()
    with pytest.raises(ClientClosed):
        client.infer(easy())
