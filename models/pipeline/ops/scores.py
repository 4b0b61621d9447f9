"""Steps on what a model says: to probabilities and back, off an integer scale, less a class.

All but `dequantise` take floats and keep their type. A value that is not finite never becomes one
that is: it ends as NaN, which every head reads as an answer without confidence.
"""

from typing import Annotated, assert_never

from msgspec import Meta, Struct

from models.pipeline.kinds import Kind
from models.pipeline.ops.tensor import FLOATS

_LARGEST = {"float16": 65504.0, "float32": 3.4e38, "float64": 1.7e308}
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32")


class Softmax(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="softmax"):
    """Logits become probabilities over the last axis, after division by `temperature`."""

    temperature: Annotated[float, Meta(gt=0, lt=1e6)] = 1.0


class Sigmoid(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="sigmoid"):
    """Each logit becomes a probability of its own."""


class Log(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="log"):
    """Probabilities become logits: ln max(p, floor). For a model that ends in a softmax."""

    floor: Annotated[float, Meta(gt=0, lt=1)] = 1e-7


class Dequantise(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="dequantise"):
    """An integer head becomes float32: (q - zero_point) scale."""

    scale: Annotated[float, Meta(gt=0, lt=1e20)]
    zero_point: Annotated[int, Meta(ge=-(1 << 31), lt=1 << 31)] = 0


class DropClass(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="drop_class"):
    """Leave one class out, the background mostly."""

    index: Annotated[int, Meta(ge=0, le=1 << 24)]


class Take(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="take"):
    """Elements `start` to `stop` of the last axis, `stop` not among them: a detector's boxes."""

    start: Annotated[int, Meta(ge=0, le=1 << 24)]
    stop: Annotated[int, Meta(ge=1, le=1 << 24)]


class Clip(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="clip"):
    """Nothing below `low`, nothing above `high`."""

    low: float
    high: float


Step = Softmax | Sigmoid | Log | Dequantise | DropClass | Take | Clip
TAKES_MANY: tuple[type, ...] = (Softmax, Sigmoid, Log, Dequantise, DropClass, Take, Clip)
"""All of them: whatever stands before the last axis, a list's axis too, stays as it is."""


def after(step: Step, kind: Kind) -> Kind:
    """What a step makes of a kind. Raises `ValueError` when it cannot follow."""
    if isinstance(step, Dequantise):
        if kind.dtype not in INTEGERS:
            raise ValueError(f"dequantise takes {' or '.join(INTEGERS)}, not {kind.words()}")
        return kind._replace(dtype="float32")
    if isinstance(step, (DropClass, Take)):
        return _narrowed(step, kind)
    if kind.dtype not in FLOATS:
        raise ValueError(
            f"this step takes floats, not {kind.words()}; dequantise an integer head before it"
        )
    match step:
        case Softmax():
            if not kind.shape:
                raise ValueError(f"softmax needs an axis of classes, {kind.words()} has none")
        case Clip(low, high):
            if not low < high:
                raise ValueError(f"low must be below high, and {low} is not below {high}")
            if max(abs(low), abs(high)) > _LARGEST[kind.dtype]:
                raise ValueError(f"{low} or {high} is more than {kind.dtype} can hold")
        case Sigmoid() | Log():
            pass
        case _:
            assert_never(step)
    return kind


def _narrowed(step: DropClass | Take, kind: Kind) -> Kind:
    if not kind.shape:
        raise ValueError(f"this step needs an axis of classes, {kind.words()} has none")
    last = kind.shape[-1]
    match step:
        case DropClass(index):
            if last is not None and (last < 2 or index >= last):
                raise ValueError(f"there is no class {index} to leave out of {last}")
            left = None if last is None else last - 1
        case Take(start, stop):
            if start >= stop or (last is not None and stop > last):
                raise ValueError(f"{start} to {stop} is no part of a last axis of {last}")
            left = stop - start
        case _:
            assert_never(step)
    return kind._replace(shape=(*kind.shape[:-1], left))
