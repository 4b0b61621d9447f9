"""What `quantize` tells: one value for scripts, the same as lines for a person."""

from msgspec import Struct

from models.quantize.compare import FileRow, RuntimeRow
from models.quantize.sensitivity import Sensitivity

_SHOWN_LAYERS = 12


class Grid(Struct, frozen=True):
    """How a fine-tune fits its base's grid."""

    base: str
    weights: int
    changed: int
    """Weights whose code differs from the base's."""
    clipped: int
    """Weights beyond the grid's last code."""


class Comparison(Struct, frozen=True):
    """What one run of `quantize` made and measured."""

    model: str
    out: str
    sha256: str
    """Of the INT8 file."""
    method: str
    """`minmax`, `entropy`, `percentile`, or `same grid`."""
    per_channel: bool
    reduce_range: bool
    calibration_n: int
    evaluation_n: int
    held_out: bool
    """Whether the comparison used other samples than the ranges were taken from."""
    kept: tuple[str, ...]
    """Layers left in FP32."""
    files: tuple[FileRow, ...]
    runs: tuple[RuntimeRow, ...]
    skipped: tuple[str, ...]
    sensitivity: Sensitivity | None
    grid: Grid | None
    advice: str


def to_text(comparison: Comparison) -> str:
    """The comparison as lines for a terminal."""
    lines = [f"{comparison.model} -> {comparison.out}", f"  {_how(comparison)}"]
    if comparison.grid is not None:
        lines.append(f"  {_grid(comparison.grid)}")
    if comparison.kept:
        lines.append(f"  left in FP32: {', '.join(comparison.kept)}")
    if comparison.sensitivity is not None:
        lines += ["", *_layers(comparison.sensitivity)]
    where = "samples that calibration did not see" if comparison.held_out else "calibration samples"
    lines += [
        "",
        f"Quality on {comparison.evaluation_n:,} {where}",
        (
            f"  {'':<6}{'bytes':>11}{'accuracy':>10}{'agreement':>11}{'rank corr.':>12}"
            f"{'conf. shift':>13}{'rel. error':>12}"
        ),
    ]
    lines += [
        f"  {row.precision:<6}{row.size:>11,}{_percent(row.accuracy):>10}"
        f"{_percent(row.agreement):>11}{_number(row.rank_correlation):>12}"
        f"{_number(row.confidence_shift):>13}{_number(row.relative_error):>12}"
        for row in comparison.files
    ]
    lines += ["", "One sample on this machine, one thread"]
    lines += [
        f"  {row.precision:<6}{row.runtime:<10}{row.provider:<6}{row.median_us:>10.1f} us"
        f"   x{row.ratio:.2f}   agreement {_percent(row.agreement)}"
        for row in comparison.runs
    ]
    lines += [f"  skipped {each}" for each in comparison.skipped]
    return "\n".join([*lines, "", comparison.advice])


def _how(comparison: Comparison) -> str:
    if comparison.grid is not None:
        return f"INT8 on the grid of {comparison.grid.base}"
    scales = "per channel" if comparison.per_channel else "per tensor"
    bits = ", 7-bit weights" if comparison.reduce_range else ""
    return (
        f"INT8, {comparison.method} over {comparison.calibration_n:,} samples, "
        f"weights {scales}{bits}"
    )


def _grid(grid: Grid) -> str:
    share = grid.changed / max(1, grid.weights)
    return (
        f"{grid.changed:,} of {grid.weights:,} weights have another code ({100 * share:.2f} %), "
        f"{grid.clipped:,} are clipped"
    )


def _layers(found: Sensitivity) -> list[str]:
    wide = max([len(row.layer) for row in found.layers[:_SHOWN_LAYERS]], default=5) + 2
    lines = ["Layers, each alone in INT8, the worst first"]
    lines.append(
        f"  {'layer':<{wide}}{'kind':<15}{'loss':>9}{'agreement':>11}{'conf. shift':>13}"
        f"{'accuracy':>10}"
    )
    lines += [
        f"  {row.layer:<{wide}}{row.kind:<15}{row.loss:>9.5f}{_percent(row.agreement):>11}"
        f"{_number(row.confidence_shift):>13}{_percent(row.accuracy):>10}"
        for row in found.layers[:_SHOWN_LAYERS]
    ]
    if len(found.layers) > _SHOWN_LAYERS:
        lines.append(f"  and {len(found.layers) - _SHOWN_LAYERS} that lose less")
    verdict = "met" if found.met else "not met: no layer left to keep brings it there"
    lines.append(
        f"  target {100 * found.target:g} % of labels, reached {100 * found.reached:.2f} %: "
        f"{verdict}"
    )
    return lines


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5f}"
