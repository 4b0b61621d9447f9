"""Steps on sound: what they declare, and that they compute what their formulas say."""

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from scipy import fft, signal

from models.errors import EmptyInput, WrongShape
from models.pipeline.compute.sound import compile_step, cosines, filter_bank, window
from models.pipeline.kinds import Kind
from models.pipeline.ops.sound import (
    DecodeWav,
    FitLength,
    Frames,
    LogMel,
    Mfcc,
    Resample,
    Spectrum,
    Step,
    Window,
    WindowKind,
    after,
    mel,
    mel_edges,
)

Floats = npt.NDArray[np.float32]
SECOND = np.random.default_rng(3).normal(0, 0.1, 16_000).astype(np.float32)
SOUND = Kind("float32", (16_000,))
UNKNOWN = Kind("float32", (None,))
SPEECH = LogMel(16_000, 512, 160, 40, low_hz=20.0, frame=400)


def run(step: Step, sample: Floats, kind: Kind | None = None) -> Floats:
    """The step's result, which must be what the step declared."""
    kind = Kind("float32", sample.shape) if kind is None else kind
    declared = after(step, kind)
    found: Floats = compile_step(step, kind)(sample)  # type: ignore[arg-type]
    sides = declared.shape if not declared.many else (None, *declared.shape)
    assert found.dtype == np.float32
    assert len(found.shape) == len(sides)
    assert all(side in (None, has) for side, has in zip(sides, found.shape, strict=True))
    return found


def tone(hz: float, rate: int) -> Floats:
    return np.sin(2 * np.pi * hz * np.arange(rate) / rate).astype(np.float32)


# Kinds.


@pytest.mark.parametrize(
    ("step", "kind", "expected"),
    [
        (DecodeWav(16_000), Kind("bytes", ()), UNKNOWN),
        (DecodeWav(16_000, False, 2), Kind("bytes", ()), Kind("float32", (2, None))),
        (Resample(44_100, 16_000), Kind("float32", (44_100,)), SOUND),
        (Resample(3, 2), Kind("float64", (2, 4)), Kind("float32", (2, 3))),
        (Resample(3, 2), UNKNOWN, UNKNOWN),
        (FitLength(16_000), UNKNOWN, SOUND),
        (Frames(400, 160), SOUND, Kind("float32", (98, 400))),
        (Frames(400, 160), UNKNOWN, Kind("float32", (400,), many=True)),
        (Frames(4, 4), Kind("float32", (8,), many=True), Kind("float32", (2, 4), many=True)),
        (Window("hann"), Kind("float16", (98, 400)), Kind("float32", (98, 400))),
        (Spectrum("power", 512), Kind("float32", (400,), many=True), Kind("float32", (257,), True)),
        (Spectrum("power", 512, 160, 400), SOUND, Kind("float32", (98, 257))),
        (Spectrum("power", 512, 160), UNKNOWN, Kind("float32", (None, 257))),
        (SPEECH, SOUND, Kind("float32", (98, 40))),
        (Mfcc(16_000, 512, 160, 40, 13), SOUND, Kind("float32", (97, 13))),
    ],
)
def test_a_step_declares_what_it_gives(step: Step, kind: Kind, expected: Kind) -> None:
    assert after(step, kind) == expected


@pytest.mark.parametrize(
    ("step", "kind", "says"),
    [
        (DecodeWav(16_000), SOUND, "bytes of a file"),
        (DecodeWav(16_000, False), Kind("bytes", ()), "how many channels"),
        (DecodeWav(16_000, True, 2), Kind("bytes", ()), "how many channels"),
        (Resample(16_000, 8000), Kind("int16", (10,)), "cast first"),
        (Resample(16_000, 8000), Kind("float32", ()), "time axis"),
        (Resample(44_101, 16_000), UNKNOWN, "44101"),
        (FitLength(4, pad=float("nan")), SOUND, "not finite"),
        (Frames(400, 160), Kind("float32", (399,)), "fit_length"),
        (Frames(400, 160), Kind("float32", (2, None)), "known length"),
        (Frames(400, 160), Kind("float32", (None,), many=True), "known length"),
        (Window("hann"), UNKNOWN, "known length"),
        (Spectrum("power", 512), UNKNOWN, "give a stride"),
        (Spectrum("power", 512), Kind("float32", (513,)), "give a stride"),
        (Spectrum("power", 512, frame=400), Kind("float32", (400,)), "needs a stride"),
        (Spectrum("power", 512, 160, 513), SOUND, "does not fit"),
        (Spectrum("power", 512, 160), Kind("float32", (100,)), "hold no frame"),
        (LogMel(16_000, 512, 160, 40, high_hz=8001.0), SOUND, "half the rate"),
        (LogMel(16_000, 512, 160, 40, low_hz=8000.0), SOUND, "half the rate"),
        (LogMel(16_000, 512, 160, 200), SOUND, "between two bins"),
        (Mfcc(16_000, 512, 160, 20, 21), SOUND, "have no 21"),
    ],
)
def test_a_step_that_cannot_follow_says_why(step: Step, kind: Kind, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        after(step, kind)


def test_a_step_reads_as_it_is_written() -> None:
    text = (
        b'{"op":"log_mel","rate_hz":16000,"n_fft":512,"stride":160,"mels":40,"low_hz":20,'
        b'"frame":400}'
    )
    assert msgspec.json.decode(text, type=Step) == SPEECH
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text.replace(b"mels", b"melts"), type=Step)


