"""Large inputs: written once to memory the worker lends, read where they lie, never trusted."""

import asyncio
import json
import mmap
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.local_api.memory import Room
from edge_agent.sdk import AsyncClient, Client
from edge_agent.sdk.connection import LENT_ABOVE, mapped
from edge_agent.sdk.wire import MAX_BODY, FrameReader, head
from tests.bench.inputs import TENSOR, build_tiny, sample
from tests.local_device import LocalDevice

TASK = TENSOR.task


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny(TENSOR, tmp_path_factory.mktemp("package") / "tiny")


@pytest.fixture
def device(tmp_path: Path, package: Path) -> Iterator[LocalDevice]:
    with LocalDevice(tmp_path, task=TASK, package=package) as device:
        yield device


def asked(**more: object) -> bytes:
    meta = {
        "op": "infer",
        "id": "q",
        "client": "raw",
        "deadline_ms": 20_000,
        "dtype": "float32",
        "shape": [224, 224, 3],
    }
    return head(json.dumps(meta | more).encode())


class Borrower:
    """A program that was lent memory and does with it as it likes."""

    def __init__(self, device: LocalDevice, size: int) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        self._socket.connect(str(device.folder / f"{TASK}.sock"))
        self._socket.sendall(head(json.dumps({"op": "memory", "size": size}).encode()))
        data, rights, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(4))
        self.said: dict[str, object] = json.loads(data[8:])
        self.descriptor = -1
        if rights:
            self.descriptor = os.dup(int.from_bytes(rights[0][2][:4], "little"))
        self.memory = mapped(rights)

    def __enter__(self) -> "Borrower":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        if self.descriptor >= 0:
            os.close(self.descriptor)

    def hears(self, question: bytes) -> dict[str, object]:
        self._socket.sendall(question)
        reader = FrameReader()
        while count := self._socket.recv_into(reader.buffer()):
            for frame in reader.filled(count):
                said: dict[str, object] = json.loads(frame.meta)
                return said
        raise AssertionError("the worker hung up")


def test_a_large_array_is_answered_again_and_again_through_one_connection(
    device: LocalDevice,
) -> None:
    raw = sample(TENSOR, 1)
    assert raw.nbytes > LENT_ABOVE
    with Client(TASK, run=device.folder) as client:
        labels = {client.infer(raw, deadline_ms=20_000).label for _ in range(5)}
        odd = raw[::-1]
        assert client.infer(np.ascontiguousarray(odd), deadline_ms=20_000).label
    assert labels == {"first"}
    assert [infer.size for infer in device.heard] == [raw.nbytes] * 6


def test_both_clients_say_the_same_of_a_large_input(device: LocalDevice) -> None:
    async def scene() -> str:
        async with AsyncClient(TASK, run=device.folder) as client:
            return (await client.infer(sample(TENSOR, 1), deadline_ms=20_000)).label

    assert asyncio.run(scene()) == "first"


def test_what_lies_in_lent_memory_is_answered_from_there(device: LocalDevice) -> None:
    raw = sample(TENSOR, 1).tobytes()
    with Borrower(device, 2 * len(raw)) as borrower:
        assert borrower.said == {"ok": True, "lent": 2 * len(raw)}
        assert borrower.memory is not None
        borrower.memory[len(raw) : 2 * len(raw)] = raw
        assert borrower.hears(asked(at=len(raw), size=len(raw)))["label"] == "first"


@pytest.mark.parametrize(("at", "size"), [(1, 602_112), (-1, 602_112), (0, 700_000), (1 << 40, 4)])
def test_a_place_outside_of_the_memory_is_refused_and_the_connection_stays(
    device: LocalDevice, at: int, size: int
) -> None:
    raw = sample(TENSOR, 1).tobytes()
    with Borrower(device, len(raw)) as borrower:
        assert borrower.memory is not None
        borrower.memory[:] = raw
        assert borrower.hears(asked(at=at, size=size))["code"] == "bad_request"
        assert borrower.hears(asked(at=0, size=len(raw)))["ok"]


def test_a_borrower_cannot_cut_the_memory_short(device: LocalDevice) -> None:
    """A worker that reads behind the end of a file would be killed."""
    with Borrower(device, 1 << 20) as borrower:
        for size in (0, 1 << 22):
            with pytest.raises(PermissionError):
                os.ftruncate(borrower.descriptor, size)


@pytest.mark.parametrize("size", [0, -5, MAX_BODY + 1, 1 << 60])
def test_more_memory_than_an_input_may_have_is_not_lent(device: LocalDevice, size: int) -> None:
    with Borrower(device, size) as borrower:
        assert borrower.said["ok"] is False
        assert borrower.memory is None


def test_all_memory_together_is_bounded_and_comes_back() -> None:
    room = Room(3 * mmap.PAGESIZE)
    first, second = room.lend(2 * mmap.PAGESIZE), room.lend(2 * mmap.PAGESIZE)
    assert first is not None
    assert second is None
    first.close()
    first.close()
    again = room.lend(3 * mmap.PAGESIZE)
    assert again is not None
    again.close()
