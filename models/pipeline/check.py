"""Follows dtype and shape through a declared pipeline without computing anything.

Every refusal is a `Refused` with the path inside the pipeline and the reason; the manifest turns it
into its own error. What passes here cannot fail on shapes when it runs.
"""

import math
from typing import NamedTuple, assert_never

from models.pipeline.declared import (
    Cast,
    Dtype,
    Model,
    Normalise,
    Pipeline,
    Prepare,
    Reshape,
    Scale,
    Step,
    Transpose,
)


class Refused(Exception):
    """Where in the pipeline, and why."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{why} - at `{path}`")


class Kind(NamedTuple):
    """What a sample is at one point of the pipeline."""

    dtype: Dtype
    shape: tuple[int, ...]


def check(pipeline: Pipeline, input_name: str, kind: Kind) -> Kind:
    """The kind of sample the model takes. Raises `Refused`."""
    known = {input_name}
    for at, node in enumerate(pipeline.nodes):
        if node.after not in known:
            raise Refused(
                f"$.nodes[{at}].after",
                f"{node.after!r} is neither the input nor an earlier node "
                f"({', '.join(sorted(known))})",
            )
        if node.id in known:
            raise Refused(f"$.nodes[{at}].id", f"{node.id!r} is taken")
        known.add(node.id)
    match pipeline.nodes:
        case (Prepare() as prepare, Model() as model) if model.after == prepare.id:
            if pipeline.output != model.id:
                raise Refused("$.output", f"the output must be the model, {model.id!r}")
        case _:
            raise Refused("$.nodes", "a pipeline is one `prepare` and then one `model` after it")
    for at, step in enumerate(prepare.steps):
        try:
            kind = after_step(step, kind)
        except ValueError as error:
            raise Refused(f"$.nodes[0].steps[{at}]", str(error)) from error
    if kind.dtype != "float32":
        raise Refused("$.nodes[0].steps", f"a model takes float32, the steps end in {kind.dtype}")
    return kind


def after_step(step: Step, kind: Kind) -> Kind:
    """What a step makes of a kind. Raises `ValueError` when it cannot follow."""
    match step:
        case Cast(dtype):
            return Kind(dtype, kind.shape)
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
            return Kind(kind.dtype, tuple(kind.shape[axis] for axis in axes))
        case Reshape(shape):
            if math.prod(shape) != math.prod(kind.shape):
                raise ValueError(f"shape {list(shape)} does not hold {list(kind.shape)}")
            return Kind(kind.dtype, shape)
        case _:
            assert_never(step)


def _check_numbers(name: str, numbers: tuple[float, ...], kind: Kind) -> None:
    if kind.dtype not in ("float32", "float64"):
        raise ValueError(f"{name} needs a float sample, this one is {kind.dtype}; cast before it")
    last = kind.shape[-1] if kind.shape else 1
    if len(numbers) not in (1, last):
        raise ValueError(f"{name} has {len(numbers)} numbers; the last axis needs 1 or {last}")
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name} holds a number that is not finite")
