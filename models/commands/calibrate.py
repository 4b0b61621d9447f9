"""`longstop-models calibrate`: a promise with a number on it."""

import argparse
from pathlib import Path

from models.commands import limits, samples
from models.commands.saying import print_json, tell

WHAT = "Put a certificate into a package: the threshold that keeps a promise on your data."


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("package", type=Path, metavar="PACKAGE", help="package folder, both halves")
    samples.add(parser)
    parser.add_argument(
        "--promise",
        choices=("excess", "harm", "teacher", "selective"),
        required=True,
        help="what stays at or below eps (docs/explanation/promises.md)",
    )
    parser.add_argument("--eps", type=float, required=True, help="the bound, as in 0.01 for 1 %%")
    parser.add_argument(
        "--delta",
        type=float,
        default=0.1,
        help="share of calibrations that may break it (default: 0.1)",
    )
    parser.add_argument(
        "--guarantee",
        choices=("high-probability", "marginal"),
        default="high-probability",
        help="kept in all but delta of calibrations, or only on average over them",
    )
    parser.add_argument(
        "--score",
        choices=("top", "margin"),
        help="what inputs are sorted by (default: the better one on the tuning samples)",
    )
    parser.add_argument(
        "--count",
        choices=("groups", "rows"),
        default="groups",
        help="what n counts; rows only if those of a group are no more alike than strangers",
    )
    parser.add_argument(
        "--tune", type=Path, metavar="PATH", help="tuning samples of their own (same columns)"
    )
    parser.add_argument(
        "--tune-share",
        type=float,
        default=0.3,
        help="share of the data that tunes, where --tune is not given (default: 0.3)",
    )
    parser.add_argument(
        "--trained-on",
        type=Path,
        nargs="+",
        default=(),
        metavar="PATH",
        help="training samples: calibration samples found among them are refused",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="new folder (default: change the package in place)"
    )
    parser.add_argument("--version", help="version the package will carry from now on")
    parser.add_argument(
        "--edition",
        metavar="NAME",
        help="only this edition; with --runtime a new one may be named (default: every one)",
    )
    parser.add_argument(
        "--runtime", help="what the edge half runs on, as in openvino (default: the model's own)"
    )
    parser.add_argument("--provider", default="cpu", help="cpu, cuda, … (default: cpu)")
    parser.add_argument(
        "--precision", choices=("f32", "bf16", "f16"), default="f32", help="default: f32"
    )
    parser.add_argument(
        "--allow-custom", action="store_true", help="run the package's own Python code"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the split (default: 0)")


def wrong_usage(given: argparse.Namespace) -> str | None:
    """Why the arguments make no sense."""
    return limits.first(
        (
            limits.share("--eps", given.eps),
            limits.share("--delta", given.delta),
            limits.share("--tune-share", given.tune_share),
            limits.not_negative("--seed", given.seed),
            limits.version(given.version),
            limits.name("--edition", given.edition),
        )
    )


def run(given: argparse.Namespace) -> None:
    from models.describe import certificate_text
    from models.judging.calibrating import CalibrateOptions, calibrate
    from models.runtimes.wish import Runs

    made = calibrate(
        CalibrateOptions(
            folder=given.package,
            data=samples.source(given),
            promise=given.promise,
            eps=given.eps,
            delta=given.delta,
            guarantee=given.guarantee,
            score=given.score,
            counting=given.count,
            tune=given.tune,
            tune_share=given.tune_share,
            trained_on=tuple(given.trained_on),
            out=given.out,
            version=given.version,
            seed=given.seed,
            allow_custom=given.allow_custom,
            edition=given.edition,
            on=Runs(given.runtime, given.provider, given.precision),
        ),
        tell=tell,
    )
    if given.json:
        print_json(made)
        return
    print(f"{made.folder}, version {made.version}, certificate {made.certificate.id}")
    print(certificate_text(made.certificate))
    for one in made.made[1:]:
        print(f"Edition {one.edition}, certificate {one.certificate.id}")
        print(certificate_text(one.certificate))
    for why in made.left:
        print(f"Left as it was: edition {why}")
