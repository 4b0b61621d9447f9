"""Steps on a picture, by Pillow, which is imported when a step is compiled.

1. `decode_image` reads JPEG and PNG and nothing else, whatever Pillow could. The picture is turned
   upright as its EXIF orientation says; its colour profile is not applied.
2. Transparency is dropped, not painted over a ground; a palette is looked up; CMYK is converted; of
   16 bits a channel the upper 8 are kept; of an animation the first picture is taken. But for 16
   bits of grey it is what `Image.open(file).convert("RGB")` gives a network in training.
3. Pictures are decoded whole: a draft at half the size is quicker and is another picture.
4. Steps in a row hand on Pillow's picture; `compile_run` makes an array once, at the end. The
   values are the same as step by step.
"""

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, assert_never

import numpy as np

from models.errors import EmptyInput, PictureTooLarge, UndecodableInput, WrongDtype, WrongShape
from models.pipeline.compute.boxes import fitted
from models.pipeline.kinds import Kind
from models.pipeline.ops.image import (
    CenterCrop,
    Crop,
    DecodeImage,
    Letterbox,
    Method,
    Resize,
    ResizeShortest,
    Step,
    ToGray,
    ToRgb,
    after,
    shortest,
)
from models.pipeline.values import Array, Value

if TYPE_CHECKING:
    from PIL.Image import Image, Resampling

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_ORIENTATION = 0x0112
# What Pillow raises on files that are cut short, altered or made to break it.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
)


def compile_step(step: Step, kind: Kind) -> Callable[[Value], Array]:
    """One step alone. Raises what `compile_run` raises."""
    return compile_run((step,), kind)


def compile_run(steps: Sequence[Step], kind: Kind) -> Callable[[Value], Array]:
    """Steps of this family, one after the other, from a value of this kind to an array.

    It raises `UndecodableInput`, `PictureTooLarge`, `WrongDtype`, `EmptyInput` for a file, and
    `WrongShape` for a picture smaller than a crop.
    """
    parts, first = [], kind
    for step in steps:
        if not isinstance(step, DecodeImage):
            parts.append(_compile(step))
        kind = after(step, kind)
    single = len(kind.shape) == 3 and kind.shape[2] == 1
    opens = _decoder(steps[0]) if isinstance(steps[0], DecodeImage) else _opener(first)

    def run(value: Value) -> Array:
        picture = opens(value)
        for part in parts:
            picture = part(picture)
        array = np.asarray(picture)
        return array[:, :, None] if single else array

    return run


def picture_of(array: Array) -> "Image":
    """Pillow's picture of [h, w, 3], [h, w] or [h, w, 1]."""
    from PIL import Image

    return Image.fromarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array)


def _opener(kind: Kind) -> "Callable[[Value], Image]":
    dtype = np.dtype(kind.dtype)

    def opens(value: Value) -> "Image":
        if not isinstance(value, np.ndarray) or value.dtype != dtype:
            raise WrongDtype(
                f"this step takes a picture, {kind.words()}, and was given "
                f"{_words(value)}; send what the package declares"
            )
        if 0 in value.shape:
            raise EmptyInput(f"a picture of shape {list(value.shape)} holds no pixel; send one")
        return picture_of(value)

    return opens


def _decoder(step: DecodeImage) -> "Callable[[Value], Image]":
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    wanted, most = "RGB" if step.mode == "rgb" else "L", step.max_pixels

    def opened(data: bytes) -> "Image":
        """The header read, not one pixel yet. `Image.open` would try formats one by one."""
        if data.startswith(_JPEG):
            return JpegImageFile(io.BytesIO(data))
        if data.startswith(_PNG):
            return PngImageFile(io.BytesIO(data))
        raise UndecodableInput(
            f"{len(data)} bytes that begin with {data[:8]!r} are no JPEG or PNG file; convert the "
            "picture to one of both"
        )

    def decode(value: Value) -> "Image":
        if not isinstance(value, bytes):
            raise WrongDtype(
                f"decode_image takes the bytes of a JPEG or PNG file, not {_words(value)}; "
                "send the file as it is"
            )
        if not value:
            raise EmptyInput("a picture of 0 bytes was sent; send the whole file")
        try:
            picture = opened(value)
            if picture.width * picture.height > most:
                raise PictureTooLarge(
                    f"a picture claims {picture.width} x {picture.height} pixels, and this package "
                    f"decodes {most} at most; send it smaller, or declare more `max_pixels`"
                )
            picture.load()
            return _upright(_in_mode(picture, wanted))
        except _BROKEN as error:
            raise UndecodableInput(
                f"a picture of {len(value)} bytes cannot be decoded: {error}; it is damaged or cut "
                "short, send the whole file"
            ) from error

    return decode


