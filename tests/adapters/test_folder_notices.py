"""The kernel's word on a folder, on a real one: at once, never half, and nothing lost for good."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from edge_agent.sdk.messages import Infer, Refused, Reply, Timings
from edge_agent.sources.admission import Policy
from edge_agent.sources.arrays import Kind
from edge_agent.sources.directory import DirectorySource
from edge_agent.sources.inotify import FolderNotices, Notice, What, parse
from edge_agent.sources.intake import Intake
from sync.clock import SystemClock
from sync.runner import ThreadRunner

NUMBERS = np.arange(6, dtype=np.float32)
NEVER_S = 3600.0
"""So long the folder is not listed again: only the kernel tells."""


class Slow:
    """Answers once it may."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.may.set()
        self.heard: list[bytes] = []

    async def __call__(self, infer: Infer, data: bytes) -> Reply | Refused:
        await self.may.wait()
        self.heard.append(data)
        return Reply(
            infer.id, "1", 0.9, "edge", True, "confident", False, "1", "ab", Timings(1, 1, 0, 2)
        )


@asynccontextmanager
async def watching(folder: Path, answer: Slow, *, soon_s: float = 0.01) -> AsyncIterator[None]:
    runner = ThreadRunner("source")
    source = DirectorySource(
        folder,
        answer=answer,
        runner=runner,
        kind=Kind("float32", (6,)),
        soon_s=soon_s,
        look_s=NEVER_S,
    )
    intake = Intake(Policy(backlog=1), clock=SystemClock(), report=lambda _: None)
    running = asyncio.create_task(source.run(intake))
    try:
        async with asyncio.timeout(60):
            yield
            assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await intake.close()
        runner.close()


async def settle(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - files have no event
        await asyncio.sleep(0.005)


async def answered(folder: Path, name: str) -> None:
    await settle((folder / f"{name}.json").exists)


async def begun(folder: Path) -> None:
    """The first listing is over, and every other way is the kernel's."""
    np.save(folder / "first.npy", NUMBERS)
    await answered(folder, "first.npy")


def test_a_file_is_answered_when_it_is_closed_and_not_before(tmp_path: Path) -> None:
    async def story() -> None:
        answer = Slow()
        async with watching(tmp_path, answer):
            await begun(tmp_path)
            with (tmp_path / "a.bin").open("wb", buffering=0) as file:
                file.write(NUMBERS[:3].tobytes())
                np.save(tmp_path / "b.npy", NUMBERS)
                await answered(tmp_path, "b.npy")
                assert not (tmp_path / "a.bin.json").exists(), "it stands still, but is open"
                file.write(NUMBERS[3:].tobytes())
            await answered(tmp_path, "a.bin")
        assert answer.heard == [NUMBERS.tobytes()] * 3

    asyncio.run(story())


def test_a_file_that_was_renamed_in_is_answered_at_once(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    folder = tmp_path / "in"
    elsewhere.mkdir()
    folder.mkdir()

    async def story() -> None:
        async with watching(folder, Slow()):
            await begun(folder)
            (folder / "a.part").write_bytes(NUMBERS.tobytes())
            (folder / "a.part").rename(folder / "a.bin")
            (elsewhere / "b.bin").write_bytes(NUMBERS.tobytes())
            (elsewhere / "b.bin").rename(folder / "b.bin")
            await answered(folder, "a.bin")
            await answered(folder, "b.bin")
            assert not (folder / "a.part.json").exists()

    asyncio.run(story())


def test_a_file_that_was_opened_again_is_waited_for_again(tmp_path: Path) -> None:
    async def story() -> None:
        answer = Slow()
        async with watching(tmp_path, answer):
            await begun(tmp_path)
            answer.may.clear()
            for name in ("a.bin", "b.bin", "c.bin"):  # one is asked, one waits, one finds no room
                (tmp_path / name).write_bytes(NUMBERS.tobytes())
            await asyncio.sleep(0.05)
            (tmp_path / "d.bin").write_bytes(NUMBERS[:3].tobytes())
            with (tmp_path / "d.bin").open("ab", buffering=0) as file:
                file.write(NUMBERS[3:4].tobytes())
                (tmp_path / "e.bin").write_bytes(NUMBERS.tobytes())
                answer.may.set()
                await answered(tmp_path, "e.bin")
                assert not (tmp_path / "d.bin.json").exists()
                file.write(NUMBERS[4:].tobytes())
            await answered(tmp_path, "d.bin")
        assert set(answer.heard) == {NUMBERS.tobytes()}

    asyncio.run(story())


def test_what_the_kernel_had_no_room_to_tell_is_found_by_listing(tmp_path: Path) -> None:
    """More notices than its queue holds, while a slow device holds the source back."""
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())

    async def story() -> None:
        answer = Slow()
        async with watching(tmp_path, answer):
            await begun(tmp_path)
            answer.may.clear()
            for name in ("a.bin", "b.bin", "c.bin"):  # one is asked, one waits, one finds no room
                (tmp_path / name).write_bytes(NUMBERS.tobytes())
            await asyncio.sleep(0.05)
            with (
                (tmp_path / "x.part").open("wb", buffering=0) as one,
                (tmp_path / "y.part").open("wb", buffering=0) as other,
            ):
                for _ in range(most // 2 + 100):
                    one.write(b"x")
                    other.write(b"x")
            (tmp_path / "late.bin").write_bytes(NUMBERS.tobytes())
            answer.may.set()
            await answered(tmp_path, "late.bin")

    asyncio.run(story())


def test_a_folder_that_goes_and_comes_again_is_watched_again(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()

    async def story() -> None:
        async with watching(folder, Slow()):
            await begun(folder)
            folder.rename(tmp_path / "old")
            folder.mkdir()
            np.save(folder / "second.npy", NUMBERS)
            await answered(folder, "second.npy")

    asyncio.run(story())


def test_a_file_written_anew_is_answered_anew(tmp_path: Path) -> None:
    async def story() -> None:
        answer = Slow()
        async with watching(tmp_path, answer):
            await begun(tmp_path)
            np.save(tmp_path / "first.npy", NUMBERS + 1)
            await settle(lambda: len(answer.heard) == 2)
        assert answer.heard == [NUMBERS.tobytes(), (NUMBERS + 1).tobytes()]

    asyncio.run(story())


def test_the_kernel_names_what_happened(tmp_path: Path) -> None:
    with FolderNotices(tmp_path) as notices:
        assert notices.read() == []
        (tmp_path / "größer").write_bytes(b"x")
        assert notices.read() == [
            Notice(What.WRITING, "größer"),
            Notice(What.FINISHED, "größer"),
        ]
        (tmp_path / "größer").unlink()
        assert notices.read() == []
        tmp_path.rmdir()
        assert Notice(What.GONE, "") in notices.read()


def test_a_folder_that_cannot_be_watched_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for name, number in (("none", errno.ENOENT), ("file", errno.ENOTDIR)):
        before = set(os.listdir("/proc/self/fd"))
        with pytest.raises(OSError, match=name) as refused:
            FolderNotices(tmp_path / name)
        assert refused.value.errno == number
        assert set(os.listdir("/proc/self/fd")) == before


def test_a_notice_cut_short_is_none() -> None:
    assert list(parse(b"\1\0\0\0")) == []
