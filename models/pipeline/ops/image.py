"""Steps on a picture: decode, resize, crop, letterbox, grey and back.

A picture is uint8 [h, w, 3], [h, w] or [h, w, 1], rows first, red before green before blue. A
float32 [h, w] (or [h, w, 1]) is a picture of one channel too: heat, depth. A side that only the
picture itself can tell is None until a step fixes it.
"""

from typing import Annotated, Literal, assert_never

from msgspec import Meta, Struct

from models.pipeline.kinds import Kind

Side = Annotated[int, Meta(ge=1, le=1 << 14)]
Offset = Annotated[int, Meta(ge=0, le=1 << 14)]
Method = Literal["nearest", "box", "bilinear", "bicubic", "lanczos"]
"""How a resized pixel is made. All but `nearest` widen their reach when they shrink a picture."""


class DecodeImage(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="decode_image"
):
    """A JPEG or PNG file becomes uint8 [h, w, 3] (`rgb`) or [h, w] (`gray`), upright."""

    mode: Literal["rgb", "gray"] = "rgb"
    max_pixels: Annotated[int, Meta(ge=1, le=1 << 28)] = 1 << 25
    """A file that claims more is refused before one pixel is decoded."""


class Resize(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="resize"):
    """Exactly this size, whatever that does to the proportions."""

    height: Side
    width: Side
    method: Method = "bilinear"


class ResizeShortest(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="resize_shortest"
):
    """The shorter side becomes `side`, the longer keeps the proportions, rounded down."""

    side: Side
    method: Method = "bilinear"


class CenterCrop(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="center_crop"
):
    """This much from the middle; an odd pixel too many stays at the bottom and on the right."""

    height: Side
    width: Side


class Crop(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="crop"):
    """`height` x `width` pixels, the first one at row `top` and column `left`."""

    top: Offset
    left: Offset
    height: Side
    width: Side


class Letterbox(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="letterbox"):
    """As large as fits into this size with its proportions, in the middle of a plain ground."""

    height: Side
    width: Side
    fill: Annotated[int, Meta(ge=0, le=255)] = 114
    method: Method = "bilinear"


class ToGray(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="to_gray"):
    """[h, w, 3] becomes [h, w]: (19595 R + 38470 G + 7471 B + 32768) / 65536, rounded down."""


class ToRgb(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="to_rgb"):
    """[h, w] or [h, w, 1] becomes [h, w, 3], three times the same."""


Step = DecodeImage | Resize | ResizeShortest | CenterCrop | Crop | Letterbox | ToGray | ToRgb
TAKES_MANY: tuple[type, ...] = ()
"""Each picture of a list is stepped alone."""


def after(step: Step, kind: Kind) -> Kind:
    """What a step makes of a kind. Raises `ValueError` when it cannot follow."""
    if isinstance(step, DecodeImage):
        if kind.dtype != "bytes":
            raise ValueError(f"decode_image takes the bytes of a file, not {kind.words()}")
        return Kind("uint8", (None, None, 3) if step.mode == "rgb" else (None, None), kind.many)
    _check_picture(kind)
    high, wide, *channels = kind.shape
    match step:
        case Resize(height, width) | Letterbox(height, width):
            return _sized(kind, height, width)
        case ResizeShortest(side):
            if high is None or wide is None:
                return _sized(kind, None, None)
            return _sized(kind, *shortest(high, wide, side))
        case CenterCrop(height, width):
            _check_room(high, height, wide, width)
            return _sized(kind, height, width)
        case Crop(top, left, height, width):
            _check_room(high, top + height, wide, left + width)
            return _sized(kind, height, width)
        case ToGray():
            if channels != [3]:
                raise ValueError(f"to_gray takes [h, w, 3], not {kind.words()}")
            return kind._replace(shape=(high, wide))
        case ToRgb():
            if channels == [3] or kind.dtype != "uint8":
                raise ValueError(f"to_rgb takes uint8 [h, w] or [h, w, 1], not {kind.words()}")
            return kind._replace(shape=(high, wide, 3))
        case _:
            assert_never(step)


def shortest(high: int, wide: int, side: int) -> tuple[int, int]:
    """Height and width when the shorter of both becomes `side`."""
    if high <= wide:
        return side, max(side, side * wide // high)
    return max(side, side * high // wide), side


def _sized(kind: Kind, height: int | None, width: int | None) -> Kind:
    return kind._replace(shape=(height, width, *kind.shape[2:]))


def _check_picture(kind: Kind) -> None:
    match kind.dtype, kind.shape:
        case ("uint8", (_, _) | (_, _, 1 | 3)) | ("float32", (_, _) | (_, _, 1)):
            return
        case ("bytes", _):
            raise ValueError("this step takes a picture, not the bytes of a file; decode_image it")
        case _:
            raise ValueError(
                f"a picture is uint8 [h, w, 3], [h, w] or [h, w, 1], or float32 [h, w] or "
                f"[h, w, 1], not {kind.words()}; put this step before cast and transpose"
            )


def _check_room(high: int | None, height: int, wide: int | None, width: int) -> None:
    if (high is not None and height > high) or (wide is not None and width > wide):
        raise ValueError(
            f"a crop that ends at row {height} and column {width} leaves a picture of "
            f"{high} x {wide}; resize before it"
        )
