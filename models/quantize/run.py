"""`longstop-models quantize`: one float file in, one INT8 file and a comparison out."""

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from onnx import ModelProto

from models.quantize.advice import advice
from models.quantize.compare import Candidate, check_labels, compare, outputs_of
from models.quantize.feeds import ENOUGH, LEAST, Feeds, fit
from models.quantize.observe import ranges_of
from models.quantize.onnx_static import matching, static, write
from models.quantize.options import Array, QuantizeOptions
from models.quantize.prepare import copied_bytes, prepared
from models.quantize.reading import read, read_float, size_with_data
from models.quantize.report import Comparison, Grid
from models.quantize.samegrid import on_base_grid
from models.quantize.sensitivity import Sensitivity, sweep
from models.quantize.strip import stripped
from models.quantize.widen import is_half
from models.targets import refuse_unwritable

Tell = Callable[[str], None]


class _Made(NamedTuple):
    model: ModelProto
    kept: tuple[str, ...]
    sensitivity: Sensitivity | None
    grid: Grid | None


def quantize(options: QuantizeOptions, *, tell: Tell) -> Comparison:
    """Write `options.out` and compare it with the float file; `tell` is given progress.

    Raises `QuantizeError` for what cannot be quantised as asked, `TargetUnwritable`,
    `RuntimeFailed`. Nothing is written then.
    """
    refuse_unwritable(options.out)
    model = read_float(options.model)
    if is_half(read(options.model)):
        tell(f"{options.model.name} is float16: widened to float32, and so is what it takes")
    ready = prepared(model)
    copies = copied_bytes(ready)
    if copies:
        tell(f"weights used more than once become copies: {copies:,} bytes before quantising")
    # On a base's grid the ranges are the base's: then these samples only compare.
    calibration = fit(ready, options.calibration, least=1 if options.same_grid else LEAST)
    evaluation = fit(ready, options.evaluation, least=1) if options.evaluation else calibration
    if options.same_grid is None and calibration.n < ENOUGH:
        tell(f"{calibration.n} calibration samples are few; {ENOUGH} to 1,000 are usual")
    with tempfile.TemporaryDirectory(prefix="longstop-quantize.") as folder:
        # A copy that runs by itself: float32, and with its external data inside.
        whole = Path(folder) / "fp32.onnx"
        write(model, whole)
        reference = outputs_of(whole, options.runtimes[0], evaluation)
        if options.labels is not None:
            check_labels(options.labels, reference)
        if options.same_grid is not None:
            made = _on_base(options.same_grid, ready, tell)
        else:
            made = _free(options, ready, calibration, evaluation, reference, Path(folder), tell)
        small = Path(folder) / "int8.onnx"
        write(made.model, small)
        candidates = (
            Candidate("FP32", whole, options.model.name, size_with_data(options.model)),
            Candidate("INT8", small, options.out.name, small.stat().st_size),
        )
        table = compare(
            candidates,
            evaluation,
            options.labels,
            runtimes=options.runtimes,
            seconds=options.seconds,
            tell=tell,
        )
    write(made.model, options.out)
    return Comparison(
        model=options.model.name,
        out=str(options.out),
        sha256=hashlib.sha256(options.out.read_bytes()).hexdigest(),
        method="same grid" if made.grid else options.settings.method,
        per_channel=options.settings.per_channel,
        reduce_range=options.settings.reduce_range,
        calibration_n=calibration.n,
        evaluation_n=evaluation.n,
        held_out=bool(options.evaluation),
        kept=made.kept,
        files=table.files,
        runs=table.runs,
        skipped=table.skipped,
        sensitivity=made.sensitivity,
        grid=made.grid,
        advice=advice(table, options.target),
    )


def _on_base(base: Path, ready: ModelProto, tell: Tell) -> _Made:
    placed = on_base_grid(read(base), ready)
    share = 100 * placed.changed / max(1, placed.weights)
    tell(f"{share:.2f} % of the weights have another code than in {base.name}")
    grid = Grid(base.name, placed.weights, placed.changed, placed.clipped)
    return _Made(placed.model, (), None, grid)


def _free(
    options: QuantizeOptions,
    ready: ModelProto,
    calibration: Feeds,
    evaluation: Feeds,
    reference: Array,
    folder: Path,
    tell: Tell,
) -> _Made:
    settings = options.settings
    kept = matching(ready, settings.keep)
    tell(f"taking ranges from {calibration.n:,} samples, {settings.method}")
    ranges = ranges_of(ready, calibration, settings)

    def build(left: Sequence[str]) -> ModelProto:
        return static(ready, ranges, settings, left)

    def outputs(model: ModelProto) -> Array:
        trial = folder / "trial.onnx"
        write(model, trial)
        return outputs_of(trial, options.runtimes[0], evaluation)

    found = None
    if options.sensitivity:
        found = sweep(
            ready,
            kept,
            build=build,
            outputs=outputs,
            reference=reference,
            labels=options.labels,
            target=options.target,
            tell=tell,
        )
        kept = found.kept
    return _Made(stripped(build(kept)), kept, found, None)
