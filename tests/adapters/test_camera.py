"""Frames of a video file that OpenCV wrote, and of a camera that is played."""

import asyncio
import builtins
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from edge_agent.errors import SourceBroken, SourceUnfit
from edge_agent.sdk.messages import Infer, Refused, Reply, Timings
from edge_agent.sources.admission import Policy, Report
from edge_agent.sources.arrays import Kind
from edge_agent.sources.camera import CameraSource, Capture, as_input, check_kind
from edge_agent.sources.intake import Intake
from edge_agent.workplace import CameraSettings
from models.errors import ExtraMissing
from sync.clock import SystemClock
from sync.runner import ThreadRunner

SMALL = Kind("uint8", (8, 8, 3))
PATIENT = Policy(counted=True, at_once=2, backlog=2)
Pixels = npt.NDArray[np.uint8]


def film(path: Path, shades: list[int], *, fps: float = 10.0) -> Path:
    """Every frame of one shade of red."""
    fourcc = cv2.VideoWriter.fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), fourcc, fps, (64, 48))
    for shade in shades:
        frame = np.zeros((48, 64, 3), np.uint8)
        frame[..., 2] = shade
        writer.write(frame)
    writer.release()
    return path


class Answers:
    """Answers every frame, as soon as it may."""

    def __init__(self) -> None:
        self.asked: list[tuple[Infer, bytes]] = []
        self.reports: list[Report] = []
        self.most = 10**9
        """Questions answered; the device has no time for the others."""
        self.ended = asyncio.Event()

    async def __call__(self, infer: Infer, data: bytes) -> Reply | Refused:
        if len(self.asked) >= self.most:
            await self.ended.wait()
            return Refused(infer.id, "overloaded", "too much")
        self.asked.append((infer, data))
        return Reply(
            infer.id, "1", 0.9, "edge", True, "confident", False, "1", "ab", Timings(1, 1, 0, 2)
        )

    def shades(self) -> list[int]:
        """The red of each frame, to the nearest ten."""
        return [round(np.frombuffer(data, np.uint8)[::3].mean(), -1) for _, data in self.asked]


def play(
    folder: Path,
    answers: Answers,
    /,
    *,
    kind: Kind = SMALL,
    policy: Policy = PATIENT,
    until: Callable[[], bool] | None = None,
    opened: Callable[[int | Path], Capture] | None = None,
    **settings: object,
) -> None:
    """Run a source to its end, or until something is true."""

    async def story() -> None:
        runner, clock = ThreadRunner("source"), SystemClock()
        source = CameraSource(
            msgspec.convert(settings, CameraSettings),
            data=folder,
            answer=answers,
            kind=kind,
            runner=runner,
            clock=clock,
            progress=folder / "film.json",
            opened=opened,
        )
        intake = Intake(policy, clock=clock, report=answers.reports.append)
        running = asyncio.create_task(source.run(intake))
        try:
            async with asyncio.timeout(60):
                while not running.done() and not (until and until()):  # noqa: ASYNC110
                    await asyncio.sleep(0.002)
            if running.done():
                await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            answers.ended.set()
            await intake.close()
            runner.close()

    asyncio.run(story())


def test_frames_are_taken_at_the_rate_of_the_settings(tmp_path: Path) -> None:
    film(tmp_path / "a.avi", list(range(0, 200, 10)))
    answers = Answers()
    play(tmp_path, answers, file="a.avi", fps=2.5)
    assert answers.shades() == [0, 40, 80, 120, 160]
    infer, data = answers.asked[0]
    assert (infer.dtype, infer.shape, len(data)) == ("uint8", (8, 8, 3), 192)
    assert len({infer.id for infer, _ in answers.asked}) == 5


def test_a_film_is_answered_once_and_a_new_one_anew(tmp_path: Path) -> None:
    film(tmp_path / "a.avi", [0, 100])
    first, second, third = Answers(), Answers(), Answers()
    play(tmp_path, first, file="a.avi", fps=100)
    play(tmp_path, second, file="a.avi", fps=100)
    assert (len(first.asked), len(second.asked)) == (2, 0)
    film(tmp_path / "a.avi", [0, 100, 200])
    play(tmp_path, third, file="a.avi", fps=100)
    assert len(third.asked) == 3
    assert {infer.id for infer, _ in first.asked}.isdisjoint(infer.id for infer, _ in third.asked)


def test_a_restart_goes_on_where_it_was_and_asks_under_the_same_ids(tmp_path: Path) -> None:
    film(tmp_path / "a.avi", list(range(0, 200, 10)))
    whole, cut, rest = Answers(), Answers(), Answers()
    play(tmp_path, whole, file="a.avi", fps=100)
    (tmp_path / "film.json").unlink()
    cut.most = 6
    play(tmp_path, cut, file="a.avi", fps=100, until=lambda: len(cut.asked) == 6)
    play(tmp_path, rest, file="a.avi", fps=100)
    ids = [infer.id for infer, _ in whole.asked]
    assert [infer.id for infer, _ in cut.asked] == ids[:6]
    again = [infer.id for infer, _ in rest.asked]
    assert again == ids[-len(again) :], "the rest, under the ids they had"
    assert len(again) >= 14


