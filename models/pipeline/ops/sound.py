"""Steps on sound and vibration: decode, resample, cut into frames, window, spectrum, mel.

Time is the last axis. Axes before it, and the list axis of a *many* value, are kept, so a step
works on all channels, frames or windows at once. Results are float32.
"""

import math
from typing import Annotated, Literal, assert_never

from msgspec import Meta, Struct

from models.pipeline.kinds import Kind
from models.pipeline.ops.tensor import FLOATS, Dim

Hz = Annotated[int, Meta(ge=1, le=10_000_000)]
Bins = Annotated[int, Meta(ge=2, le=1 << 20)]
WindowKind = Literal["none", "hann", "hamming", "blackman"]
SpectrumKind = Literal["magnitude", "power", "log_power"]
MOST_PHASES = 2048
"""Rates whose ratio needs more would need a filter of over 40,000 taps."""


class DecodeWav(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="decode_wav"):
    """A WAV file as float32 in -1..1: PCM of 8, 16, 24 or 32 bits, or float.

    `mono` gives the mean of however many channels there are, [t]; otherwise the file must have
    `channels` of them and the result is [channels, t].
    """

    rate_hz: Hz
    """A file at another rate is refused: it would sound like something else to the model."""
    mono: bool = True
    channels: Annotated[int, Meta(ge=1, le=32)] | None = None


class Resample(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="resample"):
    """Another rate, band-limited: t samples become ceil(t * to_hz / from_hz)."""

    from_hz: Hz
    to_hz: Hz


class FitLength(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="fit_length"):
    """Cut what is longer and fill up what is shorter with the value `pad`."""

    length: Dim
    where: Literal["start", "centre"] = "start"
    """Which part is kept, and where a shorter one comes to lie."""
    pad: float = 0.0


class Frames(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="frames"):
    """Overlapping pieces of `length`, one every `stride`; a rest shorter than a piece is left out.

    [t] gives [n, length], and many [length] when t is not known before the sample is there.
    """

    length: Dim
    stride: Dim


class Window(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="window"):
    """Multiply each frame by a window."""

    kind: WindowKind


class Spectrum(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="spectrum"):
    """The `n_fft // 2 + 1` bins of a real Fourier transform, unscaled.

    Without `stride` each last axis is one frame; with it, [t] is cut into frames first and gives
    [frames, bins]. A frame shorter than `n_fft` is filled up with zeros.
    """

    kind: SpectrumKind
    n_fft: Bins
    stride: Dim | None = None
    frame: Dim | None = None
    """Samples in one frame that this step cuts; as long as the transform when not said."""
    window: WindowKind | None = None
    """When not said: hann where this step cuts the frames, none where they came cut."""
    floor: Annotated[float, Meta(gt=0)] = 1e-10
    """The least power of which `log_power` takes the natural logarithm."""


class LogMel(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="log_mel"):
    """[t] to [frames, mels]: natural logarithm of the power in bands that follow hearing."""

    rate_hz: Hz
    n_fft: Bins
    stride: Dim
    mels: Annotated[int, Meta(ge=1, le=512)]
    low_hz: float = 0.0
    high_hz: float | None = None
    """Half the rate when not said."""
    frame: Dim | None = None
    window: WindowKind = "hann"
    floor: Annotated[float, Meta(gt=0)] = 1e-10


class Mfcc(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="mfcc"):
    """[t] to [frames, count]: the first cosine coefficients of `log_mel`."""

    rate_hz: Hz
    n_fft: Bins
    stride: Dim
    mels: Annotated[int, Meta(ge=1, le=512)]
    count: Annotated[int, Meta(ge=1, le=512)]
    low_hz: float = 0.0
    high_hz: float | None = None
    frame: Dim | None = None
    window: WindowKind = "hann"
    floor: Annotated[float, Meta(gt=0)] = 1e-10


Step = DecodeWav | Resample | FitLength | Frames | Window | Spectrum | LogMel | Mfcc
TAKES_MANY: tuple[type, ...] = (Resample, FitLength, Frames, Window, Spectrum, LogMel, Mfcc)


