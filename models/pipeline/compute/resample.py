"""Another sample rate, band-limited: a windowed sinc, run as one short filter per output phase.

Between each two input samples stand `up - 1` zeros, a low-pass at the lower of the two Nyquist
frequencies fills them, and one in `down` is kept. Only the kept ones are computed, and no product
with a zero: output r, r + up, r + 2 up, ... all use the same taps, `up` apart in the filter
(Crochiere and Rabiner 1983, section 3.3). The filter is that of `scipy.signal.resample_poly`: a
sinc of 10 zero crossings to each side under a Kaiser window with beta 5, its sum scaled to one, the
sound taken as silent outside. Stop band below -50 dB.
"""

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import as_strided

from models.errors import EmptyInput
from models.pipeline.values import Array, Floats

_CROSSINGS = 10
_BETA = 5.0


def resampler(up: int, down: int) -> Callable[[Array], Floats]:
    """For samples [..., t]: float32 [..., ceil(t * up / down)]. Raises `EmptyInput`."""
    if up == down:
        return lambda sample: np.asarray(sample, np.float32)
    half = _CROSSINGS * max(up, down)
    taps = -(-(2 * half + 1) // up)
    filters = _by_phase(up, down, half, taps)
    first = [(half + phase * down) // up - half // up for phase in range(up)]
    left = taps - 1 - half // up

    def resample(sample: Array) -> Floats:
        time = sample.shape[-1]
        if time == 0:
            raise EmptyInput("sound holds no sample; send a recording that has begun")
        gives = -(-time * up // down)
        reach = first[(gives - 1) % up] + (gives - 1) // up * down + taps
        padded = np.zeros(
            (*sample.shape[:-1], max(reach, first[-1] + taps, left + time)), np.float32
        )
        padded[..., left : left + time] = sample
        result = np.empty((*sample.shape[:-1], gives), np.float32)
        *before, step = padded.strides
        for phase in range(min(up, gives)):
            count = -(-(gives - phase) // up)
            pieces = as_strided(
                padded[..., first[phase] :],
                (*sample.shape[:-1], count, taps),
                (*before, down * step, step),
                writeable=False,
            )
            result[..., phase::up] = pieces @ filters[phase]
        return result

    return resample


def _by_phase(up: int, down: int, half: int, taps: int) -> Floats:
    """float32 [up, taps]: what each output phase multiplies `taps` inputs in a row with."""
    at = np.arange(-half, half + 1)
    cut = 1.0 / max(up, down)
    whole = cut * np.sinc(cut * at) * np.kaiser(2 * half + 1, _BETA)
    whole *= up / whole.sum()
    padded = np.zeros(taps * up)
    padded[: 2 * half + 1] = whole
    # Row r of the comb holds taps r, r + up, ...; the last of them meets the earliest input.
    comb = padded.reshape(taps, up).T[:, ::-1]
    phases = (half + np.arange(up) * down) % up
    return np.ascontiguousarray(comb[phases], dtype=np.float32)
