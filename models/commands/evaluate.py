"""`longstop-models evaluate`: a report one would put in front of one's boss."""

import argparse
from pathlib import Path

from models.commands import limits, samples
from models.commands.saying import print_json, tell

WHAT = "Judge a package on data with known truth: one HTML page, and the same as JSON."


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("package", type=Path, metavar="PACKAGE", help="package folder, both halves")
    samples.add(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="PAGE",
        help="HTML page to write, with a .json beside it (default: print text alone)",
    )
    parser.add_argument(
        "--calibration", type=Path, metavar="PATH", help="what the certificate was made from"
    )
    parser.add_argument(
        "--edition", default="main", metavar="NAME", help="which edition to judge (default: main)"
    )
    parser.add_argument("--fp32", type=Path, metavar="FILE", help="edge model before INT8")
    parser.add_argument(
        "--link",
        type=float,
        nargs=3,
        metavar=("P50", "P95", "P99"),
        help="round trip to the cloud in ms, as percentiles",
    )
    parser.add_argument("--deadline-ms", type=float, help="within which callers want an answer")
    parser.add_argument("--price-per-call", type=float, default=0.0, help="of one escalation")
    parser.add_argument("--price-per-megabyte", type=float, default=0.0, help="of what is sent")
    parser.add_argument("--currency", default="EUR", help="of both (default: EUR)")
    parser.add_argument(
        "--resamples", type=int, default=1000, help="of the violation audit (default: 1000)"
    )
    parser.add_argument(
        "--allow-custom", action="store_true", help="run the package's own Python code"
    )
    parser.add_argument("--seed", type=int, default=0, help="of every draw (default: 0)")


def wrong_usage(given: argparse.Namespace) -> str | None:
    """Why the arguments make no sense."""
    if given.out is not None and given.out.suffix == ".json":
        return f"--out {given.out} is the page, as in report.html; the JSON is written beside it"
    return limits.first(
        (
            limits.positive("--deadline-ms", given.deadline_ms),
            limits.not_negative("--price-per-call", given.price_per_call),
            limits.not_negative("--price-per-megabyte", given.price_per_megabyte),
            limits.not_negative("--resamples", given.resamples),
            limits.not_negative("--seed", given.seed),
        )
    )


def run(given: argparse.Namespace) -> None:
    from models.evaluate.inputs import Link, Prices
    from models.evaluate.text import to_text
    from models.judging.evaluating import Circumstances, evaluate_package, write_page
    from models.targets import refuse_unwritable

    if given.out is not None:
        refuse_unwritable(given.out)
    evaluation = evaluate_package(
        given.package,
        samples.source(given),
        calibration=None if given.calibration is None else samples.source(given, given.calibration),
        circumstances=Circumstances(
            fp32=given.fp32,
            link=None if given.link is None else Link(*given.link),
            deadline_ms=given.deadline_ms,
            prices=Prices(
                currency=given.currency,
                per_call=given.price_per_call,
                per_megabyte=given.price_per_megabyte,
            ),
            resamples=given.resamples,
            seed=given.seed,
            allow_custom=given.allow_custom,
            edition=given.edition,
        ),
        tell=tell,
    )
    if given.out is not None:
        write_page(evaluation, given.out)
        tell(f"wrote {given.out} and {given.out.with_suffix('.json')}")
    if given.json:
        print_json(evaluation)
    else:
        print(to_text(evaluation))
