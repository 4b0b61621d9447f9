"""Steps on a series of measurements.

Windows are a read-only view. Statistics are computed in float64, where a fourth power of float32
values loses nothing, and what several of them need is computed once.

    rms = sqrt(mean(x^2))        energy = sum(x^2)             peak_to_peak = max - min
    crest = max(|x|) / rms       zero_crossings = how often the sign of x - mean(x) changes
    skewness = m3 / m2^1.5       kurtosis = m4 / m2^2 (3 for a normal distribution)

m2, m3 and m4 are central moments with divisor t, as `std` is; `scipy.stats` calls this biased, and
kurtosis `fisher=False`. What a series without movement leaves undefined (crest of silence, skewness
and kurtosis of a constant) is 0.
"""

from collections.abc import Callable
from typing import assert_never

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from models.errors import EmptyInput, WrongShape
from models.pipeline.kinds import Kind
from models.pipeline.ops.series import (
    Difference,
    SlidingWindow,
    Standardise,
    Statistic,
    Statistics,
    Step,
)
from models.pipeline.values import Array, Floats

Wide = npt.NDArray[np.float64]
_STILL = 1e-24
"""A variance below this share of the mean square is rounding, not movement."""


def compile_step(step: Step, kind: Kind) -> Callable[[Array], Floats]:
    """A step on float samples of this kind, the list axis in front when there are many.

    The step raises `WrongShape` or `EmptyInput` for a series too short for it.
    """
    time = 1 if kind.many else 0
    match step:
        case SlidingWindow(length, stride):
            return lambda sample: windows(np.asarray(sample, np.float32), length, stride)
        case Statistics(names):
            return lambda sample: statistics(sample, names, time)
        case Difference(lag):
            return lambda sample: _difference(np.asarray(sample, np.float32), lag, time)
        case Standardise(floor):
            return lambda sample: _standardise(np.asarray(sample, np.float32), floor, time)
        case _:
            assert_never(step)


def windows(sample: Array, length: int, stride: int) -> Array:
    """The windows [n, length, ...] of a series [t, ...], as a view. Raises `WrongShape`."""
    time = sample.shape[0]
    if time < length:
        raise WrongShape(f"series of {time} values is shorter than one window of {length}")
    step, *rest = sample.strides
    return as_strided(
        sample,
        (1 + (time - length) // stride, length, *sample.shape[1:]),
        (stride * step, step, *rest),
        writeable=False,
    )


def statistics(sample: Array, names: tuple[Statistic, ...], time: int) -> Floats:
    """float32, the axis `time` replaced by one row for each name. Raises `EmptyInput`."""
    if sample.shape[time] == 0:
        raise EmptyInput("series holds no value; send at least one")
    values = _Shared(sample.astype(np.float64), time)
    return np.stack([values.of(name) for name in names], axis=time).astype(np.float32)


class _Shared:
    """What several statistics need, computed when the first of them asks."""

    def __init__(self, values: Wide, time: int) -> None:
        self._values = values
        self._time = time
        self._rest: Wide | None = None
        self._moment: Wide | None = None

    def of(self, name: Statistic) -> Wide:
        x, time = self._values, self._time
        found: Wide
        match name:
            case "mean":
                found = x.mean(time)
            case "std":
                found = np.sqrt(self._variance())
            case "min":
                found = x.min(time)
            case "max":
                found = x.max(time)
            case "median":
                found = np.asarray(np.median(x, time))
            case "mean_abs":
                found = np.abs(x).mean(time)
            case "rms":
                found = np.sqrt(np.square(x).mean(time))
            case "energy":
                found = np.square(x).sum(time)
            case "peak_to_peak":
                found = x.max(time) - x.min(time)
            case "crest":
                found = _ratio(np.abs(x).max(time), np.sqrt(np.square(x).mean(time)))
            case "kurtosis":
                found = _ratio((np.square(self._centred()) ** 2).mean(time), self._moving() ** 2)
            case "skewness":
                found = _ratio((self._centred() ** 3).mean(time), self._moving() ** 1.5)
            case "zero_crossings":
                above = self._centred() > 0
                found = np.diff(above, axis=time).sum(time).astype(np.float64)
            case _:
                assert_never(name)
        return found

    def _centred(self) -> Wide:
        if self._rest is None:
            self._rest = self._values - self._values.mean(self._time, keepdims=True)
        return self._rest

    def _variance(self) -> Wide:
        if self._moment is None:
            self._moment = np.square(self._centred()).mean(self._time)
        return self._moment

    def _moving(self) -> Wide:
        """The variance, or 0 where it is only what rounding left of a constant."""
        least = _STILL * np.square(self._values).mean(self._time)
        return np.where(self._variance() > least, self._variance(), 0.0)


def _ratio(above: Wide, below: Wide) -> Wide:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _difference(sample: Array, lag: int, time: int) -> Floats:
    length = sample.shape[time]
    if length <= lag:
        raise WrongShape(f"series of {length} values has no difference over {lag}")
    before = (slice(None),) * time
    difference: Floats = sample[(*before, slice(lag, None))] - sample[(*before, slice(0, -lag))]
    return difference


def _standardise(sample: Array, floor: float, time: int) -> Floats:
    if sample.shape[time] == 0:
        raise EmptyInput("series holds no value; send at least one")
    mean = sample.mean(time, dtype=np.float64, keepdims=True).astype(np.float32)
    centred: Floats = sample - mean
    spread = np.sqrt(np.square(centred).mean(time, dtype=np.float64, keepdims=True))
    centred /= np.maximum(spread, floor).astype(np.float32)
    return centred
