"""Cluttered grey pictures with one garment of Fashion-MNIST in them, or none.

Rules:
1. A seed, tiles and labels name the scenes; pixels are whole numbers, so they are the same on every
   machine.
2. A garment is a tile of 28 x 28 at 0.8 to 1.6 times its size, dimmed by up to a third, wholly
   inside the picture. Its box is the square of the tile, whose longest side it fills.
3. The ground is dark and uneven. Clutter (bars, discs, frames) lies behind the garment, and a
   little of it in front; some of it is as large as a garment.
4. `EMPTY_SHARE` of the scenes have clutter and no garment.
"""

from __future__ import annotations

import hashlib
import io
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Pictures = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Boxes = npt.NDArray[np.float32]

SIDE = 64
TILE = 28
SMALLEST, LARGEST = 0.8, 1.6
EMPTY_SHARE = 0.15
NOTHING = -1
OPAQUE_FROM = 48
"""A pixel of a tile this bright hides what is behind it; a darker one does so in part."""


class Scenes(NamedTuple):
    """Pictures and what is in them."""

    pictures: Pictures
    """uint8 [n, 64, 64]."""
    boxes: Boxes
    """float32 [n, 4]: x1, y1, x2, y2 in pixels; NaN where nothing is."""
    labels: Labels
    """int64 [n]; `NOTHING` where nothing is."""

    @property
    def sha256(self) -> str:
        parts = (self.pictures, self.boxes.astype("<f4"), self.labels.astype("<i8"))
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def scenes(tiles: Pictures, labels: Labels, seed: int) -> Scenes:
    """One scene for each of `tiles` uint8 [n, 28, 28], in their order."""
    chance = np.random.default_rng(seed)
    pictures = np.empty((len(tiles), SIDE, SIDE), np.uint8)
    boxes = np.full((len(tiles), 4), np.nan, np.float32)
    held = labels.astype(np.int64)
    for at, tile in enumerate(tiles):
        picture = _ground(chance)
        for _ in range(chance.poisson(2)):
            _clutter(picture, chance, longest=12)
        if chance.random() < 0.2:
            _clutter(picture, chance, longest=36)
        if chance.random() < EMPTY_SHARE:
            held[at] = NOTHING
        else:
            boxes[at] = _garment(picture, tile, chance)
        if chance.random() < 0.2:
            _clutter(picture, chance, longest=5)
        pictures[at] = np.clip(picture, 0, 255)
    return Scenes(pictures, boxes, held)


def png(picture: Pictures) -> bytes:
    """A picture as the file a camera might hand over."""
    from PIL import Image

    held = io.BytesIO()
    Image.fromarray(picture).save(held, "PNG")
    return held.getvalue()


def _ground(chance: np.random.Generator) -> npt.NDArray[np.int64]:
    """Dark, brighter towards one side, with the noise of a camera."""
    along = np.arange(SIDE)
    down, across = chance.integers(0, 16, 2)
    slope = along[:, None] * down // SIDE + along[None] * across // SIDE
    noise = chance.integers(0, 1 + chance.integers(1, 16), (SIDE, SIDE))
    ground: npt.NDArray[np.int64] = slope + noise
    return ground[:: chance.choice((-1, 1)), :: chance.choice((-1, 1))].copy()


def _clutter(picture: npt.NDArray[np.int64], chance: np.random.Generator, *, longest: int) -> None:
    """A bar, a disc or a frame of up to `longest` pixels, of one brightness."""
    height, width = chance.integers(max(2, longest // 4), longest + 1, 2)
    top, left = chance.integers(0, SIDE - height + 1), chance.integers(0, SIDE - width + 1)
    part = picture[top : top + height, left : left + width]
    bright = chance.integers(30, 170)
    match chance.integers(0, 3):
        case 0:
            part[:] = bright
        case 1:
            rows, columns = np.ogrid[:height, :width]
            inside = ((2 * rows + 1 - height) * width) ** 2 + (
                (2 * columns + 1 - width) * height
            ) ** 2 <= (height * width) ** 2
            part[inside] = bright
        case _:
            part[[0, -1]] = part[:, [0, -1]] = bright


def _garment(
    picture: npt.NDArray[np.int64], tile: Pictures, chance: np.random.Generator
) -> tuple[int, int, int, int]:
    """Puts a tile into the picture and returns its box."""
    from PIL import Image

    side = round(TILE * chance.uniform(SMALLEST, LARGEST))
    top, left = (int(offset) for offset in chance.integers(0, SIDE - side + 1, 2))
    sized = Image.fromarray(tile).resize((side, side), Image.Resampling.BILINEAR)
    pixels = np.asarray(sized).astype(np.int64)
    hiding = np.minimum(pixels, OPAQUE_FROM)
    dimmed = pixels * chance.integers(170, 256) // 255
    part = picture[top : top + side, left : left + side]
    part[:] = (part * (OPAQUE_FROM - hiding) + dimmed * hiding) // OPAQUE_FROM
    return left, top, left + side, top + side