def after(step: Step, kind: Kind) -> Kind:
    """What a step makes of a kind. Raises `ValueError` when it cannot follow."""
    if isinstance(step, DecodeWav):
        return _after_decode(step, kind)
    before, time = _time_axis(kind)
    match step:
        case Resample(from_hz, to_hz):
            up, down = ratio(from_hz, to_hz)
            if max(up, down) > MOST_PHASES:
                raise ValueError(
                    f"{from_hz} to {to_hz} Hz is the ratio {up}/{down}; choose rates whose ratio "
                    f"has no part above {MOST_PHASES}"
                )
            return _now(kind, (*before, None if time is None else -(-time * up // down)))
        case FitLength(length, _, pad):
            if not math.isfinite(pad):
                raise ValueError("pad is not finite")
            return _now(kind, (*before, length))
        case Frames(length, stride):
            if time is not None:
                return _now(kind, (*before, _count(time, length, stride), length))
            if before or kind.many:
                raise ValueError(
                    f"frames of {kind.words()} need a known length; put fit_length before it"
                )
            return Kind("float32", (length,), many=True)
        case Window():
            if time is None:
                raise ValueError(f"a window needs a known length, not {kind.words()}")
            return _now(kind, kind.shape)
        case Spectrum():
            return _now(kind, (*before, *_after_spectrum(step, kind)))
        case LogMel() | Mfcc():
            count = _cut(time, step.frame or step.n_fft, step.n_fft, step.stride)
            mel_edges(step)
            if isinstance(step, LogMel):
                return _now(kind, (*before, count, step.mels))
            if step.count > step.mels:
                raise ValueError(f"{step.mels} bands have no {step.count} coefficients")
            return _now(kind, (*before, count, step.count))
        case _:
            assert_never(step)


def ratio(from_hz: int, to_hz: int) -> tuple[int, int]:
    """How many samples up, and of those one in how many is kept; in lowest terms."""
    common = math.gcd(from_hz, to_hz)
    return to_hz // common, from_hz // common


def mel(hz: float) -> float:
    """Pitch as heard: O'Shaughnessy 1987, HTK Book 3.4 equation 5.13."""
    return 2595.0 * math.log10(1.0 + hz / 700.0)


def mel_edges(step: LogMel | Mfcc) -> tuple[float, ...]:
    """Hz of the `mels + 2` edges, evenly spaced in mel; band i rises from edge i to i + 1, falls to
    i + 2. Raises `ValueError` for limits that make no bands or a band between two bins."""
    high_hz = step.rate_hz / 2 if step.high_hz is None else step.high_hz
    if not 0 <= step.low_hz < high_hz <= step.rate_hz / 2:
        raise ValueError(
            f"bands from {step.low_hz} to {high_hz} Hz: they must lie between 0 and half the rate, "
            f"{step.rate_hz / 2}"
        )
    low, high = mel(step.low_hz), mel(high_hz)
    apart = (high - low) / (step.mels + 1)
    edges = tuple(
        700.0 * (10.0 ** ((low + apart * at) / 2595.0) - 1.0) for at in range(step.mels + 2)
    )
    bin_hz = step.rate_hz / step.n_fft
    for band, (left, right) in enumerate(zip(edges, edges[2:], strict=False)):
        if (math.floor(left / bin_hz) + 1) * bin_hz >= right:
            raise ValueError(
                f"band {band} of {step.mels} lies between two bins of {bin_hz:g} Hz; ask for "
                "fewer bands or a longer transform"
            )
    return edges


def _after_decode(step: DecodeWav, kind: Kind) -> Kind:
    if kind.dtype != "bytes" or kind.many:
        raise ValueError(f"decode_wav takes the bytes of a file, not {kind.words()}")
    if step.mono == (step.channels is not None):
        raise ValueError("say how many channels there are when mono is false, and only then")
    return Kind("float32", (None,) if step.channels is None else (step.channels, None))


def _after_spectrum(step: Spectrum, kind: Kind) -> tuple[int | None, ...]:
    time, bins = kind.shape[-1], step.n_fft // 2 + 1
    if step.stride is not None:
        return _cut(time, step.frame or step.n_fft, step.n_fft, step.stride), bins
    if step.frame is not None:
        raise ValueError("frame says how to cut, so it needs a stride")
    if time is None or time > step.n_fft:
        raise ValueError(
            f"a transform of {step.n_fft} takes frames of at most {step.n_fft} samples, not "
            f"{kind.words()}; give a stride, or put frames before it"
        )
    return (bins,)


def _time_axis(kind: Kind) -> tuple[tuple[int | None, ...], int | None]:
    if kind.dtype not in FLOATS:
        raise ValueError(f"a step on sound needs float samples, this is {kind.words()}; cast first")
    if not kind.shape:
        raise ValueError(f"a step on sound needs a time axis, this is {kind.words()}")
    return kind.shape[:-1], kind.shape[-1]


def _now(kind: Kind, shape: tuple[int | None, ...]) -> Kind:
    return Kind("float32", shape, kind.many)


def _count(time: int, length: int, stride: int) -> int:
    if time < length:
        raise ValueError(f"{time} samples hold no frame of {length}; put fit_length before it")
    return 1 + (time - length) // stride


def _cut(time: int | None, frame: int, n_fft: int, stride: int) -> int | None:
    if frame > n_fft:
        raise ValueError(f"a frame of {frame} samples does not fit a transform of {n_fft}")
    return None if time is None else _count(time, frame, stride)
