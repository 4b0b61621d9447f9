"""Steps on a series of measurements, [t] or [t, c]: windows, statistics, differences.

Time is the first axis; each channel is treated alone. Results are float32.
"""

from typing import Annotated, Literal, assert_never

from msgspec import Meta, Struct

from models.pipeline.kinds import Kind
from models.pipeline.ops.tensor import FLOATS, Dim

Statistic = Literal[
    "mean",
    "std",
    "min",
    "max",
    "median",
    "mean_abs",
    "rms",
    "energy",
    "peak_to_peak",
    "crest",
    "kurtosis",
    "skewness",
    "zero_crossings",
]


class SlidingWindow(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="sliding_window"
):
    """Many windows of `length`, one every `stride`: each is one sample to what comes after.

    A rest shorter than a window is left out.
    """

    length: Dim
    stride: Dim


class Statistics(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="statistics"):
    """Numbers that describe a series, one row each: [t, c] to [names, c], [t] to [names]."""

    names: Annotated[tuple[Statistic, ...], Meta(min_length=1, max_length=64)]


class Difference(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="difference"):
    """Each value less the one `lag` before it: [t, c] to [t - lag, c]."""

    lag: Dim = 1


class Standardise(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="standardise"
):
    """Subtract the series' own mean, divide by its own standard deviation, each channel alone."""

    floor: Annotated[float, Meta(gt=0)] = 1e-6
    """The least to divide by: a series that does not move becomes zeros, not noise."""


Step = SlidingWindow | Statistics | Difference | Standardise
TAKES_MANY: tuple[type, ...] = (Statistics, Difference, Standardise)


def after(step: Step, kind: Kind) -> Kind:
    """What a step makes of a kind. Raises `ValueError` when it cannot follow."""
    if kind.dtype not in FLOATS:
        raise ValueError(f"a step on series needs float values, not {kind.words()}; cast first")
    if not kind.shape:
        raise ValueError(f"a step on series needs a time axis, this is {kind.words()}")
    time, *rest = kind.shape
    match step:
        case SlidingWindow(length):
            if kind.many:
                raise ValueError(f"there are windows already: {kind.words()}")
            if time is not None and time < length:
                raise ValueError(f"{time} values hold no window of {length}")
            return Kind("float32", (length, *rest), many=True)
        case Statistics(names):
            if len(set(names)) != len(names):
                raise ValueError("a statistic is named twice")
            return Kind("float32", (len(names), *rest), kind.many)
        case Difference(lag):
            if time is not None and time <= lag:
                raise ValueError(f"{time} values have no difference over {lag}")
            return Kind("float32", (None if time is None else time - lag, *rest), kind.many)
        case Standardise():
            return Kind("float32", kind.shape, kind.many)
        case _:
            assert_never(step)
