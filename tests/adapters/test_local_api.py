"""The worker's server, met by callers who know the frames and not the manners."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge_agent.sdk import Client, DeadlineExceeded, Overloaded
from edge_agent.sdk.wire import HEADER, MAX_META, FrameReader, head
from tests.local_device import TASK, LocalDevice, easy, hard


@pytest.fixture
def device(tmp_path: Path) -> Iterator[LocalDevice]:
    with LocalDevice(tmp_path) as device:
        yield device


class Caller:
    """A program with a socket of its own."""

    def __init__(self, device: LocalDevice) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        self._socket.connect(str(device.folder / f"{TASK}.sock"))
        self._reader = FrameReader()
        self._frames: list[bytes] = []

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def says(self, data: bytes) -> None:
        self._socket.sendall(data)

    def floods(self, whole: bytes, *, most: int) -> int:
        """Send this again and again until nobody takes it any more; how often it went out whole."""
        self._socket.setblocking(False)
        sent = 0
        for _ in range(most):
            try:
                self._socket.send(whole)
            except BlockingIOError:
                time.sleep(0.02)
                try:
                    self._socket.send(whole)
                except BlockingIOError:
                    break
            sent += 1
        self._socket.settimeout(30)
        return sent

    def hears(self) -> dict[str, object] | None:
        """The next reply, or None when the worker hung up."""
        while not self._frames:
            count = self._socket.recv_into(self._reader.buffer())
            if count == 0:
                return None
            self._frames += [frame.meta for frame in self._reader.filled(count)]
        said: dict[str, object] = json.loads(self._frames.pop(0))
        return said


def wait_until(true: Callable[[], bool]) -> None:
    begun = time.monotonic()
    while not true():
        assert time.monotonic() < begun + 5, "never came true"
        time.sleep(0.001)


def request(request_id: str = "q", *, data: bytes | None = None, **more: object) -> bytes:
    body = easy().tobytes() if data is None else data
    meta = {
        "op": "infer",
        "id": request_id,
        "client": "raw",
        "deadline_ms": 300,
        "dtype": "float32",
        "shape": [6],
    }
    return head(json.dumps(meta | more).encode(), len(body)) + body


@pytest.mark.parametrize(
    ("bad", "request_id"),
    [
        (head(b"{"), ""),
        (head(b""), ""),
        (head(b'{"op":"infer","id":"x"}'), "x"),
        (request("y", shape="6"), "y"),
        (request("z", client="a/b"), "z"),
    ],
)
def test_a_bad_request_is_told_so_and_the_connection_stays(
    device: LocalDevice, bad: bytes, request_id: str
) -> None:
    with Caller(device) as caller:
        caller.says(bad)
        refused = caller.hears()
        assert refused is not None
        assert (refused["ok"], refused["code"], refused["id"]) == (False, "bad_request", request_id)
        caller.says(request("good"))
        answered = caller.hears()
        assert answered is not None
        assert (answered["ok"], answered["id"]) == (True, "good")


def test_a_frame_over_the_limits_is_named_and_ends_the_connection_only(
    device: LocalDevice,
) -> None:
    with Caller(device) as caller, Caller(device) as other:
        caller.says(request("first") + HEADER.pack(MAX_META + 1, 0))
        answered, refused = caller.hears(), caller.hears()
        assert answered is not None
        assert answered["id"] == "first", "what came before it is answered"
        assert refused is not None
        assert refused["code"] == "frame_too_large"
        assert caller.hears() is None
        other.says(request())
        assert other.hears() is not None


def test_requests_on_one_connection_are_answered_in_order(device: LocalDevice) -> None:
    with Caller(device) as caller:
        caller.says(b"".join(request(f"n{number}") for number in range(200)))
        for number in range(200):
            said = caller.hears()
            assert said is not None
            assert said["id"] == f"n{number}"


def test_a_request_cut_into_bytes_is_answered(device: LocalDevice) -> None:
    with Caller(device) as caller:
        for at, _ in enumerate(data := request()):
            caller.says(data[at : at + 1])
        assert caller.hears() is not None


def test_a_caller_that_hangs_up_is_recorded_all_the_same(device: LocalDevice) -> None:
    device.cloud.after_s = 0.02
    with Caller(device) as caller:
        caller.says(request("gone", data=hard().tobytes()))
        wait_until(lambda: bool(device.cloud.asked))
    wait_until(lambda: bool(device.records.written))
    assert device.records.written[0].request_id == "gone"


def test_a_request_whose_time_has_passed_is_refused_at_once(device: LocalDevice) -> None:
    """It waited in a queue before the worker saw it; running it now would help nobody."""
    waited = device.now() - 0.5
    with Caller(device) as caller:
        caller.says(request("stale", until=waited))
        said = caller.hears()
    assert said is not None
    assert (said["ok"], said["code"]) == (False, DeadlineExceeded.code)
    assert device.records.written == []


def test_a_mistake_of_ours_ends_one_request_and_not_the_worker(device: LocalDevice) -> None:
    whole = device.cascade.terms
    with Caller(device) as caller:
        device.cascade.terms = "broken"  # type: ignore[assignment] # whatever goes wrong inside
        caller.says(request("unlucky"))
        said = caller.hears()
        assert said is not None
        assert said["code"] == "internal"
        device.cascade.terms = whole
        caller.says(request("next"))
        answered = caller.hears()
        assert answered is not None
        assert answered["ok"]


def test_a_swap_of_workers_drops_no_request(device: LocalDevice) -> None:
    """The old one stops accepting and says so; the new one listens on the same socket."""
    stop = threading.Event()
    answers: list[str] = []

    def ask_on(number: int) -> None:
        with Client(TASK, run=device.folder, name=f"c{number}") as client:
            while not stop.is_set():
                answers.append(client.infer(easy(), deadline_ms=2000).label)

    callers = [threading.Thread(target=ask_on, args=(number,)) for number in range(3)]
    for caller in callers:
        caller.start()
    old = device.api
    for _ in range(5):
        new = device.listen()
        device.do(old.retire(idle_s=0.05))
        assert old.connections == set()
        assert old.busy == 0
        old = new
    stop.set()
    for caller in callers:
        caller.join()
    device.api = old
    assert len(answers) == len(device.records.written) > 0
    assert set(answers) == {"left"}


def test_retiring_waits_for_what_is_in_progress(device: LocalDevice) -> None:
    device.cloud.after_s = 0.1
    with Caller(device) as caller:
        caller.says(request("slow", data=hard().tobytes(), deadline_ms=2000))
        wait_until(lambda: bool(device.cloud.asked))
        device.do(device.api.retire(idle_s=0.0))
        said = caller.hears()
        assert said is not None
        assert (said["source"], said["go_away"]) == ("cloud", True)
        assert caller.hears() is None


def test_a_retiring_worker_takes_no_new_connection(device: LocalDevice) -> None:
    device.cloud.after_s = 0.2
    old = device.api
    with Caller(device) as caller, Caller(device) as late, ThreadPoolExecutor(1) as threads:
        caller.says(request("slow", data=hard().tobytes(), deadline_ms=5000))
        wait_until(lambda: bool(device.cloud.asked) and len(old.connections) == 2)
        retired = threads.submit(device.do, old.retire(idle_s=0.0))
        wait_until(lambda: old.retiring)
        with Caller(device) as later:
            later.says(request("for the next worker"))
            assert caller.hears() is not None
            retired.result()
            assert late.hears() is None
            device.api = device.listen()
            said = later.hears()
            assert said is not None
            assert (said["id"], "go_away" in said) == ("for the next worker", False)


def test_retiring_ends_though_a_caller_keeps_its_connection(device: LocalDevice) -> None:
    with Caller(device) as caller:
        caller.says(request())
        assert caller.hears() is not None
        device.do(asyncio.wait_for(device.api.retire(idle_s=0.05), timeout=2))
        assert caller.hears() is None


def test_a_caller_that_floods_is_held_back_and_others_are_served(device: LocalDevice) -> None:
    """It sends without reading; what it was not yet answered waits in its own socket."""
    with Caller(device) as flood, Caller(device) as other:
        sent = flood.floods(request("flood"), most=20_000)
        assert sent < 20_000, "somebody reads without end"
        for number in range(20):
            other.says(request(f"o{number}"))
            said = other.hears()
            assert said is not None
            assert said["id"] == f"o{number}"
        for _ in range(200):
            assert flood.hears() is not None


def test_callers_that_say_nothing_make_room_for_those_who_ask(device: LocalDevice) -> None:
    crowded = device.listen(most=4, silent_s=0.0)
    device.do(device.api.close())
    device.api = crowded
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(Caller(device)) for _ in range(4)]
        wait_until(lambda: len(crowded.connections) == 4)
        asking = stack.enter_context(Caller(device))
        asking.says(request())
        assert asking.hears() is not None
        assert silent[0].hears() is None, "the one silent for longest has made room"
        assert len(crowded.connections) == 4


def test_one_connection_too_many_is_told_so(device: LocalDevice) -> None:
    crowded = device.listen(most=2, silent_s=1e9)
    device.do(device.api.close())
    device.api = crowded
    with Caller(device) as first, Caller(device), Caller(device) as third:
        said = third.hears()
        assert said is not None
        assert (said["id"], said["code"]) == ("", Overloaded.code)
        assert third.hears() is None
        first.says(request())
        assert first.hears() is not None
        with Client(TASK, run=device.folder) as client, pytest.raises(Overloaded):
            client.infer(easy())


def test_a_caller_that_does_not_read_its_answers_loses_none(device: LocalDevice) -> None:
    with Caller(device) as caller:
        sent = caller.floods(request("again"), most=20_000)
        for _ in range(sent):
            assert caller.hears() is not None
        caller.says(request("after"))
        said = caller.hears()
        assert said is not None
        assert said["id"] == "after"
