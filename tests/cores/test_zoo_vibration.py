"""The vibration generator: strikes come at the rates of textbooks, and each knob does its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from models.zoo.vibration.bearing import Bearing, rates
from models.zoo.vibration.generator import (
    LENGTH,
    RATE_HZ,
    STATES,
    USUAL,
    Conditions,
    Counts,
    Machine,
    in_zone,
    machine,
    windows,
)

Numbers = npt.NDArray[np.float64]
SEED = 3
QUIET = Conditions(noise=0.05, severity=2.0)


def quiet(number: int) -> Machine:
    """A machine that turns at one speed and has no gear, so that only strikes are heard."""
    return replace(machine(number, seed=SEED), mesh_g=1e-6, shaft_g=1e-6)


def envelope_spectrum(counts: Counts) -> Numbers:
    """Mean power of the squared signal's spectrum [bins], a bin RATE_HZ / LENGTH wide."""
    energy = np.square(counts.astype(np.float64))
    energy -= energy.mean(axis=1, keepdims=True)
    mean: Numbers = np.square(np.abs(np.fft.rfft(energy * np.hanning(LENGTH), axis=1))).mean(axis=0)
    return mean


def peak_hz(counts: Counts, low: float, high: float) -> float:
    """The strongest rate between two limits."""
    spectrum = envelope_spectrum(counts)
    hz = np.fft.rfftfreq(LENGTH, 1 / RATE_HZ)
    inside = np.flatnonzero((hz >= low) & (hz <= high))
    return float(hz[inside[spectrum[inside].argmax()]])


def rms(counts: Counts) -> float:
    return float(np.sqrt(np.square(counts.astype(np.float64)).mean()))


def test_rates_are_those_of_a_known_bearing() -> None:
    # SKF 6205-2RS JEM as the Case Western bearing data centre lists it, in shaft turns.
    known = rates(Bearing(balls=9, ball_mm=7.94, pitch_mm=39.04, contact_degrees=0.0))
    assert known.inner == pytest.approx(5.4152, abs=0.005)
    assert known.outer == pytest.approx(3.5848, abs=0.005)
    assert known.cage == pytest.approx(0.39828, abs=0.0005)
    assert 2 * known.ball == pytest.approx(4.7135, abs=0.01)


def test_each_ball_passes_every_point_of_a_race_once_a_turn_of_the_cage() -> None:
    bearing = Bearing(balls=8, ball_mm=9.0, pitch_mm=40.0, contact_degrees=15.0)
    found = rates(bearing)
    assert found.outer == pytest.approx(bearing.balls * found.cage)
    assert found.inner + found.outer == pytest.approx(bearing.balls)


@pytest.mark.parametrize("number", range(4))
def test_a_damaged_outer_race_is_struck_at_its_rate(number: int) -> None:
    of = quiet(number)
    expected = rates(of.bearing).outer * of.shaft_hz
    heard = windows(of, "outer race", 64, seed=SEED, conditions=QUIET)
    assert peak_hz(heard, 40, 180) == pytest.approx(expected, abs=7)


@pytest.mark.parametrize("number", range(4))
def test_a_damaged_inner_race_is_struck_at_its_rate_and_turns_with_the_shaft(number: int) -> None:
    of = quiet(number)
    expected = rates(of.bearing).inner * of.shaft_hz
    heard = windows(of, "inner race", 64, seed=SEED, conditions=QUIET)
    assert peak_hz(heard, expected - 12, expected + 12) == pytest.approx(expected, abs=7)
    # The load zone comes by once a turn: side bands, and a line at the shaft's own rate.
    assert peak_hz(heard, 12, 40) == pytest.approx(of.shaft_hz, abs=7)


