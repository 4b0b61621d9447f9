"""WAV files: RIFF chunks around samples, as the Multimedia Programming Interface 1.0 has them.

1. A size in the file is a claim. The one of `data` must fit what came; the one of RIFF says nothing
   that the others do not, and is not looked at. 0xFFFFFFFF, which programs write that stream a
   sound of unknown length, means what is left.
2. Rate, channels and bits must be what the step asks and agree with each other.
3. A chunk nobody asked for is stepped over. What comes after `data` is not read.
"""

import struct
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.errors import EmptyInput, NotFinite, UndecodableInput, WrongSampleRate, WrongShape
from models.pipeline.values import Floats

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_UNKNOWN = 0xFFFFFFFF
_FULL = {8: 2.0**7, 16: 2.0**15, 24: 2.0**23, 32: 2.0**31}


class _Format(NamedTuple):
    tag: int
    channels: int
    rate_hz: int
    bits: int


def decode_wav(file: bytes, rate_hz: int, channels: int | None) -> Floats:
    """float32 [channels, t], or [t] as the mean of all channels when `channels` is None.

    Integers are divided by half their range, so full scale is -1..1. Raises `UndecodableInput`,
    `WrongSampleRate`, `WrongShape` (channels), `EmptyInput` (no sample), `NotFinite`.
    """
    form, data = _chunks(file)
    if form.rate_hz != rate_hz:
        raise WrongSampleRate(
            f"sound of {form.rate_hz} Hz where {rate_hz} Hz is expected; resample it before sending"
        )
    if channels is not None and form.channels != channels:
        raise WrongShape(f"sound of {form.channels} channels where {channels} are expected")
    if not data:
        raise EmptyInput("sound holds no sample; send a recording that has begun")
    samples = _samples(form, data).reshape(-1, form.channels)
    if form.tag == _FLOAT and not np.isfinite(samples).all():
        raise NotFinite("sound holds NaN or an infinity; leave it out, or repair it")
    if channels is not None:
        return np.ascontiguousarray(samples.T)
    if form.channels == 1:
        return samples[:, 0]
    mean: Floats = samples.mean(axis=1, dtype=np.float32)
    return mean


def _chunks(file: bytes) -> tuple[_Format, bytes]:
    if len(file) < 12 or file[:4] != b"RIFF" or file[8:12] != b"WAVE":
        raise UndecodableInput(f"{len(file)} bytes are no WAV file; send RIFF with WAVE in it")
    form: _Format | None = None
    at = 12
    while at + 8 <= len(file):
        name, size = struct.unpack_from("<4sI", file, at)
        at += 8
        left = len(file) - at
        if name == b"data":
            return _data(form, file, at, left if size == _UNKNOWN else size)
        if size > left:
            raise UndecodableInput(
                f"WAV file is cut off: chunk {name!r} claims {size} bytes, {left} are left"
            )
        if name == b"fmt ":
            form = _format(file[at : at + size])
        at += size + size % 2
    raise UndecodableInput(f"WAV file of {len(file)} bytes ends before its samples begin")


def _data(form: _Format | None, file: bytes, at: int, size: int) -> tuple[_Format, bytes]:
    if form is None:
        raise UndecodableInput("WAV file has its samples before it says what they are")
    if size > len(file) - at:
        raise UndecodableInput(
            f"WAV file is cut off: {size} bytes of samples are claimed, {len(file) - at} are left"
        )
    whole = form.channels * form.bits // 8
    if size % whole:
        raise UndecodableInput(f"{size} bytes are no whole number of samples of {whole} bytes")
    return form, file[at : at + size]


def _format(chunk: bytes) -> _Format:
    if len(chunk) < 16:
        raise UndecodableInput(f"WAV format chunk of {len(chunk)} bytes; it has at least 16")
    tag, channels, rate_hz, _, block, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == _EXTENSIBLE and len(chunk) >= 40:
        (tag,) = struct.unpack_from("<H", chunk, 24)
    if (tag, bits) not in {
        (_PCM, 8),
        (_PCM, 16),
        (_PCM, 24),
        (_PCM, 32),
        (_FLOAT, 32),
        (_FLOAT, 64),
    }:
        raise UndecodableInput(
            f"WAV encoding {tag} of {bits} bits is not read; send PCM of 8, 16, 24 or 32 bits, or "
            "float of 32 or 64"
        )
    if channels == 0 or rate_hz == 0 or block != channels * bits // 8:
        raise UndecodableInput(
            f"WAV format says {channels} channels, {rate_hz} Hz, {bits} bits in blocks of {block} "
            "bytes, which cannot be"
        )
    return _Format(tag, channels, rate_hz, bits)


def _samples(form: _Format, data: bytes) -> Floats:
    if form.tag == _FLOAT:
        with np.errstate(over="ignore"):  # beyond float32 is an infinity, refused by the caller
            return np.frombuffer(data, f"<f{form.bits // 8}").astype(np.float32)
    scale = np.float32(1.0 / _FULL[form.bits])
    whole: npt.NDArray[np.float32]
    if form.bits == 8:
        whole = np.frombuffer(data, np.uint8).astype(np.float32) - np.float32(128)
    elif form.bits == 24:
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        whole = (wide.view("<i4")[:, 0] >> 8).astype(np.float32)
    else:
        whole = np.frombuffer(data, f"<i{form.bits // 8}").astype(np.float32)
    return whole * scale
