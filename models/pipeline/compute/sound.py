"""Steps on sound and vibration.

Frames are a view: nothing is copied until a window is multiplied or a transform taken, and a view
is read only because its frames share samples. Windows, filter banks and tables of cosines are made
once. Transforms run in single precision, which numpy does for float32 since version 2.
"""

from collections.abc import Callable
from typing import assert_never

import numpy as np
from numpy.lib.stride_tricks import as_strided

from models.errors import WrongShape
from models.pipeline.compute.resample import resampler
from models.pipeline.compute.wav import decode_wav
from models.pipeline.kinds import Kind
from models.pipeline.ops.sound import (
    DecodeWav,
    FitLength,
    Frames,
    LogMel,
    Mfcc,
    Resample,
    Spectrum,
    SpectrumKind,
    Step,
    Window,
    WindowKind,
    mel_edges,
    ratio,
)
from models.pipeline.values import Array, Floats

OnArray = Callable[[Array], Floats]
# Generalised cosine windows (Harris 1978, table 1): a0 - a1 cos x + a2 cos 2x.
_COSINES: dict[WindowKind, tuple[float, ...]] = {
    "hann": (0.5, 0.5),
    "hamming": (0.54, 0.46),
    "blackman": (0.42, 0.5, 0.08),
}


def compile_step(step: Step, kind: Kind) -> Callable[[bytes], Floats] | OnArray:
    """A step on samples of this kind: a WAV file's bytes for `decode_wav`, else an array [..., t].

    The step raises `WrongShape` for a sample too short for one frame, and what decoding raises.
    """
    match step:
        case DecodeWav(rate_hz, _, channels):
            return lambda file: decode_wav(file, rate_hz, channels)
        case Resample(from_hz, to_hz):
            return resampler(*ratio(from_hz, to_hz))
        case FitLength():
            return _fit_length(step)
        case Frames(length, stride):
            return lambda sample: cut(np.asarray(sample, np.float32), length, stride)
        case Window(name):
            by = window(name, kind.shape[-1] or 0)
            return lambda sample: np.multiply(sample, by, dtype=np.float32)
        case Spectrum(name, n_fft, stride, frame, shape, floor):
            if stride is None:
                given = kind.shape[-1] or n_fft
                return _spectrum(name, given, None, n_fft, shape or "none", floor)
            return _spectrum(name, frame or n_fft, stride, n_fft, shape or "hann", floor)
        case LogMel():
            return _log_mel(step)
        case Mfcc():
            return _mfcc(step)
        case _:
            assert_never(step)


def window(name: WindowKind, length: int) -> Floats:
    """float32 [length], periodic: one more sample would begin it again, as transforms want it."""
    if name == "none":
        return np.ones(length, np.float32)
    turn = 2 * np.pi * np.arange(length) / length
    terms = _COSINES[name]
    made = sum((-1) ** n * a * np.cos(n * turn) for n, a in enumerate(terms))
    return np.asarray(made, np.float32)


def cut(sample: Array, length: int, stride: int) -> Array:
    """The frames [..., n, length] of a sample [..., t], as a view. Raises `WrongShape`."""
    time = sample.shape[-1]
    if time < length:
        raise WrongShape(f"sound of {time} samples is shorter than one frame of {length}")
    *before, step = sample.strides
    return as_strided(
        sample,
        (*sample.shape[:-1], 1 + (time - length) // stride, length),
        (*before, stride * step, step),
        writeable=False,
    )


def filter_bank(step: LogMel | Mfcc) -> Floats:
    """float32 [n_fft // 2 + 1, mels]: triangles of height one, straight in Hz between their edges.

    The bank of `torchaudio.functional.melscale_fbanks` with its defaults (scale htk, no norm).
    """
    edges = np.array(mel_edges(step))
    bins = np.arange(step.n_fft // 2 + 1) * (step.rate_hz / step.n_fft)
    rise = (bins[:, None] - edges[:-2]) / np.diff(edges)[:-1]
    fall = (edges[2:] - bins[:, None]) / np.diff(edges)[1:]
    return np.asarray(np.maximum(0.0, np.minimum(rise, fall)), np.float32)


def cosines(mels: int, count: int) -> Floats:
    """float32 [mels, count]: the orthonormal DCT-II (Ahmed, Natarajan and Rao 1974)."""
    turn = np.pi * (np.arange(mels)[:, None] + 0.5) * np.arange(count) / mels
    table = np.sqrt(2.0 / mels) * np.cos(turn)
    table[:, 0] = np.sqrt(1.0 / mels)
    return np.asarray(table, np.float32)


def _fit_length(step: FitLength) -> OnArray:
    length, pad, centred = step.length, np.float32(step.pad), step.where == "centre"

    def fit(sample: Array) -> Floats:
        over = sample.shape[-1] - length
        start = abs(over) // 2 if centred else 0
        if over >= 0:
            return np.asarray(sample[..., start : start + length], np.float32)
        filled = np.full((*sample.shape[:-1], length), pad, np.float32)
        filled[..., start : start + sample.shape[-1]] = sample
        return filled

    return fit


def _spectrum(
    name: SpectrumKind, frame: int, stride: int | None, n_fft: int, shape: WindowKind, floor: float
) -> OnArray:
    by = None if shape == "none" else window(shape, frame)
    least = np.float32(floor)

    def spectrum(sample: Array) -> Floats:
        sample = np.asarray(sample, np.float32)
        frames = sample if stride is None else cut(sample, frame, stride)
        waves = np.fft.rfft(frames if by is None else frames * by, n_fft)
        # Squares by hand: numpy's abs of a complex number guards against overflow and costs thrice.
        power: Floats = np.square(waves.real)
        power += np.square(waves.imag)
        if name == "power":
            return power
        if name == "magnitude":
            return np.sqrt(power, out=power)
        return np.log(np.maximum(power, least, out=power), out=power)

    return spectrum


def _log_mel(step: LogMel | Mfcc) -> OnArray:
    frame = step.frame or step.n_fft
    power = _spectrum("power", frame, step.stride, step.n_fft, step.window, step.floor)
    bank = filter_bank(step)
    least = np.float32(step.floor)

    def log_mel(sample: Array) -> Floats:
        bands: Floats = power(sample) @ bank
        return np.log(np.maximum(bands, least, out=bands), out=bands)

    return log_mel


def _mfcc(step: Mfcc) -> OnArray:
    log_mel = _log_mel(step)
    table = cosines(step.mels, step.count)

    def mfcc(sample: Array) -> Floats:
        coefficients: Floats = log_mel(sample) @ table
        return coefficients

    return mfcc