def test_near_duplicates_are_named_by_their_frames(tmp_path: Path) -> None:
    film(tmp_path / "a.avi", [0, 0, 0, 200, 200, 0])
    answers = Answers()
    policy = msgspec.structs.replace(PATIENT, same_below=0.02)
    play(tmp_path, answers, policy=policy, file="a.avi", fps=100)
    assert answers.shades() == [0, 200, 0]
    assert answers.reports == [
        Report("near_duplicate", 2, "a.avi#00000001", "a.avi#00000002"),
        Report("near_duplicate", 1, "a.avi#00000004", "a.avi#00000004"),
    ]


def test_answers_are_added_to_a_file(tmp_path: Path) -> None:
    film(tmp_path / "a.avi", [0, 100])
    play(tmp_path, Answers(), file="a.avi", fps=100, answers="said.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "said.jsonl").read_text().splitlines()]
    assert [(line["input"], line["label"]) for line in lines] == [
        ("a.avi#00000000", "1"),
        ("a.avi#00000001", "1"),
    ]


def test_a_task_that_takes_files_gets_jpeg(tmp_path: Path) -> None:
    film(tmp_path / "a.avi", [250])
    answers = Answers()
    play(tmp_path, answers, kind=Kind("bytes", ()), file="a.avi")
    ((infer, data),) = answers.asked
    assert (infer.dtype, infer.shape) == ("bytes", (len(data),))
    with Image.open(io.BytesIO(data)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (64, 48))
        red = np.asarray(picture)[0, 0]
    assert red[0] > 200 > red[2], "red is where red should be"


@pytest.mark.parametrize(
    ("shape", "first"), [((4, 6), 76), ((4, 6, 1), 76), ((4, 6, 3), 255)], ids=str
)
def test_a_frame_is_made_the_size_and_colours_the_package_takes(
    shape: tuple[int, ...], first: int
) -> None:
    frame = np.zeros((8, 12, 3), np.uint8)
    frame[..., 2] = 255
    made = as_input(frame, Kind("uint8", shape))
    assert (made.shape, len(made.data)) == (shape, int(np.prod(shape)))
    assert made.data[0] == first


@pytest.mark.parametrize(
    "kind",
    [Kind("float32", (8, 8, 3)), Kind("uint8", (8,)), Kind("uint8", (8, 8, 4)), Kind("text", ())],
)
def test_what_no_frame_can_be_made_into_says_so(kind: Kind) -> None:
    with pytest.raises(SourceUnfit, match="gives JPEG or uint8"):
        check_kind(kind)


class Played:
    """A camera that gives the same picture, so many times."""

    fps = 30.0

    def __init__(self, frames: int) -> None:
        self.left = frames
        self.grabbed = 0
        self.closed = False

    def grab(self) -> bool:
        self.left -= 1
        self.grabbed += 1
        return self.left >= 0

    def frame(self) -> Pixels | None:
        return np.full((8, 8, 3), self.grabbed % 250, np.uint8)

    def close(self) -> None:
        self.closed = True


def test_a_camera_that_gives_nothing_more_is_broken_and_let_go(tmp_path: Path) -> None:
    camera, answers = Played(5), Answers()
    live = Policy(live=True, counted=True, at_once=8, backlog=8)
    with pytest.raises(SourceBroken, match="camera 0 gives no pictures"):
        play(tmp_path, answers, policy=live, opened=lambda _: camera, device=0, fps=1e9)
    assert camera.closed
    assert len(answers.asked) == 5


def test_a_camera_does_not_wait_for_a_slow_device(tmp_path: Path) -> None:
    camera, answers = Played(10**9), Answers()
    answers.most = 1
    live = Policy(live=True, counted=True, at_once=1, backlog=1)
    play(
        tmp_path,
        answers,
        policy=live,
        opened=lambda _: camera,
        until=lambda: camera.grabbed > 50 and len(answers.asked) == 1,
        device=0,
        fps=1e9,
    )
    reasons = {one.reason for one in answers.reports}
    assert "backlog_full" in reasons
    assert reasons == {"backlog_full", "stopped", "overloaded"}


def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    (tmp_path / "no.avi").write_bytes(b"no film")
    for file in ("no.avi", "none.avi"):
        with pytest.raises(SourceBroken, match=f"{file} cannot be opened as a video"):
            play(tmp_path, Answers(), file=file)
    with pytest.raises(SourceBroken, match=r"camera 97 cannot be opened; see `ls /dev/video\*`"):
        play(tmp_path, Answers(), device=97)


def test_without_opencv_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> object:
        if name == "cv2":
            raise ImportError(name)
        return known(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ExtraMissing, match=r"pip install longstop\[camera\]"):
        play(tmp_path, Answers(), file="a.avi")


@pytest.mark.parametrize("given", [{}, {"device": 0, "file": "a.avi"}])
def test_a_camera_is_a_device_or_a_file(given: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError, match="name either `device`"):
        msgspec.convert(given, CameraSettings)
