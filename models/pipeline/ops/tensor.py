"""Steps on any array: convert, scale, normalise, reorder, reshape."""

import math
from typing import Annotated, Literal, assert_never

from msgspec import Meta, Struct

from models.pipeline.kinds import RAW, Dtype, Kind

Dim = Annotated[int, Meta(ge=1, le=1 << 24)]
FLOATS = ("float16", "float32", "float64")


class Cast(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="cast"):
    """Convert every value to `dtype`."""

    dtype: Dtype


class Scale(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="scale"):
    """Multiply by one number, or by one per element of the last axis."""

    by: tuple[float, ...]


class Normalise(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="normalise"):
    """Subtract `mean`, divide by `std`: one number, or one per element of the last axis."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Transpose(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="transpose"):
    """Reorder the axes: axis `axes[i]` of the input becomes axis i."""

    axes: tuple[int, ...]


class Reshape(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="reshape"):
    """Read the values, row by row, in another shape of the same size."""

    shape: tuple[Dim, ...]


class Stack(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="stack"):
    """Take a list of arrays for one array with an axis more, of a length only a sample can tell."""


class Pool(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="pool"):
    """One array for a list of them: their mean or their largest values. Of no array: NaN."""

    how: Literal["mean", "max"] = "mean"


Step = Cast | Scale | Normalise | Transpose | Reshape | Stack | Pool
TAKES_MANY: tuple[type, ...] = (Stack, Pool)


def after(step: Step, kind: Kind) -> Kind:
    """What a step makes of a kind. Raises `ValueError` when it cannot follow."""
    if kind.dtype in RAW:
        raise ValueError(f"a step on arrays cannot take {kind.words()}; decode it first")
    match step:
        case Cast(dtype):
            return kind._replace(dtype=dtype)
        case Scale(by):
            _check_numbers("by", by, kind)
            return kind
        case Normalise(mean, std):
            _check_numbers("mean", mean, kind)
            _check_numbers("std", std, kind)
            if min(std) <= 0:
                raise ValueError(f"std must be positive, not {min(std)}")
            return kind
        case Transpose(axes):
            if sorted(axes) != list(range(len(kind.shape))):
                raise ValueError(f"axes {list(axes)} do not reorder the axes of {list(kind.shape)}")
            return kind._replace(shape=tuple(kind.shape[axis] for axis in axes))
        case Reshape(shape):
            sides = [side for side in kind.shape if side is not None]
            if len(sides) == len(kind.shape) and math.prod(shape) != math.prod(sides):
                raise ValueError(f"shape {list(shape)} does not hold {list(sides)}")
            return kind._replace(shape=shape)
        case Stack():
            _check_list(kind)
            return Kind(kind.dtype, (None, *kind.shape))
        case Pool():
            _check_list(kind)
            if kind.dtype not in FLOATS:
                raise ValueError(f"pool needs floats, these are {kind.dtype}; cast before it")
            return kind._replace(many=False)
        case _:
            assert_never(step)


def _check_numbers(name: str, numbers: tuple[float, ...], kind: Kind) -> None:
    if kind.dtype not in FLOATS:
        raise ValueError(f"{name} needs a float sample, this one is {kind.dtype}; cast before it")
    last = kind.shape[-1] if kind.shape else 1
    if len(numbers) not in (1, last):
        raise ValueError(f"{name} has {len(numbers)} numbers; the last axis needs 1 or {last}")
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name} holds a number that is not finite")


def _check_list(kind: Kind) -> None:
    if not kind.many:
        raise ValueError(f"a list of arrays is wanted here, this is {kind.words()}")
