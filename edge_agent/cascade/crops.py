"""A picture with everything black but what lies in some boxes: same size, so the boxes still hold.

An encoded picture comes back as PNG, without what its file said beside the pixels (place, camera).
"""

import io
import math

import numpy as np

from edge_agent.cascade.ports import InferRequest, Leaving
from models.pipeline.compute.image import compile_run
from models.pipeline.kinds import Kind
from models.pipeline.ops.image import DecodeImage
from models.pipeline.values import Array

MARGIN = 0.05
"""Of a box's sides, added on each: a detector's box seldom holds the whole object."""


def only(request: InferRequest, boxes: Array) -> Leaving | None:
    """The picture in `boxes` [n, 4] (left, top, right, bottom, in its pixels); None without any.

    For encoded pictures, and uint8 arrays of rows, columns and perhaps channels. Raises
    `models.errors.InputError` for a file that is no picture.
    """
    if request.dtype == "bytes":
        picture = compile_run((DecodeImage(),), Kind("bytes", ()))(bytes(request.data))
    elif request.dtype == "uint8" and len(request.shape) in (2, 3):
        picture = np.frombuffer(request.data, np.uint8).reshape(request.shape)
    else:
        return None
    if not (shown := _shown(picture, boxes)).any():
        return None
    left = np.where(shown.reshape(*shown.shape, *(1,) * (picture.ndim - 2)), picture, 0)
    if request.dtype == "uint8":
        return Leaving(request.shape, left.astype(np.uint8).tobytes())
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(left.astype(np.uint8).squeeze()).save(file, "PNG")
    return Leaving((file.tell(),), file.getvalue())


def _shown(picture: Array, boxes: Array) -> Array:
    """Which pixels may be seen, [rows, columns]."""
    shown = np.zeros(picture.shape[:2], np.bool_)
    for left, top, right, bottom in boxes.tolist():
        if not all(map(math.isfinite, (left, top, right, bottom))):
            continue
        wide, high = MARGIN * (right - left), MARGIN * (bottom - top)
        rows = slice(max(0, math.floor(top - high)), max(0, math.ceil(bottom + high)))
        columns = slice(max(0, math.floor(left - wide)), max(0, math.ceil(right + wide)))
        shown[rows, columns] = True
    return shown
