"""`longstop-models quantize`: a float ONNX file as INT8, and what that costs and brings here."""

import argparse
from pathlib import Path

from models.commands.saying import print_json, tell

WHAT = "Turn a float ONNX file into static INT8 and measure both on this machine."


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="float ONNX file")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="NPZ", help="prepared inputs of the model, .npz"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write")
    parser.add_argument(
        "--method",
        choices=("minmax", "entropy", "percentile"),
        default="minmax",
        help="how ranges of activations are found (default: minmax)",
    )
    parser.add_argument(
        "--percentile", type=float, default=99.99, help="for --method percentile (default: 99.99)"
    )
    parser.add_argument(
        "--keep", nargs="+", default=(), metavar="LAYER", help="layers that stay in FP32"
    )
    parser.add_argument(
        "--sensitivity", action="store_true", help="measure every layer and keep the worst in FP32"
    )
    parser.add_argument(
        "--target",
        type=float,
        default=0.995,
        help="with --sensitivity: share of labels that must agree with FP32 (default: 0.995)",
    )
    parser.add_argument(
        "--reduce-range", action="store_true", help="7-bit weights, for processors without VNNI"
    )
    parser.add_argument(
        "--same-grid", type=Path, metavar="BASE", help="INT8 file of the model this was tuned from"
    )
    parser.add_argument(
        "--labels", action="store_true", help="the .npz holds true classes `y`: measure accuracy"
    )


def run(given: argparse.Namespace) -> None:
    from models.quantize.options import QuantizeOptions, Settings
    from models.quantize.report import to_text
    from models.quantize.run import quantize
    from models.quantize.samples import read_samples

    samples = read_samples(given.data, given.model, labelled=given.labels)
    comparison = quantize(
        QuantizeOptions(
            model=given.model,
            out=given.out,
            calibration=samples.calibration,
            evaluation=samples.evaluation,
            labels=samples.labels,
            settings=Settings(
                method=given.method,
                percentile=given.percentile,
                keep=tuple(given.keep),
                reduce_range=given.reduce_range,
            ),
            sensitivity=given.sensitivity,
            target=given.target,
            same_grid=given.same_grid,
        ),
        tell=tell,
    )
    if given.json:
        print_json(comparison)
    else:
        print(to_text(comparison))
