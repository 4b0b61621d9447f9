"""The blocking client against workers that are silent, break off, leave or babble."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edge_agent.sdk import (
    AgentUnavailable,
    Client,
    DeadlineExceeded,
    InvalidInput,
    LongstopError,
    ProtocolMismatch,
    agent,
)
from edge_agent.sdk.errors import error_of
from edge_agent.sdk.wire import head
from models.errors import InputError
from tests.local_device import STATUS, TASK, easy
from tests.scripted_worker import Scripted, requests, say, silent, well_behaved

SLACK_MS = 150
"""How late a loaded test machine may be; a client that waits for no reply is later than that."""


@pytest.mark.parametrize("deadline_ms", [30, 100])
def test_the_deadline_is_kept_when_the_worker_never_answers(
    tmp_path: Path, deadline_ms: int
) -> None:
    with Scripted(tmp_path, silent), Client(TASK, run=tmp_path) as client:
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=f"within {deadline_ms} ms"):
            client.infer(easy(), deadline_ms=deadline_ms)
        took_ms = (time.monotonic() - begun) * 1000
    assert deadline_ms <= took_ms < deadline_ms + SLACK_MS


def test_an_agent_that_says_nothing_costs_the_deadline_and_no_more(tmp_path: Path) -> None:
    """It is asked why nobody listens for the task, within the time there is."""
    with Scripted(tmp_path, silent, name="agent"), Client(TASK, run=tmp_path) as client:
        begun = time.monotonic()
        with pytest.raises(AgentUnavailable, match="gave no answer"):
            client.infer(easy(), deadline_ms=60)
        assert time.monotonic() - begun < (60 + SLACK_MS) / 1000


def test_the_deadline_is_kept_when_nobody_accepts(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / f"{TASK}.sock"))
        listening.listen(1)
        client = Client(TASK, run=tmp_path)
        for _ in range(4):  # the backlog overflows meanwhile
            begun = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                client.infer(np.zeros(1 << 20, np.float32), deadline_ms=50)
            assert time.monotonic() - begun < (50 + SLACK_MS) / 1000
        client.close()


def test_a_broken_connection_is_replaced_and_the_request_sent_again_under_its_id(
    tmp_path: Path,
) -> None:
    ids: list[object] = []
    left: list[object] = []

    def falls_silent_then_breaks(connection: socket.socket) -> None:
        request = next(requests(connection))
        ids.append(request["id"])
        left.append(request["deadline_ms"])
        time.sleep(0.03)

    def answers(connection: socket.socket) -> None:
        for request in requests(connection):
            ids.append(request["id"])
            left.append(request["deadline_ms"])
            say(connection, request["id"])

    with (
        Scripted(tmp_path, falls_silent_then_breaks, falls_silent_then_breaks, answers),
        Client(TASK, run=tmp_path) as client,
    ):
        answer = client.infer(easy(), deadline_ms=400)
    assert ids == [answer.request_id] * 3
    first, _, last = left
    assert isinstance(first, int)
    assert isinstance(last, int)
    assert last <= first - 60, "each time it says what time is left"


def test_a_worker_that_breaks_off_in_the_middle_of_an_answer_is_asked_again(
    tmp_path: Path,
) -> None:
    def half(connection: socket.socket) -> None:
        next(requests(connection))
        connection.sendall(head(b'{"ok":true}')[:10])

    with Scripted(tmp_path, half, well_behaved), Client(TASK, run=tmp_path) as client:
        assert client.infer(easy()).label == "left"


def test_an_agent_restarted_meanwhile_is_waited_for(tmp_path: Path) -> None:
    """Once it was there, its absence is a broken connection like any other."""

    def answers_once(connection: socket.socket) -> None:
        say(connection, next(requests(connection))["id"])

    with Client(TASK, run=tmp_path) as client:
        with Scripted(tmp_path, answers_once):
            client.infer(easy())
        (tmp_path / f"{TASK}.sock").unlink()
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(client.infer, easy(), deadline_ms=5000)
            assert not waiting.done()
            with Scripted(tmp_path, answers_once):
                assert waiting.result().label == "left"


def test_an_agent_that_stays_away_costs_the_deadline_and_says_why(tmp_path: Path) -> None:
    def answers_once(connection: socket.socket) -> None:
        say(connection, next(requests(connection))["id"])

    with Client(TASK, run=tmp_path) as client:
        with Scripted(tmp_path, answers_once):
            client.infer(easy())
        with pytest.raises(DeadlineExceeded, match="nobody listens at"):
            client.infer(easy(), deadline_ms=50)


def test_a_worker_that_goes_away_is_not_asked_again(tmp_path: Path) -> None:
    def leaving(connection: socket.socket) -> None:
        for request in requests(connection):
            say(connection, request["id"], go_away=True)

    with Scripted(tmp_path, leaving, well_behaved) as worker, Client(TASK, run=tmp_path) as client:
        for _ in range(3):
            client.infer(easy())
        assert worker.connections == 2


def test_one_go_away_retires_every_connection_made_before(tmp_path: Path) -> None:
    together = threading.Barrier(2)
    asked_again: list[object] = []

    def meets(connection: socket.socket) -> None:
        for request in requests(connection):
            together.wait(timeout=5)
            say(connection, request["id"])
            for later in requests(connection):
                asked_again.append(later["id"])
                say(connection, later["id"], go_away=True)

    with (
        Scripted(tmp_path, meets, meets, well_behaved) as worker,
        Client(TASK, run=tmp_path) as client,
        ThreadPoolExecutor(2) as threads,
    ):
        list(threads.map(lambda _: client.infer(easy(), deadline_ms=2000), range(2)))
        for _ in range(3):
            client.infer(easy())
        assert len(asked_again) == 1
        assert worker.connections == 3


def test_a_reply_to_another_request_is_not_taken(tmp_path: Path) -> None:
    def confused(connection: socket.socket) -> None:
        next(requests(connection))
        say(connection, "somebody-else")

    with Scripted(tmp_path, confused, well_behaved) as worker:
        with Client(TASK, run=tmp_path) as client:
            client.infer(easy())
        assert worker.connections == 2


def test_a_worker_of_another_age_is_named_as_such(tmp_path: Path) -> None:
    def babbles(connection: socket.socket) -> None:
        next(requests(connection))
        connection.sendall(head(b'{"status":"fine"}'))

    with (
        Scripted(tmp_path, babbles),
        Client(TASK, run=tmp_path) as client,
        pytest.raises(ProtocolMismatch, match="install the SDK that belongs"),
    ):
        client.infer(easy())


REVISION = {
    "request_id": "r1",
    "task": TASK,
    "label": "left",
    "confidence": None,
    "version": "1",
    "at": 7,
}


@pytest.mark.parametrize(
    "said",
    [
        {"tasks": "sides"},
        {"tasks": [1]},
        {"revisions": [REVISION | {"label": 5}]},
        {"revisions": [REVISION | {"confidence": "0.9"}]},
        {"revisions": ["r1"]},
        {"revisions": {"r1": REVISION}},
        {"status": STATUS | {"connected": "yes"}},
        {"status": STATUS | {"last_contact": "noon"}},
        {"status": STATUS | {"tasks": [{"task": TASK, "version": 3, "state": "", "wanted": ""}]}},
        {"status": {}},
        {"status": None},
    ],
    ids=str,
)
def test_an_agent_of_another_age_is_named_as_such(said: dict[str, object]) -> None:
    meta = json.dumps({"ok": True} | said).encode()
    (kind,) = said
    read = {
        "tasks": agent.read_tasks,
        "revisions": agent.read_revisions,
        "status": agent.read_status,
    }[kind]
    with pytest.raises(ProtocolMismatch, match="install the SDK that belongs"):
        read(meta)


@pytest.mark.parametrize("meta", [b"", b"[]", b"{}", b'"ok"', b'{"ok":false}'])
def test_an_agent_that_babbles_is_named_as_such(meta: bytes) -> None:
    with pytest.raises(ProtocolMismatch):
        agent.read_tasks(meta)


def test_whole_numbers_are_times_too() -> None:
    meta = json.dumps({"ok": True, "revisions": [REVISION]}).encode()
    (revision,) = agent.read_revisions(meta)
    assert (revision.at, revision.confidence) == (7.0, None)


def test_whatever_is_wrong_with_an_input_comes_back_by_the_same_name() -> None:
    kinds = [InputError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    for kind in kinds[1:]:
        error = error_of(kind.code, "as the device said")
        assert isinstance(error, InvalidInput)
        assert (type(error).__name__, error.code) == (kind.__name__, kind.code)


def test_a_refusal_of_an_unknown_code_keeps_its_code(tmp_path: Path) -> None:
    def refuses(connection: socket.socket) -> None:
        for request in requests(connection):
            said = {"id": request["id"], "ok": False, "code": "on_strike", "message": "not today"}
            connection.sendall(head(json.dumps(said).encode()))

    with (
        Scripted(tmp_path, refuses),
        Client(TASK, run=tmp_path) as client,
        pytest.raises(LongstopError, match="not today") as refused,
    ):
        client.infer(easy())
    assert refused.value.code == "on_strike"
