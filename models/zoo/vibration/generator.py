"""Makes vibration of ball bearings, healthy and damaged, from the physics that textbooks agree on.

No real machine was measured. What holds by construction:

1. A damaged race or ball is struck at the rate geometry and shaft speed give (`bearing.rates`).
   Balls slip, so each interval is off by about `SLIP` of its length and the error adds up.
2. Every strike rings two modes of the machine: a decaying sine at its resonance and a weaker one
   below it (McFadden and Smith 1984; Randall and Antoni 2011).
3. A damaged outer race lies in the load zone and is struck alike each time; damage on the inner
   race turns through the zone with the shaft, damage on a ball with the cage, and strikes are
   strong only inside it (Stribeck's load distribution, exponent 1.5).
4. Beside that there are the shaft's harmonics, gear mesh with side bands, knocks from the process,
   white and red noise; the sensor on its mount is a resonator, and its counts are int16.
5. A machine keeps its bearing, speed, resonances, gear and noise. All windows of a machine are in
   one part of the data. The same seed, machine and conditions give the same windows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.zoo.vibration.bearing import Bearing, rates

Counts = npt.NDArray[np.int16]
Numbers = npt.NDArray[np.float64]

STATES = ("healthy", "unbalance", "outer race", "inner race", "ball")
RATE_HZ = 12_800
LENGTH = 2048
COUNTS_PER_G = 1600
SLIP = 0.015
"""Of an interval between strikes: one standard deviation. Randall and Antoni name 1 to 2 %."""
USUAL_C = 40.0

_SEED_OF_MACHINES = 11
_RING = 224
"""Samples after which a strike has died away: 17 ms."""
_SENSOR_HZ, _SENSOR_Q = 9_500.0, 6.0
_CHUNK = 64
# Balls, ball and pitch diameter in mm, contact angle in degrees: deep groove balls as catalogues
# list them (sizes 6203 to 6207, 6305 and two relatives).
_BEARINGS = (
    Bearing(8, 6.75, 28.5, 0.0),
    Bearing(8, 7.94, 33.5, 0.0),
    Bearing(9, 7.94, 39.04, 0.0),
    Bearing(9, 9.53, 46.0, 0.0),
    Bearing(9, 11.11, 53.5, 0.0),
    Bearing(7, 10.32, 43.5, 0.0),
    Bearing(8, 8.73, 36.5, 10.0),
    Bearing(9, 8.4, 42.0, 12.0),
)


@dataclass(frozen=True)
class Conditions:
    """How a machine runs and is measured; every field is a knob to make a drift with.

    Load, speed, noise and temperature move within limits in everyday work. A gain that falls or a
    mount that comes loose (`mounting` below 1) is a fault of the measurement, not of the bearing.
    """

    speed: float = 1.0
    """Factor on the shaft's speed; all rates follow."""
    load: float = 1.0
    """Factor on the load: strikes grow with it, the zone widens, the motor slows a little."""
    noise: float = 1.0
    """Factor on noise and knocks."""
    gain: float = 1.0
    """Factor on the sensor's counts."""
    mounting: float = 1.0
    """Factor on the resonance of the sensor on its mount; it damps what lies above."""
    temperature_c: float = USUAL_C
    """Thinner oil: 1 % more noise and 0.05 % lower resonances for each degree above 40."""
    severity: float = 1.0
    """Factor on the size of the damage."""


@dataclass(frozen=True)
class Machine:
    """What stays the same on one machine."""

    number: int
    bearing: Bearing
    shaft_hz: float
    resonance_hz: float
    damping: float
    lower_hz: float
    lower_share: float
    teeth: int
    mesh_g: float
    shaft_g: float
    noise_g: float
    redness: float
    zone: float
    """Half the share of the circumference that carries, 0.3 (loose) to 0.5."""
    strike_g: float


USUAL = Conditions()


def machine(number: int, *, seed: int) -> Machine:
    """The machine of that number."""
    chance = np.random.default_rng([seed, _SEED_OF_MACHINES, number])
    listed = _BEARINGS[int(chance.integers(len(_BEARINGS)))]
    return Machine(
        number=number,
        bearing=replace(listed, ball_mm=listed.ball_mm * float(chance.normal(1, 0.01))),
        shaft_hz=float(chance.uniform(24.1, 24.9)),
        resonance_hz=float(chance.uniform(2_200, 4_600)),
        damping=float(chance.uniform(0.025, 0.06)),
        lower_hz=float(chance.uniform(700, 1_600)),
        lower_share=float(chance.uniform(0.1, 0.4)),
        teeth=int(chance.integers(17, 43)),
        mesh_g=float(chance.lognormal(-2.6, 0.5)),
        shaft_g=float(chance.lognormal(-3.0, 0.4)),
        noise_g=float(chance.lognormal(-2.1, 0.25)),
        redness=float(chance.uniform(0.2, 0.7)),
        zone=float(chance.uniform(0.33, 0.5)),
        strike_g=float(chance.lognormal(0.6, 0.15)),
    )


