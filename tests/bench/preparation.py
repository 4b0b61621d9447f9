"""What declared preparation costs beside the same written by hand.

    ./just bench preparation [--full] [--json] [--seed N]

docs/reference/benchmarks.md explains every key. Exit codes: 0 measured, 1 a key is null, or floor
and control do not lie on their sides of a figure, so that the method is not to be believed, or with
--full a ratio is above its limit.
"""

import sys
from collections.abc import Sequence

import msgspec

from tests.bench.preparation_images import JUDGED, LIMIT, ImageRow, image_doubts, image_rows
from tests.bench.preparation_signals import SignalRow, signal_doubts, signal_rows
from tests.bench.setting import Setting, begin, end, note

SAYS = "What declared preparation costs beside the same written by hand."
QUICK, FULL = 20, 100


class PreparationFigures(Setting, frozen=True, kw_only=True):
    """The JSON object of `./just bench preparation`: ratios to by hand, at most 1.15 each."""

    image_ratio: float | None
    signal_ratio: float | None
    """Of the signal step that comes out worst."""
    floor_image_ratio: float | None
    floor_signal_ratio: float | None
    control_image_ratio: float | None
    control_signal_ratio: float | None
    rows: tuple[ImageRow | SignalRow, ...]
    why: dict[str, str]


def main(arguments: Sequence[str] | None = None) -> int:
    options, setting = begin("preparation", SAYS, arguments, also=("pillow",))
    rounds = QUICK if options.quick else FULL
    note("measuring image_ratio")
    images = image_rows(rounds, options.seed)
    note("measuring signal_ratio")
    signals = signal_rows(rounds, options.seed)
    figures = summed_up(setting, images, signals)
    doubts = [*image_doubts(images), *signal_doubts(signals), *too_dear(figures)]
    return end(figures, figures.why, doubts, json=options.json)


def summed_up(
    setting: Setting, images: Sequence[ImageRow], signals: Sequence[SignalRow]
) -> PreparationFigures:
    """The judged picture and the worst signal step; the rest stays in the rows."""
    picture = next(row for row in images if row.input == JUDGED)
    signal = max(signals, key=lambda row: row.ratio)
    return PreparationFigures(
        **msgspec.structs.asdict(setting),
        image_ratio=picture.ratio,
        signal_ratio=signal.ratio,
        floor_image_ratio=picture.floor_ratio,
        floor_signal_ratio=signal.floor_ratio,
        control_image_ratio=picture.control_ratio,
        control_signal_ratio=signal.control_ratio,
        rows=(*images, *signals),
        why={},
    )


def too_dear(figures: PreparationFigures) -> list[str]:
    """Ratios above the limit, of a full run."""
    ratios = (("image_ratio", figures.image_ratio), ("signal_ratio", figures.signal_ratio))
    return [
        f"{key} is {ratio}, {LIMIT} is allowed"
        for key, ratio in ratios
        if not figures.quick and ratio is not None and ratio > LIMIT
    ]


if __name__ == "__main__":
    sys.exit(main())
