"""Boxes of a detector: decode, suppress, carry back to the picture, cut out, name again.

Boxes are x1, y1, x2, y2 in pixels, x to the right and y down, corners between pixels. *Candidates*
are float32 [n, 6] rows of box, score and class, best score first. Their head splits them by its
threshold, and those below it say how sure an empty result is; so nothing here may hide one:

1. `nms` leaves the best candidate in even when it is below the floor.
2. A score that is NaN, or a candidate whose box is not finite, stays in sight as a row of NaN at
   the end, which the head reads as an output without confidence.
"""

import math
from typing import Literal, NamedTuple

import numpy as np

from models.calibrate.scores import confidence
from models.pipeline.values import Array, Floats

Format = Literal["xyxy", "cxcywh"]
_BLOCK = 64


class Fitted(NamedTuple):
    """Where a picture lies inside its letterbox, in pixels."""

    height: int
    width: int
    top: int
    left: int


def fitted(high: int, wide: int, height: int, width: int) -> Fitted:
    """The place of a picture of high x wide in a letterbox of height x width.

    The tighter side fits exactly, the other is rounded to the nearest pixel.
    """
    scale = min(height / high, width / wide)
    tall = min(height, max(1, round(high * scale)))
    broad = min(width, max(1, round(wide * scale)))
    return Fitted(tall, broad, (height - tall) // 2, (width - broad) // 2)


def corners(
    boxes: Array, form: Format, *, normalised: bool = False, height: int = 1, width: int = 1
) -> Floats:
    """Boxes [n, 4] of a model as x1, y1, x2, y2 in pixels.

    `normalised` boxes are shares of a picture of height x width, which is then needed.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is caught as NaN
        found: Floats = boxes.astype(np.float32)
        if form == "cxcywh":
            half = found[:, 2:] / 2
            found = np.concatenate([found[:, :2] - half, found[:, :2] + half], axis=1)
        if normalised:
            found = found * np.array([width, height, width, height], np.float32)
    return found


def nms(boxes: Floats, scores: Array, *, iou: float, floor: float, limit: int) -> Floats:
    """Candidates [m, 6] after class-wise greedy suppression.

    `boxes` [n, 4] as `corners` gives them, `scores` [n, K] one column per class. Of every class,
    boxes are taken best first, and one that overlaps a taken one by more than `iou` (intersection
    over union) is left out. Equal scores go by their place in the model's output. At most `limit`
    candidates, and the row of NaN beside them.
    """
    with np.errstate(over="ignore"):  # an infinity is caught below
        flat = scores.astype(np.float32).ravel()
    classes = scores.shape[1]
    chosen = np.flatnonzero(flat >= floor)
    odd = bool(np.isnan(flat).any())
    if not len(chosen) and len(flat) and not odd:
        chosen = np.array([int(flat.argmax())])
    sound = np.all(np.isfinite(boxes), axis=1)[chosen // classes] & np.isfinite(flat[chosen])
    odd = odd or not bool(sound.all())
    chosen = chosen[sound]
    chosen = chosen[np.argsort(-flat[chosen], kind="stable")]
    places, names = np.divmod(chosen, classes)
    at = _class_wise(boxes[places].astype(np.float64), names, iou=iou, limit=limit)
    rows = np.empty((len(at) + odd, 6), np.float32)
    rows[: len(at), :4] = boxes[places[at]]
    rows[: len(at), 4] = flat[chosen[at]]
    rows[: len(at), 5] = names[at]
    if odd:
        rows[-1] = np.nan
    return rows


def _class_wise(boxes: Array, names: Array, *, iou: float, limit: int) -> Array:
    """Places, in order, of the boxes that stay, of boxes that come best first."""
    stay = [
        places[_greedy(boxes[places], iou=iou, limit=limit)]
        for places in (np.flatnonzero(names == name) for name in np.unique(names))
    ]
    return np.sort(np.concatenate(stay))[:limit] if stay else np.empty(0, np.intp)


def _greedy(boxes: Array, *, iou: float, limit: int) -> list[int]:
    """Of boxes of one class, `limit` or a block more: one by one inside a block, then the block's
    survivors against the rest.
    """
    left = np.arange(len(boxes))
    taken: list[int] = []
    while len(left) and len(taken) < limit:
        block, left = left[:_BLOCK], left[_BLOCK:]
        over = _overlap(boxes[block], boxes[block], iou)
        alive = np.ones(len(block), np.bool_)
        stay = []
        for at in range(len(block)):
            if alive[at]:
                stay.append(at)
                alive &= ~over[at]
        kept = block[stay]
        taken.extend(kept.tolist())
        left = left[~_overlap(boxes[kept], boxes[left], iou).any(axis=0)]
    return taken


def _overlap(ones: Array, others: Array, iou: float) -> Array:
    """Whether each of n boxes overlaps each of m by more than `iou`: bool [n, m]."""
    left, top, right, bottom = ones.T[:, :, None]
    lefts, tops, rights, bottoms = others.T
    across = np.minimum(right, rights) - np.maximum(left, lefts)
    down = np.minimum(bottom, bottoms) - np.maximum(top, tops)
    shared = np.maximum(across, 0) * np.maximum(down, 0)
    whole = _area(ones)[:, None] + _area(others) - shared
    # Without a division, so that boxes of no area need no case of their own.
    found: Array = shared > iou * whole
    return found


def _area(boxes: Array) -> Array:
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    area: Array = sides[:, 0] * sides[:, 1]
    return area


def unletterbox(
    candidates: Floats, picture_height: int, picture_width: int, height: int, width: int
) -> Floats:
    """Candidates in a letterbox of height x width, carried to the picture and cut at its edges."""
    place = fitted(picture_height, picture_width, height, width)
    found = candidates.copy()
    across, down = picture_width / place.width, picture_height / place.height
    found[:, 0:4:2] = np.clip((found[:, 0:4:2] - place.left) * across, 0, picture_width)
    found[:, 1:4:2] = np.clip((found[:, 1:4:2] - place.top) * down, 0, picture_height)
    return found


def crop_resize(image: Array, boxes: Floats, height: int, width: int) -> Array:
    """What is inside each of `boxes` [n, 4 or more], bilinear, as uint8 [n, height, width, ...].

    Cut at whole pixels, the nearest, as `Image.crop` does. A box is cut at the picture's edges, and
    widened to one pixel where it has none. A box that is not finite gives a black picture.
    """
    from PIL.Image import Resampling

    from models.pipeline.compute.image import picture_of

    found = np.zeros((len(boxes), height, width, *image.shape[2:]), np.uint8)
    picture = picture_of(image)
    for at, box in enumerate(boxes[:, :4].tolist()):
        if not all(map(math.isfinite, box)):
            continue
        left, right = _whole(box[0], box[2], picture.width)
        top, bottom = _whole(box[1], box[3], picture.height)
        part = picture.crop((left, top, right, bottom)).resize((width, height), Resampling.BILINEAR)
        found[at] = np.asarray(part).reshape(found.shape[1:])
    return found


def _whole(low: float, high: float, most: int) -> tuple[int, int]:
    """low..high in whole pixels inside 0..most, at least one of them."""
    first, last = (round(min(max(edge, 0.0), float(most))) for edge in (low, high))
    if last > first:
        return first, last
    first = min(max(int((low + high) / 2), 0), most - 1)
    return first, first + 1


def relabel(candidates: Floats, logits: Array) -> Floats:
    """Candidates [n, 6] with what a classifier says of their crops, `logits` [n, K].

    The class is the classifier's, the score is multiplied by its top probability, which is NaN for
    logits that are NaN, infinite or all equal. The boxes and the order stay.
    """
    found = candidates.copy()
    found[:, 4] *= confidence(logits, 1.0).astype(np.float32)
    found[:, 5] = logits.argmax(axis=1)
    return found
