"""The asyncio client: the same promises, and nobody waits for somebody else."""

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.sdk import (
    AgentUnavailable,
    AsyncClient,
    ClientClosed,
    DeadlineExceeded,
    InvalidInput,
    SocketPathTooLong,
    TaskRequired,
    UnknownTask,
)
from tests.local_device import TASK, LocalDevice, easy, hard
from tests.scripted_worker import Scripted, requests, say, silent, well_behaved


@pytest.fixture
def device(tmp_path: Path) -> Iterator[LocalDevice]:
    with LocalDevice(tmp_path) as device:
        yield device


def test_easy_and_hard_inputs_are_answered(device: LocalDevice) -> None:
    async def story() -> None:
        async with AsyncClient(run=device.folder) as client:
            here = await client.infer(easy(2))
            there = await client.infer(hard(), request_id="case-7")
        assert (here.label, here.source, here.task) == ("right", "edge", TASK)
        assert (there.label, there.source, there.request_id) == ("middle", "cloud", "case-7")

    asyncio.run(story())


def test_hard_inputs_that_wait_hold_up_nobody(device: LocalDevice) -> None:
    """An open loop: 50 inputs a second, every other one hard, and a cloud that never answers."""
    device.cloud.after_s = None
    late: list[float] = []

    async def one(client: AsyncClient, number: int) -> None:
        begun = time.monotonic()
        answer = await client.infer(hard() if number % 2 else easy(), deadline_ms=300)
        took_ms = (time.monotonic() - begun) * 1000
        assert answer.final == (number % 2 == 0)
        if took_ms > (300 if number % 2 else 100):
            late.append(took_ms)

    async def story() -> None:
        async with AsyncClient(TASK, run=device.folder) as client, asyncio.TaskGroup() as group:
            for number in range(40):
                group.create_task(one(client, number))
                await asyncio.sleep(0.02)
            assert len(device.api.connections) < 20

    asyncio.run(story())
    assert late == []


def test_connections_are_bounded_and_one_more_waits_within_its_deadline(
    device: LocalDevice,
) -> None:
    device.cloud.after_s = None

    async def story() -> None:
        async with AsyncClient(TASK, run=device.folder, connections=2) as client:
            waiting = [asyncio.create_task(client.infer(hard(), deadline_ms=200)) for _ in range(2)]
            await asyncio.sleep(0.02)
            with pytest.raises(DeadlineExceeded):
                await client.infer(easy(), deadline_ms=50)
            late = await client.infer(easy(), deadline_ms=1000)
            assert late.timings.round_trip_us > 50_000
            for one in await asyncio.gather(*waiting):
                assert one.reason == "deadline"
            assert len(device.api.connections) == 2

    asyncio.run(story())


def test_the_deadline_is_kept_when_the_worker_never_answers(tmp_path: Path) -> None:
    async def story() -> None:
        async with AsyncClient(TASK, run=tmp_path) as client:
            begun = time.monotonic()
            with pytest.raises(DeadlineExceeded, match="within 60 ms"):
                await client.infer(easy(), deadline_ms=60)
            assert 0.06 <= time.monotonic() - begun < 0.3

    with Scripted(tmp_path, silent):
        asyncio.run(story())


def test_finding_out_the_task_counts_towards_the_deadline(tmp_path: Path) -> None:
    async def story() -> None:
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="within 60 ms"):
            await AsyncClient(run=tmp_path).infer(easy(), deadline_ms=60)
        assert time.monotonic() - begun < 0.3

    with Scripted(tmp_path, silent, name="agent"):
        asyncio.run(story())


def test_an_answer_that_is_here_when_a_busy_program_comes_to_look_is_given(
    device: LocalDevice,
) -> None:
    async def story() -> None:
        async with AsyncClient(TASK, run=device.folder) as client:
            await client.infer(easy())
            asked = asyncio.create_task(client.infer(easy(2), deadline_ms=50))
            await asyncio.sleep(0)
            time.sleep(0.08)  # noqa: ASYNC251 - a program that computes
            assert (await asked).label == "right"

    asyncio.run(story())