def windows(
    of: Machine, state: str, count: int, *, seed: int, conditions: Conditions = USUAL
) -> Counts:
    """int16 [count, 2048]: windows of one state, each begun at another turn of the shaft.

    Load, temperature and size of the damage vary between windows around what `conditions` say.

    Raises:
        ValueError: an unknown state, no windows, or a knob that is not positive.
    """
    _check(state, count, conditions)
    chance = np.random.default_rng([seed, of.number, STATES.index(state), count])
    chunks = [
        _chunk(chance, of, state, min(_CHUNK, count - start), conditions)
        for start in range(0, count, _CHUNK)
    ]
    return np.concatenate(chunks)


def _check(state: str, count: int, conditions: Conditions) -> None:
    if state not in STATES:
        raise ValueError(f"state {state!r} is unknown; choose one of {', '.join(STATES)}")
    if count < 1:
        raise ValueError(f"count must be 1 or more, not {count}")
    for name in ("speed", "load", "noise", "gain", "mounting", "severity"):
        if not getattr(conditions, name) > 0:
            raise ValueError(f"{name} is a factor above 0, not {getattr(conditions, name)}")


def _chunk(
    chance: np.random.Generator, of: Machine, state: str, count: int, conditions: Conditions
) -> Counts:
    load = conditions.load * chance.uniform(0.7, 1.15, count)
    warm = conditions.temperature_c - USUAL_C + chance.normal(0, 3, count)
    # An induction motor slows by some percent from no load to full load.
    shaft_hz = of.shaft_hz * conditions.speed * (1 + 0.012 * (1 - load))
    shaft_turn = chance.uniform(0, 2 * np.pi, count)
    stiffness = 1 - 0.0005 * warm
    noise = of.noise_g * conditions.noise * (1 + 0.01 * warm) * chance.lognormal(0, 0.15, count)

    signal = _shaft(chance, of, state, shaft_hz, shaft_turn, conditions.severity)
    signal += _mesh(chance, of, shaft_hz, load)
    signal += _noise(chance, of, noise)
    signal += _knocks(chance, of, noise, stiffness)
    if state in ("outer race", "inner race", "ball"):
        size = conditions.severity * load**0.7 * of.strike_g * chance.lognormal(-0.05, 0.3, count)
        times, strikes = _strikes(chance, of, state, shaft_hz, shaft_turn, load)
        signal += _ringing(of, times, strikes * size[:, None], stiffness)
    measured = _sensed(signal, conditions.mounting) * (COUNTS_PER_G * conditions.gain)
    return np.clip(np.rint(measured), -32_768, 32_767).astype(np.int16)


def _seconds() -> Numbers:
    return np.arange(LENGTH) / RATE_HZ


def _shaft(
    chance: np.random.Generator,
    of: Machine,
    state: str,
    shaft_hz: Numbers,
    turn: Numbers,
    severity: float,
) -> Numbers:
    """Once per turn from unbalance, twice from misalignment, little above; g."""
    count = len(shaft_hz)
    first = of.shaft_g * chance.lognormal(0, 0.3, count) * (shaft_hz / of.shaft_hz) ** 2
    if state == "unbalance":
        # A residual mass pulls with the square of the speed: F = m r w^2.
        first *= 1 + severity * chance.lognormal(1.8, 0.3, count)
    angle = 2 * np.pi * shaft_hz[:, None] * _seconds() + turn[:, None]
    second = of.shaft_g * 0.5 * chance.lognormal(0, 0.3, count)
    third = of.shaft_g * 0.2 * chance.lognormal(0, 0.3, count)
    phases = chance.uniform(0, 2 * np.pi, (2, count, 1))
    waves: Numbers = (
        first[:, None] * np.sin(angle)
        + second[:, None] * np.sin(2 * angle + phases[0])
        + third[:, None] * np.sin(3 * angle + phases[1])
    )
    return waves


def _mesh(chance: np.random.Generator, of: Machine, shaft_hz: Numbers, load: Numbers) -> Numbers:
    """Two harmonics of the gear mesh, modulated by the shaft: side bands a shaft rate apart; g."""
    count = len(shaft_hz)
    angle = 2 * np.pi * shaft_hz[:, None] * _seconds()
    phases = chance.uniform(0, 2 * np.pi, (3, count, 1))
    swell = 1 + 0.25 * np.cos(angle + phases[0])
    level = (of.mesh_g * load * chance.lognormal(0, 0.2, count))[:, None]
    waves = np.sin(of.teeth * angle + phases[1]) + 0.4 * np.sin(2 * of.teeth * angle + phases[2])
    made: Numbers = level * swell * waves
    return made


