"""`longstop-models explore`: would another stage pay."""

import argparse
from pathlib import Path

from models.commands import limits, samples
from models.commands.saying import print_json, tell

WHAT = "Try a middle stage, a second model on the device or a score per class, in numbers."


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("package", type=Path, metavar="PACKAGE", help="package folder, both halves")
    samples.add(parser)
    parser.add_argument(
        "--middle", type=Path, metavar="FILE", help="ONNX file between the two, for the gateway"
    )
    parser.add_argument(
        "--second", type=Path, metavar="FILE", help="second ONNX file for the device"
    )
    parser.add_argument(
        "--middle-cost",
        type=float,
        default=0.1,
        help="of one run, as a share of an escalation (default: 0.1)",
    )
    parser.add_argument(
        "--second-cost",
        type=float,
        default=0.02,
        help="of one run, as a share of an escalation (default: 0.02)",
    )
    parser.add_argument(
        "--promise", choices=("excess", "harm", "teacher"), help="default: the certificate's"
    )
    parser.add_argument("--eps", type=float, help="default: the certificate's")
    parser.add_argument("--delta", type=float, help="default: the certificate's")
    parser.add_argument(
        "--allow-custom", action="store_true", help="run the package's own Python code"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the splits (default: 0)")


def wrong_usage(given: argparse.Namespace) -> str | None:
    """Why the arguments make no sense."""
    return limits.first(
        (
            limits.share("--eps", given.eps),
            limits.share("--delta", given.delta),
            limits.not_negative("--middle-cost", given.middle_cost),
            limits.not_negative("--second-cost", given.second_cost),
            limits.not_negative("--seed", given.seed),
        )
    )


def run(given: argparse.Namespace) -> None:
    from models.evaluate.explore import to_text
    from models.judging.exploring import ExploreOptions, explore_package

    exploration = explore_package(
        ExploreOptions(
            folder=given.package,
            data=samples.source(given),
            middle=given.middle,
            second=given.second,
            middle_cost=given.middle_cost,
            second_cost=given.second_cost,
            promise=given.promise,
            eps=given.eps,
            delta=given.delta,
            seed=given.seed,
            allow_custom=given.allow_custom,
        ),
        tell=tell,
    )
    if given.json:
        print_json(exploration)
    else:
        print(to_text(exploration), end="")
