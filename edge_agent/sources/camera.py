"""Answers what a camera sees, or what a video file shows: the only file that meets OpenCV.

1. A camera does not wait: its frames are taken at the rate of the settings, the others are let go
   before they are decoded. What is too much for the device is left out like anything live.
2. A video file has all the time: frames are taken at the same rate by the film's own time, and the
   next one is read when there is room. How far it was answered is kept, so that a restart goes on
   there; the end of the file is the end of the source.
3. A task that takes `bytes` gets each frame as JPEG; one that takes uint8 rows and columns gets it
   in that size, red first. Nothing else can be made of a frame.
4. The request id of a frame is made of the file and the frame's number, or of the moment it was
   taken.
"""

import hashlib
import logging
import math
import os
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from edge_agent.errors import SourceBroken, SourceUnfit
from edge_agent.sdk.messages import Infer
from edge_agent.sources import answers, likeness
from edge_agent.sources.arrays import Array, Kind
from edge_agent.sources.base import DEADLINE_MS, Answering, outcome_of
from edge_agent.sources.intake import Input, Intake, Outcome
from edge_agent.sources.likeness import Signature
from edge_agent.workplace import CameraSettings
from models.errors import ExtraMissing
from sync.clock import Clock
from sync.runner import Runner

CLIENT = "camera"
GRAB_S = 0.25
"""So long the camera's thread is on its own; what ends the source waits no longer."""
SAVE_S = 2.0
USUAL_FPS = 25.0
"""Of a file that does not say."""
JPEG_QUALITY = 90

Frame = npt.NDArray[np.uint8]
log = logging.getLogger(__name__)


class Capture(Protocol):
    """Something that gives one frame after the other."""

    fps: float

    def grab(self) -> bool:
        """Go on to the next frame; False where there is none."""
        ...

    def frame(self) -> Frame | None:
        """The frame grabbed last: rows, columns, blue green red. None: it cannot be decoded."""
        ...

    def close(self) -> None: ...


class _Shot(Struct, frozen=True):
    """A frame as the package takes it, and what it is compared by."""

    array: Array
    signature: Signature | None


class Progress(Struct, frozen=True):
    """How far a file was answered."""

    file: str
    next: int
    """The first frame that is not done with."""


class CameraSource:
    """Takes frames from a camera or a file.

    Args:
        progress: Where it is kept how far a file was answered; None for nowhere.
        opened: Opens what the settings name; raises `SourceBroken`, `ExtraMissing`.
    """

    def __init__(
        self,
        settings: CameraSettings,
        *,
        data: Path,
        answer: Answering,
        kind: Kind,
        runner: Runner,
        clock: Clock,
        progress: Path | None = None,
        opened: Callable[[int | Path], Capture] | None = None,
    ) -> None:
        self._settings = settings
        self._what: int | Path = (
            data / Path(settings.file).expanduser() if settings.device is None else settings.device
        )
        self._answer = answer
        self._kind = kind
        self._runner = runner
        self._clock = clock
        self._progress = progress
        self._opened = opened or _opened
        self._answers = data / Path(settings.answers).expanduser() if settings.answers else None
        self._unwritten = ""
        self._open: set[int] = set()
        self._saved_at = -math.inf

    @property
    def trouble(self) -> str:
        return self._unwritten  # without frames it is broken, and says so by itself

    async def run(self, intake: Intake) -> None:
        check_kind(self._kind)
        capture = await self._runner.submit(partial(self._opened, self._what))
        try:
            if isinstance(self._what, Path):
                await self._play(intake, capture, self._what)
            else:
                await self._watch(intake, capture, self._what)
        finally:
            await self._runner.submit(capture.close)

    async def _watch(self, intake: Intake, capture: Capture, device: int) -> None:
        """A camera: until it gives nothing more."""
        due = self._clock.monotonic()
        while True:
            shot = await self._runner.submit(
                partial(self._live_shot, capture, due, signed=intake.compares)
            )
            if shot is None:
                continue
            due = max(due + 1 / self._settings.fps, self._clock.monotonic())
            at = self._clock.wall()
            name = f"{device}@{at:.6f}"
            self._offer(intake, shot, name, f"{device}\0{at!r}", None)

    def _live_shot(self, capture: Capture, due: float, *, signed: bool) -> _Shot | None:
        """In the camera's thread. None: it is not due yet, or could not be decoded."""
        until = self._clock.monotonic() + GRAB_S
        while True:
            if not capture.grab():
                raise SourceBroken(
                    f"camera {self._what} gives no pictures; is it plugged in, and does no other"
                    " program hold it?"
                )
            now = self._clock.monotonic()
            if now >= due:
                return self._shot(capture, signed=signed)
            if now >= until:
                return None

    async def _play(self, intake: Intake, capture: Capture, file: Path) -> None:
        """A file: until its end."""
        told = await self._runner.submit(partial(_identity, file))
        first = await self._runner.submit(partial(self._read_progress, told))
        self._open.clear()
        after = first
        try:
            async for after in self._frames(intake, capture, file, told, first):
                await self._save(told, after)
            await intake.idle()
            after = _END
        finally:
            self._saved_at = -math.inf
            await self._save(told, after)

    async def _frames(
        self, intake: Intake, capture: Capture, file: Path, told: str, first: int
    ) -> AsyncIterator[int]:
        """Offers each frame that is taken; gives back the number after it."""
        for at, taken in _taken(capture.fps or USUAL_FPS, self._settings.fps):
            # Frames before `first` are passed over one by one: seeking in a film is not exact.
            if not await self._runner.submit(capture.grab):
                break
            if not taken or at < first:
                continue
            name = f"{file.name}#{at:08d}"
            shot = await self._runner.submit(partial(self._shot, capture, signed=intake.compares))
            if shot is None:
                intake.left_out(name, "unreadable")
                continue
            await intake.room()
            self._open.add(at)
            self._offer(intake, shot, name, f"{told}\0{at}", at)
            yield at + 1

    def _shot(self, capture: Capture, *, signed: bool) -> _Shot | None:
        frame = capture.frame()
        if frame is None:
            return None
        return _Shot(as_input(frame, self._kind), likeness.of_array(frame) if signed else None)

    def _offer(self, intake: Intake, shot: _Shot, name: str, told: str, number: int | None) -> None:
        request_id = "cam-" + hashlib.sha256(told.encode()).hexdigest()[:24]
        intake.offer(
            Input(
                name,
                partial(self._ask, name, shot.array, request_id, number),
                shot.signature,
                partial(self._skipped, number),
            )
        )

    async def _ask(self, name: str, array: Array, request_id: str, number: int | None) -> Outcome:
        infer = Infer(request_id, CLIENT, DEADLINE_MS, array.dtype, array.shape)
        reply = await self._answer(infer, array.data)
        outcome = outcome_of(reply)
        if outcome != "answered":
            log.warning("camera.not_answered id=%s said=%s", request_id, reply)
        if self._answers is not None and outcome != "overloaded":
            await self._write_down(self._answers, answers.told(name, reply))
        if outcome != "overloaded" and number is not None:
            self._open.discard(number)
        return outcome

    async def _write_down(self, file: Path, line: bytes) -> None:
        try:
            await self._runner.submit(partial(answers.append, file, line))
        except OSError as error:
            self._unwritten = f"answers cannot be added to {file}: {error.strerror}"
            log.warning("camera.answer_not_written file=%s error=%s", file, error.strerror)
        else:
            self._unwritten = ""

    async def _skipped(self, number: int | None, _reason: str) -> None:
        if number is not None:
            self._open.discard(number)

    def _read_progress(self, told: str) -> int:
        if self._progress is None:
            return 0
        try:
            kept = msgspec.json.decode(self._progress.read_bytes(), type=Progress)
        except (OSError, msgspec.DecodeError):
            return 0
        return kept.next if kept.file == told else 0

    async def _save(self, told: str, after: int) -> None:
        now = self._clock.monotonic()
        if self._progress is None or now < self._saved_at + SAVE_S:
            return
        self._saved_at = now
        kept = Progress(told, min(self._open, default=after))
        try:
            await self._runner.submit(partial(_write, self._progress, kept))
        except OSError as error:
            log.warning("camera.progress_not_kept error=%s", error.strerror)