def _noise(chance: np.random.Generator, of: Machine, level: Numbers) -> Numbers:
    """White noise and, for the flow and the structure, red noise; g."""
    white = chance.standard_normal((2, len(level), LENGTH))
    pole = 0.9
    spectrum = np.fft.rfft(white[1], axis=1)
    turn = np.exp(-2j * np.pi * np.arange(spectrum.shape[1]) / LENGTH)
    red = np.fft.irfft(spectrum * np.sqrt(1 - pole**2) / (1 - pole * turn), LENGTH, axis=1)
    made: Numbers = level[:, None] * ((1 - of.redness) * white[0] + of.redness * red)
    return made


def _knocks(
    chance: np.random.Generator, of: Machine, level: Numbers, stiffness: Numbers
) -> Numbers:
    """Knocks without a rhythm that every machine hears; about two in a window."""
    times = chance.uniform(-0.01, LENGTH / RATE_HZ, (len(level), 5))
    sizes = 6.0 * level[:, None] * chance.lognormal(0, 0.4, times.shape)
    return _ringing(of, times, sizes * (chance.random(times.shape) < 0.4), stiffness)


def _strikes(
    chance: np.random.Generator,
    of: Machine,
    state: str,
    shaft_hz: Numbers,
    turn: Numbers,
    load: Numbers,
) -> tuple[Numbers, Numbers]:
    """When the damage is struck, in seconds, and how hard, 1 in the middle of the load zone."""
    per_turn = rates(of.bearing)
    orders = {"outer race": per_turn.outer, "inner race": per_turn.inner, "ball": 2 * per_turn.ball}
    gap = 1 / (shaft_hz * orders[state])
    lead = _RING / RATE_HZ
    most = int(np.ceil((LENGTH / RATE_HZ + lead) / gap.min())) + 3
    steps = gap[:, None] * (1 + SLIP * chance.standard_normal((len(gap), most)))
    times = steps.cumsum(axis=1) - lead - gap[:, None] * chance.uniform(0, 1, (len(gap), 1))
    hard = 1 + 0.12 * chance.standard_normal(times.shape)
    if state == "inner race":
        hard *= in_zone(2 * np.pi * shaft_hz[:, None] * times + turn[:, None], of.zone, load)
    if state == "ball":
        cage = 2 * np.pi * per_turn.cage * shaft_hz[:, None] * times
        hard *= in_zone(cage + chance.uniform(0, 2 * np.pi, (len(gap), 1)), of.zone, load)
        # One blow on each race per turn of the ball; the inner one travels further to the sensor.
        hard[:, ::2] *= 0.75
    return times, np.maximum(hard, 0)


def in_zone(angle: Numbers, zone: float, load: Numbers) -> Numbers:
    """Stribeck's share of the load at an angle [n, k] from the zone's middle, for loads [n].

    (1 - (1 - cos angle) / (2 e))^1.5 inside the zone and 0 outside, e half the zone's share of the
    diameter (Harris, Rolling Bearing Analysis, chapter on load distribution); a tenth reaches the
    sensor from anywhere, since a ball never quite leaves the races.
    """
    share = np.clip(zone * (0.8 + 0.2 * load), 0.05, 1.0)[:, None]
    inside = np.maximum(0, 1 - (1 - np.cos(angle)) / (2 * share))
    carried: Numbers = 0.1 + 0.9 * inside**1.5
    return carried


def _ringing(of: Machine, times: Numbers, strikes: Numbers, stiffness: Numbers) -> Numbers:
    """Every strike rings both modes; [n, 2048] in g."""
    count = len(times)
    first = np.ceil(times * RATE_HZ).astype(np.int64)
    late = first[:, :, None] / RATE_HZ - times[:, :, None] + np.arange(_RING) / RATE_HZ
    rung = np.zeros_like(late)
    for hz, share in ((of.resonance_hz, 1.0), (of.lower_hz, of.lower_share)):
        pulse = 2 * np.pi * hz * stiffness[:, None, None]
        damped = pulse * np.sqrt(1 - of.damping**2)
        rung += share * np.exp(-of.damping * pulse * late) * np.sin(damped * late)
    rung *= strikes[:, :, None]
    # A margin on both sides takes what rings before the window begins and after it ends.
    wide = LENGTH + 2 * _RING
    at = first[:, :, None] + np.arange(_RING) + _RING
    kept = (at >= 0) & (at < wide)
    row = np.broadcast_to(np.arange(count)[:, None, None] * wide, at.shape)
    summed: Numbers = np.bincount(
        (at + row)[kept], weights=rung[kept], minlength=count * wide
    ).astype(np.float64)
    ringing: Numbers = summed.reshape(count, wide)[:, _RING : _RING + LENGTH]
    return ringing


def _sensed(signal: Numbers, mounting: float) -> Numbers:
    """What the sensor passes on: a resonator on its mount, flat far below its resonance."""
    hz = np.fft.rfftfreq(LENGTH, 1 / RATE_HZ) / (_SENSOR_HZ * mounting)
    transfer = 1 / (1 - hz**2 + 1j * hz / _SENSOR_Q)
    passed: Numbers = np.fft.irfft(np.fft.rfft(signal, axis=1) * transfer, LENGTH, axis=1)
    return passed