@pytest.mark.parametrize("number", range(4))
def test_a_damaged_ball_strikes_twice_a_turn_of_its_own_and_swells_with_the_cage(
    number: int,
) -> None:
    of = quiet(number)
    found = rates(of.bearing)
    heard = windows(of, "ball", 64, seed=SEED, conditions=QUIET)
    expected = 2 * found.ball * of.shaft_hz
    assert peak_hz(heard, expected - 9, expected + 9) == pytest.approx(expected, abs=7)
    slow = envelope_spectrum(heard)
    twice, once = (round(turns * found.ball * of.shaft_hz * LENGTH / RATE_HZ) for turns in (2, 1))
    assert slow[twice - 1 : twice + 2].max() > 2 * slow[once - 1 : once + 2].max()
    cage_bin = round(found.cage * of.shaft_hz / (RATE_HZ / LENGTH))
    assert slow[1 : cage_bin + 2].max() > 5 * np.median(slow[: LENGTH // 8])


def test_a_healthy_bearing_has_no_line_where_damage_would_be() -> None:
    of = quiet(0)
    struck = rates(of.bearing).outer * of.shaft_hz
    at = round(struck / (RATE_HZ / LENGTH))
    healthy, damaged = (
        envelope_spectrum(windows(of, state, 64, seed=SEED)) for state in ("healthy", "outer race")
    )
    around = slice(at - 8, at + 9)
    assert healthy[at] < 4 * np.median(healthy[around])
    assert damaged[at] > 20 * np.median(damaged[around])


def test_a_slip_in_the_intervals_blurs_the_high_harmonics_more_than_the_first() -> None:
    spectrum = envelope_spectrum(windows(quiet(1), "outer race", 64, seed=SEED, conditions=QUIET))
    struck = rates(quiet(1).bearing).outer * quiet(1).shaft_hz / (RATE_HZ / LENGTH)

    def sharpness(harmonic: int) -> float:
        at = round(harmonic * struck)
        return float(spectrum[at - 1 : at + 2].max() / np.median(spectrum[at - 6 : at + 7]))

    assert sharpness(1) > 3 * sharpness(7)


def test_unbalance_pulls_once_a_turn_with_the_square_of_the_speed() -> None:
    of = replace(machine(0, seed=SEED), mesh_g=1e-6)
    first = round(of.shaft_hz / (RATE_HZ / LENGTH))

    def line(state: str, conditions: Conditions, at: int) -> float:
        counts = windows(of, state, 64, seed=SEED, conditions=conditions).astype(np.float64)
        waves = np.abs(np.fft.rfft(counts * np.hanning(LENGTH), axis=1)).mean(axis=0)
        return float(waves[at - 1 : at + 2].max())

    assert line("unbalance", USUAL, first) > 3 * line("healthy", USUAL, first)
    faster = line("unbalance", replace(USUAL, speed=2.0), 2 * first)
    assert faster == pytest.approx(4 * line("unbalance", USUAL, first), rel=0.3)


def test_speed_moves_the_rate_of_strikes() -> None:
    of = quiet(2)
    expected = rates(of.bearing).outer * of.shaft_hz
    slower = windows(of, "outer race", 64, seed=SEED, conditions=replace(QUIET, speed=0.7))
    assert peak_hz(slower, 40, 180) == pytest.approx(0.7 * expected, abs=7)


def test_gain_and_noise_and_severity_change_the_level_they_name() -> None:
    of = quiet(0)
    usual = windows(of, "healthy", 64, seed=SEED)
    half = windows(of, "healthy", 64, seed=SEED, conditions=replace(USUAL, gain=0.5))
    loud = windows(of, "healthy", 64, seed=SEED, conditions=replace(USUAL, noise=3.0))
    assert rms(half) == pytest.approx(rms(usual) / 2, rel=0.02)
    assert rms(loud) == pytest.approx(3 * rms(usual), rel=0.05)
    small, great = (
        rms(windows(of, "ball", 64, seed=SEED, conditions=replace(USUAL, severity=by)))
        for by in (0.5, 3.0)
    )
    assert great > 2 * small


def test_load_makes_strikes_harder_and_the_motor_slower() -> None:
    of = quiet(3)
    light, heavy = (
        windows(of, "outer race", 64, seed=SEED, conditions=replace(QUIET, load=by))
        for by in (0.3, 1.5)
    )
    assert rms(heavy) > 2 * rms(light)


def test_a_loose_mount_damps_what_lies_above_its_resonance() -> None:
    of = quiet(0)

    def high_share(conditions: Conditions) -> float:
        counts = windows(of, "outer race", 64, seed=SEED, conditions=conditions).astype(np.float64)
        power = np.square(np.abs(np.fft.rfft(counts, axis=1))).sum(axis=0)
        return float(power[LENGTH // 3 :].sum() / power.sum())

    assert high_share(replace(USUAL, mounting=0.2)) < 0.3 * high_share(USUAL)


def test_heat_brings_more_noise_and_a_lower_resonance() -> None:
    of = quiet(0)
    hot = windows(of, "healthy", 64, seed=SEED, conditions=replace(USUAL, temperature_c=80.0))
    assert rms(hot) == pytest.approx(1.4 * rms(windows(of, "healthy", 64, seed=SEED)), rel=0.05)


def test_the_load_zone_carries_most_in_its_middle_and_nearly_nothing_behind() -> None:
    carried = in_zone(np.array([[0.0, 0.8, np.pi]]), 0.5, np.array([1.0]))
    assert carried[0, 0] == pytest.approx(1.0)
    assert carried[0, 0] > carried[0, 1] > carried[0, 2] == pytest.approx(0.1)


def test_the_same_seed_gives_the_same_windows_and_another_machine_gives_others() -> None:
    first = windows(machine(5, seed=SEED), "ball", 3, seed=SEED)
    assert first.shape == (3, LENGTH)
    assert first.dtype == np.int16
    assert np.array_equal(first, windows(machine(5, seed=SEED), "ball", 3, seed=SEED))
    assert not np.array_equal(first, windows(machine(6, seed=SEED), "ball", 3, seed=SEED))
    assert machine(5, seed=SEED).resonance_hz != machine(6, seed=SEED).resonance_hz


def test_an_overloaded_sensor_clips_and_never_wraps_round() -> None:
    loud = windows(
        machine(0, seed=SEED), "outer race", 4, seed=SEED, conditions=replace(USUAL, gain=400.0)
    )
    assert loud.max() == 32_767
    assert loud.min() == -32_768


def test_what_cannot_be_made_is_refused_by_name() -> None:
    of = machine(0, seed=SEED)
    with pytest.raises(ValueError, match=f"'rust' is unknown; choose one of {STATES[0]}"):
        windows(of, "rust", 1, seed=SEED)
    with pytest.raises(ValueError, match="count must be 1 or more"):
        windows(of, "ball", 0, seed=SEED)
    with pytest.raises(ValueError, match="mounting is a factor above 0, not 0"):
        windows(of, "ball", 1, seed=SEED, conditions=replace(USUAL, mounting=0.0))
