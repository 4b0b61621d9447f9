"""Many inputs at once: answers in order, an error of one in its place, on one connection."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.sdk import (
    AgentUnavailable,
    Answer,
    AsyncClient,
    BadArgument,
    Client,
    DeadlineExceeded,
    LongstopError,
    Overloaded,
    UnsupportedInput,
    WrongShape,
)
from edge_agent.sdk.many import MOST, Window
from tests.local_device import TASK, LocalDevice, easy, hard
from tests.scripted_worker import Scripted, requests, say, well_behaved

GENEROUS_MS = 20_000


@pytest.fixture
def device(tmp_path: Path) -> Iterator[LocalDevice]:
    with LocalDevice(tmp_path) as device:
        yield device


def words(answers: list[Answer | LongstopError]) -> list[str]:
    return [one.label if isinstance(one, Answer) else one.code for one in answers]


def test_answers_come_in_the_order_of_the_inputs(device: LocalDevice) -> None:
    inputs = [easy(number % 3 == 0) for number in range(100)]
    with Client(TASK, run=device.folder) as client:
        many = list(client.infer_many(inputs, deadline_ms=GENEROUS_MS))
        singly = [client.infer(one, deadline_ms=GENEROUS_MS).label for one in inputs]
    assert words(many) == singly
    assert len(device.records.written) == 200
    assert len({record.request_id for record in device.records.written}) == 200


def test_an_error_of_one_input_stands_in_its_place(device: LocalDevice) -> None:
    inputs = [easy(), np.zeros(7, np.float32), object(), easy()]
    with Client(TASK, run=device.folder) as client:
        many = list(client.infer_many(inputs, deadline_ms=GENEROUS_MS))
    assert words(many) == ["left", WrongShape.code, UnsupportedInput.code, "left"]


def test_hard_inputs_among_easy_ones_keep_their_places(device: LocalDevice) -> None:
    device.cloud.after_s = 0.01
    inputs = [hard() if number % 4 == 0 else easy() for number in range(20)]
    with Client(TASK, run=device.folder) as client:
        many = list(client.infer_many(inputs, deadline_ms=GENEROUS_MS))
    assert [isinstance(one, Answer) and one.source for one in many] == [
        "cloud" if number % 4 == 0 else "edge" for number in range(20)
    ]


def test_inputs_are_read_as_they_are_needed(device: LocalDevice) -> None:
    read = []

    def endless() -> Iterator[object]:
        while True:
            read.append(1)
            yield easy()

    with Client(TASK, run=device.folder) as client:
        answers = client.infer_many(endless(), deadline_ms=GENEROUS_MS)
        assert isinstance(next(answers), Answer)
        assert len(read) == 1
        assert all(isinstance(next(answers), Answer) for _ in range(200))
        assert len(read) <= 201 + 2 * MOST
        assert client.infer(easy(), deadline_ms=GENEROUS_MS).label == "left"


def test_what_a_broken_connection_took_along_is_asked_again_under_its_id(tmp_path: Path) -> None:
    asked: list[object] = []

    def dies_at_the_third(connection: object) -> None:
        for number, request in enumerate(requests(connection)):  # type: ignore[arg-type]
            asked.append(request["id"])
            if number == 2:
                return
            say(connection, request["id"])  # type: ignore[arg-type]

    with (
        Scripted(tmp_path, dies_at_the_third, well_behaved),
        Client(TASK, run=tmp_path) as client,
    ):
        many = list(client.infer_many([easy()] * 9, deadline_ms=GENEROUS_MS))
    assert words(many) == ["left"] * 9
    ids = [one.request_id for one in many if isinstance(one, Answer)]
    assert asked[2] in ids


def test_one_that_is_never_answered_does_not_hold_up_the_rest(tmp_path: Path) -> None:
    def forgets_the_first(connection: object) -> None:
        for number, request in enumerate(requests(connection)):  # type: ignore[arg-type]
            if number:
                say(connection, request["id"])  # type: ignore[arg-type]

    with (
        Scripted(tmp_path, forgets_the_first, well_behaved),
        Client(TASK, run=tmp_path) as client,
    ):
        many = list(client.infer_many([easy()] * 3, deadline_ms=300))
    assert words(many) == [DeadlineExceeded.code, "left", "left"]


def test_what_concerns_all_is_raised(tmp_path: Path) -> None:
    with Client(TASK, run=tmp_path) as client:
        with pytest.raises(AgentUnavailable):
            next(client.infer_many([easy()]))
        with pytest.raises(BadArgument):
            next(client.infer_many([easy()], deadline_ms=0))


def test_the_asyncio_client_does_the_same(device: LocalDevice) -> None:
    async def scene() -> list[Answer | LongstopError]:
        inputs = [easy(), np.zeros(7, np.float32), *[easy(1)] * 40]
        async with AsyncClient(TASK, run=device.folder) as client:
            return [one async for one in client.infer_many(inputs, deadline_ms=GENEROUS_MS)]

    assert words(asyncio.run(scene())) == ["left", WrongShape.code, *["middle"] * 40]


def test_a_client_with_too_many_requests_waiting_refuses_the_next_at_once(
    tmp_path: Path,
) -> None:
    """Thousands at once from one program: most are told so, those asked are answered."""

    async def scene(folder: Path) -> list[object]:
        async with AsyncClient(TASK, run=folder, connections=4) as client:
            asked = (client.infer(easy(), deadline_ms=GENEROUS_MS) for _ in range(4_000))
            return list(await asyncio.gather(*asked, return_exceptions=True))

    with LocalDevice(tmp_path) as device:
        answers = asyncio.run(scene(device.folder))
        with Client(TASK, run=device.folder) as other:
            assert other.infer(easy(), deadline_ms=GENEROUS_MS).label == "left"
    refused = sum(isinstance(one, Overloaded) for one in answers)
    answered = sum(isinstance(one, Answer) for one in answers)
    assert refused + answered == 4_000
    assert answered >= 1000
    assert refused > 0


def test_a_window_follows_the_model() -> None:
    window = Window(deadline_ms=1000)
    sizes = []
    for seconds in (0.01, 0.01, 0.07, 0.2, 0.2, 0.2):
        window.took(seconds)
        sizes.append(window.size)
    assert sizes == [2, 4, 4, 2, 1, 1]
    for _ in range(20):
        window.took(0.001)
    assert window.size == MOST