# Resampling.


@pytest.mark.parametrize(
    ("from_hz", "to_hz"), [(48_000, 16_000), (44_100, 16_000), (8000, 16_000), (16_000, 44_100)]
)
@pytest.mark.parametrize("length", [1, 7, 4001])
def test_resampling_is_scipy_s_polyphase(from_hz: int, to_hz: int, length: int) -> None:
    sample = SECOND[:length]
    expected = signal.resample_poly(sample.astype(np.float64), to_hz, from_hz)
    found = run(Resample(from_hz, to_hz), sample)
    assert found == pytest.approx(expected, abs=1e-6)


def test_channels_are_resampled_alone() -> None:
    both = np.stack([SECOND[:4000], SECOND[4000:8000]])
    found = run(Resample(16_000, 6000), both)
    assert np.array_equal(found[1], run(Resample(16_000, 6000), both[1]))


def test_what_the_new_rate_cannot_hold_is_gone_and_the_rest_stays() -> None:
    inner = slice(200, -200)  # at its ends a sound begins and stops, which is no tone
    heard = run(Resample(48_000, 16_000), tone(3000, 48_000))[inner]
    assert np.abs(heard - tone(3000, 16_000)[inner]).max() < 0.005
    above = run(Resample(48_000, 16_000), tone(11_000, 48_000))[inner]
    assert 20 * np.log10(np.abs(above).max()) < -50


def test_the_same_rate_changes_nothing() -> None:
    assert np.array_equal(run(Resample(8000, 8000), SECOND), SECOND)


def test_no_sample_cannot_be_resampled() -> None:
    with pytest.raises(EmptyInput):
        run(Resample(2, 1), SECOND[:0], UNKNOWN)


# Length and frames.


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (FitLength(2), [1, 2]),
        (FitLength(2, "centre"), [2, 3]),
        (FitLength(4), [1, 2, 3, 4]),
        (FitLength(6, pad=-1.0), [1, 2, 3, 4, -1, -1]),
        (FitLength(7, "centre"), [0, 1, 2, 3, 4, 0, 0]),
    ],
)
def test_a_length_is_cut_or_filled_up(step: Step, expected: list[float]) -> None:
    assert run(step, np.array([1, 2, 3, 4], np.float32), UNKNOWN).tolist() == expected


def test_silence_takes_the_place_of_no_sample() -> None:
    assert run(FitLength(3), SECOND[:0], UNKNOWN).tolist() == [0, 0, 0]


def test_frames_overlap_and_a_rest_is_left_out() -> None:
    found = run(Frames(3, 2), np.arange(8, dtype=np.float32))
    assert found.tolist() == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]


def test_frames_share_samples_and_so_cannot_be_written() -> None:
    found = run(Frames(3, 2), np.arange(8, dtype=np.float32), UNKNOWN)
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0] = 1


@pytest.mark.parametrize("step", [Frames(400, 160), SPEECH, Spectrum("power", 512, 160)])
def test_a_sound_shorter_than_a_frame_is_refused(step: Step) -> None:
    with pytest.raises(WrongShape, match="shorter than one frame"):
        run(step, SECOND[:399], UNKNOWN)


# Windows and spectra.