def test_a_full_backlog_is_waited_for_until_the_deadline(tmp_path: Path) -> None:
    async def story() -> None:
        async with AsyncClient(TASK, run=tmp_path) as client:
            calls = [client.infer(easy(), deadline_ms=60) for _ in range(8)]
            for error in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(error, DeadlineExceeded)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / f"{TASK}.sock"))
        listening.listen(1)
        asyncio.run(story())


def test_a_broken_connection_is_replaced_and_the_request_sent_again_under_its_id(
    tmp_path: Path,
) -> None:
    ids: list[object] = []

    def breaks(connection: socket.socket) -> None:
        ids.append(next(requests(connection))["id"])

    def answers(connection: socket.socket) -> None:
        for request in requests(connection):
            ids.append(request["id"])
            say(connection, request["id"])

    async def story() -> None:
        async with AsyncClient(TASK, run=tmp_path) as client:
            answer = await client.infer(easy())
            assert ids == [answer.request_id] * 3

    with Scripted(tmp_path, breaks, breaks, answers):
        asyncio.run(story())


def test_a_worker_that_goes_away_is_not_asked_again(tmp_path: Path) -> None:
    def leaving(connection: socket.socket) -> None:
        for request in requests(connection):
            say(connection, request["id"], go_away=True)

    async def story() -> None:
        async with AsyncClient(TASK, run=tmp_path) as client:
            for _ in range(3):
                await client.infer(easy())

    with Scripted(tmp_path, leaving, well_behaved) as worker:
        asyncio.run(story())
        assert worker.connections == 2


def test_a_call_that_is_cancelled_leaves_its_reply_to_nobody_else(device: LocalDevice) -> None:
    device.cloud.after_s = 0.05

    async def story() -> None:
        async with AsyncClient(TASK, run=device.folder) as client:
            given_up = asyncio.create_task(client.infer(hard()))
            await asyncio.sleep(0.02)
            given_up.cancel()
            await asyncio.gather(given_up, return_exceptions=True)
            for label, name in enumerate(("left", "middle", "right")):
                assert (await client.infer(easy(label))).label == name

    asyncio.run(story())


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (easy().astype(np.float64), "wrong_dtype"),
        (easy().reshape(2, 3), "wrong_shape"),
        (np.full(6, np.nan, np.float32), "not_finite"),
        (np.zeros((0, 6), np.float32), "empty_input"),
        (object(), "unsupported_input"),
    ],
)
def test_a_bad_input_is_refused_by_name(device: LocalDevice, given: object, code: str) -> None:
    async def story() -> None:
        async with AsyncClient(TASK, run=device.folder) as client:
            with pytest.raises(InvalidInput) as refused:
                await client.infer(given)
            assert refused.value.code == code
            assert (await client.infer(easy())).final

    asyncio.run(story())


def test_whom_it_cannot_ask_it_names(device: LocalDevice, tmp_path: Path) -> None:
    async def story() -> None:
        with pytest.raises(AgentUnavailable, match="longstop-agent run"):
            await AsyncClient(TASK, run=tmp_path / "elsewhere").infer(easy())
        with pytest.raises(UnknownTask, match="it serves: sides"):
            await AsyncClient("shoes", run=device.folder).infer(easy())
        device.tasks = ("a", "b")
        with pytest.raises(TaskRequired, match="a, b"):
            await AsyncClient(run=device.folder).infer(easy())
        with pytest.raises(SocketPathTooLong):
            AsyncClient(TASK, run=tmp_path / ("long" * 30))

    asyncio.run(story())


def test_revisions_are_taken_once_they_are_dealt_with(device: LocalDevice) -> None:
    device.revisions = [
        {
            "request_id": f"r{number}",
            "task": TASK,
            "label": "right",
            "confidence": None,
            "version": "4",
            "at": 1.5,
        }
        for number in range(130)
    ]

    async def story() -> None:
        async with AsyncClient(TASK, run=device.folder) as client:
            got = [one.request_id async for one in client.revisions()]
        assert got == device.taken == [f"r{number}" for number in range(130)]

    asyncio.run(story())


def test_a_closed_client_says_so(device: LocalDevice) -> None:
    async def story() -> None:
        client = AsyncClient(TASK, run=device.folder)
        await client.close()
        with pytest.raises(ClientClosed):
            await client.infer(easy())

    asyncio.run(story())
