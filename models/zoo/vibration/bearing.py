"""How often a damaged part of a ball bearing is struck, from geometry alone.

The classical kinematics of pure rolling (Randall and Antoni 2011, "Rolling element bearing
diagnostics: a tutorial", Mechanical Systems and Signal Processing 25(2), 485 to 520; Harris,
"Rolling Bearing Analysis"): with n balls of diameter d on a pitch circle D and contact angle phi,
outer ring still and shaft turning once,

    cage   1/2 (1 - d/D cos phi)            outer   n/2 (1 - d/D cos phi)
    ball   D/(2d) (1 - (d/D cos phi)^2)     inner   n/2 (1 + d/D cos phi)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Bearing:
    """Geometry of one row of balls."""

    balls: int
    ball_mm: float
    pitch_mm: float
    contact_degrees: float


class Rates(NamedTuple):
    """Events in one turn of the shaft; times the shaft's speed in Hz they are rates in Hz."""

    cage: float
    """FTF: turns of the cage."""
    outer: float
    """BPFO: balls passing a point of the outer race."""
    inner: float
    """BPFI: balls passing a point of the inner race."""
    ball: float
    """BSF: turns of a ball; damage on it meets a race twice as often."""


def rates(bearing: Bearing) -> Rates:
    """The four rates of a bearing whose outer ring stands still."""
    ratio = bearing.ball_mm / bearing.pitch_mm * math.cos(math.radians(bearing.contact_degrees))
    return Rates(
        cage=(1 - ratio) / 2,
        outer=bearing.balls * (1 - ratio) / 2,
        inner=bearing.balls * (1 + ratio) / 2,
        ball=bearing.pitch_mm / (2 * bearing.ball_mm) * (1 - ratio**2),
    )