_END = 1 << 62


def check_kind(kind: Kind) -> None:
    """Return if frames can be made this. Raises `SourceUnfit`."""
    if kind.dtype == "bytes":
        return
    channels = kind.shape[2] if len(kind.shape) == 3 else 1
    if kind.dtype != "uint8" or len(kind.shape) not in (2, 3) or channels not in (1, 3):
        raise SourceUnfit(
            f"a camera gives JPEG or uint8 rows and columns, and the package takes {kind.dtype} of"
            f" shape {list(kind.shape)}; build it with an input of `bytes` (decode_image) or uint8"
        )


def as_input(frame: Frame, kind: Kind) -> Array:
    """One frame as the package takes it."""
    import cv2

    if kind.dtype == "bytes":
        _, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        return Array("bytes", (len(data),), data.tobytes())
    rows, columns = kind.shape[:2]
    sized = cv2.resize(frame, (columns, rows), interpolation=cv2.INTER_AREA)
    coloured = len(kind.shape) == 3 and kind.shape[2] == 3
    found = cv2.cvtColor(sized, cv2.COLOR_BGR2RGB if coloured else cv2.COLOR_BGR2GRAY)
    return Array("uint8", kind.shape, np.ascontiguousarray(found).tobytes())


class _OpenCv:
    """OpenCV's capture."""

    def __init__(self, what: int | Path) -> None:
        try:
            import cv2
        except ImportError as error:
            raise ExtraMissing(
                "a camera needs OpenCV, which is not installed: pip install longstop[camera]"
            ) from error
        cv2.setNumThreads(1)
        self._capture = cv2.VideoCapture(what if isinstance(what, int) else str(what))
        if not self._capture.isOpened():
            raise SourceBroken(
                f"camera {what} cannot be opened; see `ls /dev/video*`"
                if isinstance(what, int)
                else f"{what} cannot be opened as a video; is it there, and in a format of OpenCV?"
            )
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = fps if 0 < fps < 1000 else USUAL_FPS

    def grab(self) -> bool:
        return bool(self._capture.grab())

    def frame(self) -> Frame | None:
        whole, frame = self._capture.retrieve()
        return np.asarray(frame, np.uint8) if whole else None

    def close(self) -> None:
        self._capture.release()


def _opened(what: int | Path) -> Capture:
    return _OpenCv(what)


def _taken(film_fps: float, fps: float) -> Iterator[tuple[int, bool]]:
    """Each frame's number, and whether it is taken: so many in each second of the film."""
    number, share = 0, min(1.0, fps / film_fps)
    while True:
        yield number, number == 0 or math.floor(number * share) > math.floor((number - 1) * share)
        number += 1


def _identity(file: Path) -> str:
    """A file written anew is another."""
    try:
        told = file.stat()
    except OSError as error:
        raise SourceBroken(f"{file} cannot be read: {error.strerror}") from error
    return f"{file}\0{told.st_size}\0{told.st_mtime_ns}"


def _write(path: Path, progress: Progress) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(msgspec.json.encode(progress))
    os.replace(part, path)
