"""The signal half of `./just bench preparation`: steps against the same numpy written by hand.

By hand is what somebody writes who knows numpy: a sliding view, one product with a ready window,
one transform of all frames. The floor is the part nobody can leave out, on frames that are ready;
the control is a loop over frames, which must come out slower, or the clock is not worth reading.
A round counts the quickest of its calls: others' load on the machine only ever adds.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from numpy.lib.stride_tricks import sliding_window_view

from models.pipeline.compute import series, sound
from models.pipeline.kinds import Kind
from models.pipeline.ops.series import SlidingWindow
from models.pipeline.ops.sound import Frames, LogMel, Mfcc, Spectrum, Step
from tests.bench.measure import interleaved, median
from tests.bench.setting import misplaced

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.floating]
Call = Callable[[], Numbers]
_CALLS = 20


class SignalRow(Struct, frozen=True, tag_field="of", tag="signal"):
    """One step. Times are medians over rounds, ratios to by hand medians within a round."""

    step: str
    input: str
    rounds: int
    step_us: float
    by_hand_us: float
    ratio: float
    """What is judged: at most 1.15."""
    floor_ratio: float
    control_ratio: float


class _Task(NamedTuple):
    step: str
    input: str
    ours: Call
    by_hand: Call
    floor: Call
    control: Call


def signal_rows(rounds: int, seed: int) -> list[SignalRow]:
    """Every task, measured in turns. Raises `AssertionError` when two ways disagree."""
    return [_row(task, rounds) for task in _tasks(np.random.default_rng(seed))]


def signal_doubts(rows: Sequence[SignalRow]) -> list[str]:
    """Rows whose ratio does not lie between its floor and its control."""
    return [
        doubt
        for row in rows
        for doubt in misplaced(row.step, row.floor_ratio, row.ratio, row.control_ratio)
    ]


def _row(task: _Task, rounds: int) -> SignalRow:
    expected = task.by_hand()
    for way in (task.ours, task.control):
        assert np.allclose(way(), expected, rtol=1e-3, atol=1e-3), task.step
    ways = [_timed(way) for way in (task.ours, task.by_hand, task.floor, task.control)]
    ours, by_hand, floor, control = interleaved(rounds, ways)

    def ratio(took: list[float]) -> float:
        return median([one / hand for one, hand in zip(took, by_hand, strict=True)], 3)

    return SignalRow(
        step=task.step,
        input=task.input,
        rounds=rounds,
        step_us=median(ours),
        by_hand_us=median(by_hand),
        ratio=ratio(ours),
        floor_ratio=ratio(floor),
        control_ratio=ratio(control),
    )


def _timed(call: Call) -> Callable[[], float]:
    def took_us() -> float:
        took = []
        for _ in range(_CALLS):
            began = time.perf_counter_ns()
            call()
            took.append(time.perf_counter_ns() - began)
        return min(took) / 1000

    return took_us


def _tasks(rng: np.random.Generator) -> list[_Task]:
    second = rng.normal(0, 0.1, 16_000).astype(np.float32)
    shake = rng.normal(0, 1.0, 24_000).astype(np.float32)
    motion = rng.normal(0, 1.0, (1024, 6)).astype(np.float32)
    speech, machine = "1 s at 16 kHz", "2 s at 12 kHz"
    return [
        _slide(motion),
        _frames(second, speech),
        _spectrum(second, speech, n_fft=512, stride=160, frame=400),
        _spectrum(shake, machine, n_fft=2048, stride=1024, frame=2048),
        _log_mel(second, speech),
        _mfcc(second, speech),
    ]


def _slide(motion: Floats) -> _Task:
    """Windows as a model takes them: in memory of their own."""
    slide = series.compile_step(SlidingWindow(128, 64), Kind("float32", motion.shape))
    ready = slide(motion)
    return _Task(
        "sliding_window",
        "1024 x 6",
        lambda: slide(motion).copy(),
        lambda: sliding_window_view(motion, 128, axis=0)[::64].transpose(0, 2, 1).copy(),
        ready.copy,
        lambda: np.array([motion[at : at + 128].tolist() for at in range(0, 897, 64)], np.float32),
    )


def _frames(sample: Floats, named: str) -> _Task:
    cut = _compiled(Frames(400, 160), sample)
    by = sound.window("hann", 400)
    ready = sliding_window_view(sample, 400)[::160]
    return _Task(
        "frames, window",
        named,
        lambda: cut(sample) * by,
        lambda: sliding_window_view(sample, 400)[::160] * by,
        lambda: ready * by,
        lambda: np.stack([frame * by for frame in ready]),
    )


def _spectrum(sample: Floats, named: str, *, n_fft: int, stride: int, frame: int) -> _Task:
    step = Spectrum("power", n_fft, stride, frame)
    ours = _compiled(step, sample)
    by = sound.window("hann", frame)
    ready = sliding_window_view(sample, frame)[::stride] * by

    def by_hand() -> Numbers:
        waves = np.fft.rfft(sliding_window_view(sample, frame)[::stride] * by, n_fft)
        return waves.real**2 + waves.imag**2

    def one_by_one() -> Numbers:
        bins = n_fft // 2 + 1
        cut = (sample[at : at + frame] for at in range(0, len(sample) - frame + 1, stride))
        return np.stack([np.abs(np.fft.fft(one * by, n_fft))[:bins] ** 2 for one in cut])

    return _Task(
        f"spectrum {n_fft}",
        named,
        lambda: ours(sample),
        by_hand,
        lambda: np.fft.rfft(ready, n_fft).real,
        one_by_one,
    )


def _log_mel(sample: Floats, named: str) -> _Task:
    step = LogMel(16_000, 512, 160, 40, frame=400)
    ours = _compiled(step, sample)
    by, bank = sound.window("hann", 400), sound.filter_bank(step)
    ready = sliding_window_view(sample, 400)[::160] * by
    return _Task(
        "log_mel",
        named,
        lambda: ours(sample),
        lambda: _mel_by_hand(sample, by, bank),
        lambda: np.fft.rfft(ready, 512).real,
        lambda: np.stack([_mel_by_hand(one, by, bank)[0] for one in _frames_of(sample)]),
    )


def _mfcc(sample: Floats, named: str) -> _Task:
    step = Mfcc(16_000, 512, 160, 40, 13, frame=400)
    ours = _compiled(step, sample)
    by, bank, table = sound.window("hann", 400), sound.filter_bank(step), sound.cosines(40, 13)
    ready = sliding_window_view(sample, 400)[::160] * by
    return _Task(
        "mfcc",
        named,
        lambda: ours(sample),
        lambda: _mel_by_hand(sample, by, bank) @ table,
        lambda: np.fft.rfft(ready, 512).real,
        lambda: np.stack([_mel_by_hand(one, by, bank)[0] @ table for one in _frames_of(sample)]),
    )


def _mel_by_hand(sample: Floats, by: Floats, bank: Floats) -> Numbers:
    waves = np.fft.rfft(sliding_window_view(sample, 400)[::160] * by, 512)
    bands: Numbers = (waves.real**2 + waves.imag**2) @ bank
    return np.log(np.maximum(bands, np.float32(1e-10)))


def _compiled(step: Step, sample: Floats) -> Callable[[Floats], Floats]:
    made: Callable[..., Floats] = sound.compile_step(step, Kind("float32", sample.shape))
    return made


def _frames_of(sample: Floats) -> list[Floats]:
    return list(sliding_window_view(sample, 400)[::160])
