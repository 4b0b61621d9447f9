"""What the recipe of garments measured, as it stands in `figures.json`. Shares are in percent."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

HERE = Path(__file__).resolve().parent


class ThresholdFigures(Struct, frozen=True):
    """What the edge half would get right at one threshold of the answer, on tune scenes."""

    threshold: float
    tune_right_percent: float


class HalfFigures(Struct, frozen=True):
    """One half of the package: its own localiser and apparel's classifier."""

    seed: int
    epochs: int
    cpu_seconds: float
    parameters: int
    """Of the localiser."""
    file_bytes: int
    held_right_percent: float
    test_right_percent: float
    """Found where it is and named right; of an empty scene, nothing found."""
    test_placed_percent: float
    """The same, whatever it was called."""
    test_empty_right_percent: float
    """Of empty scenes alone."""
    classifier_sha256: str


class SplitFigures(Struct, frozen=True):
    """Scenes of one part: which they are."""

    seed: int
    scenes: int
    empty: int
    sha256: str


class PairFigures(Struct, frozen=True):
    """Both halves and the threshold of `decision.json` together."""

    test_escalated_percent: float
    test_right_percent: float
    test_harm_percent: float


class GarmentFigures(Struct, frozen=True):
    """All of the task."""

    task: str
    data_sha256: str
    """Of the file the tiles come from."""
    tune: SplitFigures
    calibrate: SplitFigures
    test: SplitFigures
    answer_thresholds: tuple[ThresholdFigures, ...]
    """The package's threshold is the best of them."""
    edge: HalfFigures
    cloud: HalfFigures
    cascade: PairFigures
    versions: dict[str, str]


def read_figures() -> GarmentFigures:
    """The published figures."""
    return msgspec.json.decode((HERE / "figures.json").read_bytes(), type=GarmentFigures)
