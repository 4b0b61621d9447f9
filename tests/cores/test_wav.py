"""WAV files, written by the standard library or by hand, whole and damaged."""

import io
import struct
import wave

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import (
    EmptyInput,
    InputError,
    NotFinite,
    UndecodableInput,
    WrongSampleRate,
    WrongShape,
)
from models.pipeline.compute.wav import decode_wav

RATE = 16_000
WAVE = np.array([0.0, 0.5, -0.5, 0.25, -1.0], np.float32)


def pcm(
    samples: npt.NDArray[np.float32], bits: int, *, channels: int = 1, rate: int = RATE
) -> bytes:
    """Samples in -1..1 as the standard library writes them."""
    whole = np.round(samples.astype(np.float64) * 2 ** (bits - 1)).astype(np.int64)
    if bits == 8:
        data = (whole + 128).astype(np.uint8).tobytes()
    else:
        data = b"".join(int(one).to_bytes(bits // 8, "little", signed=True) for one in whole)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(bits // 8)
        out.setframerate(rate)
        out.writeframes(data)
    return file.getvalue()


def riff(
    data: bytes,
    *,
    tag: int = 1,
    channels: int = 1,
    rate: int = RATE,
    bits: int = 16,
    block: int | None = None,
    claims: int | None = None,
    before: bytes = b"",
    extra: bytes = b"",
) -> bytes:
    """A file by hand, so that it can lie."""
    block = channels * bits // 8 if block is None else block
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * block, block, bits) + extra
    body = b"WAVE" + before + b"fmt " + struct.pack("<I", len(form)) + form
    body += b"data" + struct.pack("<I", len(data) if claims is None else claims) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_integers_of_every_width_come_back_as_they_were(bits: int) -> None:
    assert np.array_equal(decode_wav(pcm(WAVE, bits), RATE, None), WAVE)


@pytest.mark.parametrize(("width", "bits"), [("<f4", 32), ("<f8", 64)])
def test_floats_come_back_as_they_were(width: str, bits: int) -> None:
    file = riff(WAVE.astype(width).tobytes(), tag=3, bits=bits)
    found = decode_wav(file, RATE, None)
    assert found.dtype == np.float32
    assert np.array_equal(found, WAVE)


def test_the_extensible_form_is_read() -> None:
    guid = struct.pack("<HHIH14s", 22, 16, 4, 1, b"\0" * 14)
    assert np.array_equal(
        decode_wav(riff(struct.pack("<h", -(2**14)), tag=0xFFFE, extra=guid), RATE, None),
        np.array([-0.5], np.float32),
    )


def test_channels_are_mixed_to_their_mean_or_kept_as_rows() -> None:
    both = pcm(np.array([0.5, -0.5, 1 / 2, 1 / 4], np.float32), 16, channels=2)
    assert decode_wav(both, RATE, None).tolist() == [0.0, 0.375]
    assert decode_wav(both, RATE, 2).tolist() == [[0.5, 0.5], [-0.5, 0.25]]


def test_chunks_nobody_asked_for_are_stepped_over_with_their_padding() -> None:
    noted = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    assert decode_wav(riff(struct.pack("<h", 2**14), before=noted), RATE, None).tolist() == [0.5]


def test_a_stream_of_unknown_length_is_read_to_its_end() -> None:
    file = riff(struct.pack("<hh", 0, 2**14), claims=0xFFFFFFFF)
    assert decode_wav(file, RATE, None).tolist() == [0.0, 0.5]


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (b"", "no WAV file"),
        (b"RIFF\0\0\0\0WAVX", "no WAV file"),
        (b"ID3\x04" + b"\0" * 100, "no WAV file"),
        (pcm(WAVE, 16)[:-1], "cut off"),
        (pcm(WAVE, 16)[:30], "cut off"),
        (pcm(WAVE, 16)[:38], "before its samples begin"),
        (riff(b"\0\0", claims=1 << 30), "cut off"),
        (riff(b"\0\0\0"), "no whole number"),
        (riff(b"\0\0", block=7), "cannot be"),
        (riff(b"\0\0", channels=0), "cannot be"),
        (riff(b"\0\0", rate=0), "cannot be"),
        (riff(b"\0\0", bits=12), "12 bits is not read"),
        (riff(b"\0\0", tag=2, bits=4), "encoding 2"),
        (riff(b"\0\0", tag=0xFFFE), "encoding 65534"),
        (riff(b"\0\0", before=b"LIST" + struct.pack("<I", 1 << 31)), "LIST"),
        (b"RIFF\0\0\0\0WAVEdata\2\0\0\0\0\0", "before it says what they are"),
        (b"RIFF\0\0\0\0WAVEfmt \2\0\0\0\1\0data\2\0\0\0\0\0", "of 2 bytes"),
    ],
)
def test_a_damaged_or_lying_file_is_refused(file: bytes, says: str) -> None:
    with pytest.raises(UndecodableInput, match=says):
        decode_wav(file, RATE, None)


def test_a_sound_without_a_sample_is_empty() -> None:
    with pytest.raises(EmptyInput):
        decode_wav(riff(b""), RATE, None)


def test_another_rate_is_refused() -> None:
    with pytest.raises(WrongSampleRate, match="8000 Hz where 16000"):
        decode_wav(pcm(WAVE, 16, rate=8000), RATE, None)


def test_another_number_of_channels_is_refused() -> None:
    with pytest.raises(WrongShape, match="1 channels where 2"):
        decode_wav(pcm(WAVE, 16), RATE, 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_a_value_that_is_no_float32_number_is_refused(bad: float) -> None:
    with pytest.raises(NotFinite):
        decode_wav(riff(struct.pack("<d", bad), tag=3, bits=64), RATE, None)


@given(st.binary(max_size=80), st.integers(0, 60))
def test_whatever_bytes_come_only_our_own_errors_go(noise: bytes, keep: int) -> None:
    file = pcm(WAVE, 16)[:keep] + noise
    try:
        found = decode_wav(file, RATE, None)
    except InputError:
        return
    assert found.ndim == 1
    assert np.isfinite(found).all()