@pytest.mark.parametrize("name", ["hann", "hamming", "blackman"])
@pytest.mark.parametrize("length", [1, 25, 400])
def test_windows_are_the_periodic_ones(name: WindowKind, length: int) -> None:
    if length > 1:
        assert window(name, length) == pytest.approx(signal.get_window(name, length), abs=1e-7)
    assert np.array_equal(
        run(Window(name), np.ones((2, length), np.float32))[1], window(name, length)
    )


def test_a_tone_stands_in_its_own_bin() -> None:
    found = run(Spectrum("magnitude", 400, 160), tone(1000, 16_000))
    assert found.argmax(axis=1).tolist() == [25] * 98
    assert found[:, 25] == pytest.approx(100.0, rel=1e-4)  # half the sum of the window


def test_a_step_of_frames_a_window_and_a_spectrum_is_the_spectrum_with_a_stride() -> None:
    steps: list[Step] = [Frames(400, 160), Window("hann"), Spectrum("power", 512)]
    value, kind = SECOND, SOUND
    for step in steps:
        value, kind = run(step, value, kind), after(step, kind)
    assert np.array_equal(value, run(Spectrum("power", 512, 160, 400), SECOND))


def test_kinds_of_spectrum_agree_with_the_definition() -> None:
    frame = SECOND[:64]
    waves = np.fft.rfft(frame.astype(np.float64))
    for kind, expected in [
        ("magnitude", np.abs(waves)),
        ("power", np.abs(waves) ** 2),
        ("log_power", np.log(np.abs(waves) ** 2)),
    ]:
        found = run(msgspec.convert({"op": "spectrum", "kind": kind, "n_fft": 64}, Step), frame)
        assert found == pytest.approx(expected, rel=2e-4, abs=1e-5)


def test_silence_has_a_finite_logarithm() -> None:
    nothing = np.zeros(16_000, np.float32)
    for step in (Spectrum("log_power", 512, 160), SPEECH):
        assert run(step, nothing) == pytest.approx(np.log(1e-10))


def test_many_sounds_at_once_are_each_alone() -> None:
    many = np.stack([SECOND[:800], SECOND[800:1600], SECOND[1600:2400]])
    kind = Kind("float32", (800,), many=True)
    for step in (SPEECH, Mfcc(16_000, 512, 160, 40, 13), Spectrum("power", 512, 160), Frames(4, 2)):
        found = run(step, many, kind)
        assert found[1] == pytest.approx(run(step, many[1]), abs=1e-5)


# Mel.


def test_the_mel_scale_has_its_known_points() -> None:
    assert mel(0) == 0
    assert mel(1000) == pytest.approx(999.99, abs=0.01)
    assert mel(8000) == pytest.approx(2840.02, abs=0.01)


def test_bands_are_triangles_between_edges_even_in_mel() -> None:
    edges = mel_edges(SPEECH)
    assert [edges[0], edges[-1]] == pytest.approx([20.0, 8000.0])
    assert np.ptp(np.diff([mel(hz) for hz in edges])) < 1e-9
    bank = filter_bank(SPEECH)
    for at, band in ((0, 3), (7, 9), (200, 38), (256, 39)):
        hz, (left, top, right) = at * 31.25, edges[band : band + 3]
        expected = max(0.0, min((hz - left) / (top - left), (right - hz) / (right - top)))
        assert bank[at, band] == pytest.approx(expected, abs=1e-6)
    assert (bank.max(axis=0) > 0).all()


def test_log_mel_is_the_logarithm_of_power_in_bands() -> None:
    frames = np.lib.stride_tricks.sliding_window_view(SECOND, 400)[::160]
    waves = np.fft.rfft(frames * signal.get_window("hann", 400), 512)
    expected = np.log(np.abs(waves) ** 2 @ filter_bank(SPEECH).astype(np.float64))
    assert run(SPEECH, SECOND) == pytest.approx(expected, abs=1e-4)


def test_mfcc_is_the_orthonormal_cosine_transform_of_log_mel() -> None:
    step = Mfcc(16_000, 512, 160, 40, 13, low_hz=20.0, frame=400)
    expected = fft.dct(run(SPEECH, SECOND).astype(np.float64), type=2, norm="ortho")[:, :13]
    assert run(step, SECOND) == pytest.approx(expected, abs=1e-4)
    assert cosines(40, 40).T @ cosines(40, 40) == pytest.approx(np.eye(40), abs=1e-6)
