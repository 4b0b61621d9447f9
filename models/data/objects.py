"""The true objects of a picture, as a label cell holds them: JSON, a list of label and box.

    [{"label": "boot", "box": [12, 20, 44, 61]}]

The box is x1, y1, x2, y2 in pixels of the picture, x to the right and y down. `[]` is a picture
with nothing on it.
"""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from models.data.rows import Cell
from models.pipeline.answers import Detected, Seen

Pixel = Annotated[float, Meta(ge=-1e9, le=1e9)]


class TrueObject(Struct, frozen=True, forbid_unknown_fields=True):
    """One object."""

    label: str
    box: tuple[Pixel, Pixel, Pixel, Pixel]


_decoder = msgspec.json.Decoder(tuple[TrueObject, ...])


def read_objects(cell: Cell, labels: tuple[str, ...]) -> Detected:
    """The truth in a cell. Raises `ValueError`, saying what is wrong."""
    if not isinstance(cell, str):
        raise ValueError(f"{cell!r} is no list of objects")
    try:
        objects = _decoder.decode(cell)
    except msgspec.DecodeError as error:
        raise ValueError(f"no list of objects: {error}") from error
    for one in objects:
        if one.label not in labels:
            raise ValueError(f"{one.label!r} is none of the labels")
        if one.box[0] > one.box[2] or one.box[1] > one.box[3]:
            raise ValueError(f"box {list(one.box)} is not x1, y1, x2, y2")
    return Detected(tuple(Seen(one.label, 1.0, one.box) for one in objects))