def _in_mode(picture: "Image", wanted: str) -> "Image":
    if picture.mode == wanted:
        return picture
    if picture.mode.startswith("I"):  # 16 bits of grey, and Pillow's `convert` clips those at 255
        high = np.asarray(picture).astype(np.uint32) >> 8
        turned = picture_of(np.minimum(high, 255).astype(np.uint8))
        return turned.convert(wanted)
    if picture.mode == "P" and picture.palette is None:
        raise UndecodableInput(
            "a PNG file names colours of a palette and holds none; it is damaged, send it again"
        )
    return picture.convert(wanted)


def _upright(picture: "Image") -> "Image":
    from PIL.Image import Transpose

    if "exif" not in picture.info:
        return picture
    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    turn = turns.get(picture.getexif().get(_ORIENTATION, 1))
    return picture if turn is None else picture.transpose(turn)


def _compile(step: Step) -> "Callable[[Image], Image]":
    match step:
        case Resize(height, width, method):
            how = _resampling(method)
            return lambda picture: picture.resize((width, height), how)
        case ResizeShortest(side, method):
            how = _resampling(method)

            def shorten(picture: "Image") -> "Image":
                high, wide = shortest(picture.height, picture.width, side)
                return picture.resize((wide, high), how)

            return shorten
        case CenterCrop(height, width):
            return lambda picture: _cut(
                picture,
                (picture.height - height) // 2,
                (picture.width - width) // 2,
                height,
                width,
            )
        case Crop(top, left, height, width):
            return lambda picture: _cut(picture, top, left, height, width)
        case Letterbox(height, width, fill, method):
            return _letterbox(height, width, fill, method)
        case ToGray():
            return lambda picture: picture.convert("L")
        case ToRgb():
            return lambda picture: picture.convert("RGB")
        case DecodeImage():
            raise AssertionError("decode_image opens a run and takes bytes: `after` refused this")
        case _:
            assert_never(step)


def _letterbox(height: int, width: int, fill: int, method: Method) -> "Callable[[Image], Image]":
    from PIL import Image

    how = _resampling(method)

    def letterbox(picture: "Image.Image") -> "Image.Image":
        place = fitted(picture.height, picture.width, height, width)
        ground = (fill, fill, fill) if picture.mode == "RGB" else fill
        whole = Image.new(picture.mode, (width, height), ground)
        inner = picture.resize((place.width, place.height), how)
        whole.paste(inner, (place.left, place.top))
        return whole

    return letterbox


def _resampling(method: Method) -> "Resampling":
    from PIL.Image import Resampling

    return {
        "nearest": Resampling.NEAREST,
        "box": Resampling.BOX,
        "bilinear": Resampling.BILINEAR,
        "bicubic": Resampling.BICUBIC,
        "lanczos": Resampling.LANCZOS,
    }[method]


def _cut(picture: "Image", top: int, left: int, height: int, width: int) -> "Image":
    if min(top, left) < 0 or top + height > picture.height or left + width > picture.width:
        raise WrongShape(
            f"a crop of {height} x {width} pixels does not fit into a picture of "
            f"{picture.height} x {picture.width}; send a larger one"
        )
    return picture.crop((left, top, left + width, top + height))


def _words(value: Value) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return type(value).__name__
