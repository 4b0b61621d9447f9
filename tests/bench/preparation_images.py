"""The image half of `./just bench preparation`: declared steps against Pillow and numpy by hand.

By hand is what is written in every tutorial: open, convert, resize, one array, two lines of numpy.
The floor is Pillow's decoding and resizing alone; the control takes the pixels through Python's own
numbers, which must come out slower, or the clock is not worth reading. A round counts the quickest
of its calls: others' load on the machine only ever adds.
"""

import io
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from PIL import Image

from models.pipeline.compute import image, tensor
from models.pipeline.kinds import Kind
from models.pipeline.ops import image as image_steps
from models.pipeline.ops import tensor as tensor_steps
from models.pipeline.ops.image import CenterCrop, DecodeImage, Resize, ResizeShortest
from models.pipeline.ops.tensor import Cast, Normalise, Scale, Transpose
from models.pipeline.values import array
from tests.bench.measure import interleaved, median
from tests.bench.setting import misplaced

LIMIT = 1.15
JUDGED = "jpeg"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CALLS = 5
Floats = npt.NDArray[np.float32]


class ImageRow(Struct, frozen=True, tag_field="of", tag="image"):
    """One way from a file to a model's input. Ratios are medians within a round, to by hand."""

    input: str
    bytes: int
    rounds: int
    steps_us: float
    by_hand_us: float
    ratio: float
    """What is judged for a JPEG: at most 1.15."""
    floor_ratio: float
    control_ratio: float


class _Task(NamedTuple):
    input: str
    file: bytes
    steps: tuple[image_steps.Step, ...]
    sized: Callable[[Image.Image], Image.Image]
    """The same by hand, between opening and numpy."""


def image_rows(rounds: int, seed: int) -> list[ImageRow]:
    """Every task, measured in turns. Raises `AssertionError` when two ways disagree."""
    photo = photo_like(480, 640, seed)
    jpeg = _file(photo, "JPEG")
    return [
        _row(task, rounds)
        for task in (
            _Task(JUDGED, jpeg, (DecodeImage(), Resize(224, 224)), _squeezed),
            _Task(
                "jpeg, shortest side and centre",
                jpeg,
                (DecodeImage(), ResizeShortest(256), CenterCrop(224, 224)),
                _centred,
            ),
            _Task("png", _file(photo, "PNG"), (DecodeImage(), Resize(224, 224)), _squeezed),
        )
    ]


def image_doubts(rows: Sequence[ImageRow]) -> list[str]:
    """Rows whose ratio does not lie between its floor and its control."""
    return [
        doubt
        for row in rows
        for doubt in misplaced(row.input, row.floor_ratio, row.ratio, row.control_ratio)
    ]


def photo_like(height: int, width: int, seed: int) -> Image.Image:
    """Patches of light at several sizes and a little grain: as many bytes in a JPEG as a photo."""
    rng = np.random.default_rng(seed)
    whole = np.zeros((height, width, 3), np.float32)
    for cell in (160, 40, 10):
        patches = rng.integers(0, 256, (height // cell, width // cell, 3), dtype=np.uint8)
        light = Image.fromarray(patches).resize((width, height), Image.Resampling.BICUBIC)
        whole += np.asarray(light, np.float32) / 3
    grain = rng.normal(0, 4, whole.shape).astype(np.float32)
    return Image.fromarray(np.clip(whole + grain, 0, 255).astype(np.uint8))


def _row(task: _Task, rounds: int) -> ImageRow:
    ours, by_hand = _declared(task), _by_hand(task)
    control = _through_numbers(task)
    for way in (ours, control):
        assert np.allclose(way(), by_hand(), atol=1e-4), task.input
    ways = [_timed(way) for way in (ours, by_hand, _floor(task), control)]
    took, hand, floor, slow = interleaved(rounds, ways)

    def ratio(one: list[float]) -> float:
        return median([each / at for each, at in zip(one, hand, strict=True)], 3)

    return ImageRow(
        input=task.input,
        bytes=len(task.file),
        rounds=rounds,
        steps_us=median(took),
        by_hand_us=median(hand),
        ratio=ratio(took),
        floor_ratio=ratio(floor),
        control_ratio=ratio(slow),
    )


def _declared(task: _Task) -> Callable[[], Floats]:
    """As a package declares it: the picture's steps in a run, then steps on an array."""
    kind = Kind("bytes", ())
    opened = image.compile_run(task.steps, kind)
    for step in task.steps:
        kind = image_steps.after(step, kind)
    rest = []
    numbers: tuple[tensor_steps.Step, ...] = (
        Cast("float32"),
        Scale((1 / 255,)),
        Normalise(MEAN, STD),
        Transpose((2, 0, 1)),
    )
    for one in numbers:
        rest.append(tensor.compile_step(one, kind))
        kind = tensor_steps.after(one, kind)

    def prepare() -> Floats:
        sample = opened(task.file)
        for part in rest:
            sample = array(part(sample))
        return sample

    return prepare


def _by_hand(task: _Task) -> Callable[[], Floats]:
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)

    def prepare() -> Floats:
        picture = task.sized(Image.open(io.BytesIO(task.file)).convert("RGB"))
        array = np.asarray(picture).astype(np.float32) / np.float32(255)
        return ((array - mean) / std).transpose(2, 0, 1)

    return prepare


def _floor(task: _Task) -> Callable[[], object]:
    return lambda: task.sized(Image.open(io.BytesIO(task.file)))


def _through_numbers(task: _Task) -> Callable[[], Floats]:
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)

    def prepare() -> Floats:
        picture = task.sized(Image.open(io.BytesIO(task.file)).convert("RGB"))
        pixels = np.array(np.asarray(picture).tolist(), np.float32)
        return ((pixels / np.float32(255) - mean) / std).transpose(2, 0, 1)

    return prepare


def _timed(call: Callable[[], object]) -> Callable[[], float]:
    def took_us() -> float:
        took = []
        for _ in range(_CALLS):
            began = time.perf_counter_ns()
            call()
            took.append(time.perf_counter_ns() - began)
        return min(took) / 1000

    return took_us


def _squeezed(picture: Image.Image) -> Image.Image:
    return picture.resize((224, 224), Image.Resampling.BILINEAR)


def _centred(picture: Image.Image) -> Image.Image:
    wide = 256 * picture.width // picture.height
    small = picture.resize((wide, 256), Image.Resampling.BILINEAR)
    left = (wide - 224) // 2
    return small.crop((left, 16, left + 224, 240))


def _file(picture: Image.Image, form: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, quality=90)
    return file.getvalue()
