"""`longstop-sim`: whole fleets on virtual time.

Exit status: 0 every invariant held; 1 one was broken (the command that replays it is printed); 2
wrong usage; 130 ended by Ctrl-C.
"""

import argparse
import os
import signal
import sys
import time

import msgspec

from sim import report, scenario, world


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="longstop-sim", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    says = "run a scenario and check its invariants"
    run = verbs.add_parser("run", help=says, description=says)
    run.add_argument("scenario", help=f"one of {', '.join(scenario.shipped())}, or a TOML file")
    run.add_argument("--seed", type=int, default=1, help="everything random follows from it (1)")
    run.add_argument("--devices", type=int, help="instead of the scenario's own number")
    run.add_argument("--hours", type=float, help="instead of the scenario's own length")
    run.add_argument("--json", action="store_true", help="print the result as one JSON object")
    says = "list the scenarios that ship"
    ls = verbs.add_parser("ls", help=says, description=says)
    ls.add_argument("--json", action="store_true", help="print a JSON list")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    arguments = _parser().parse_args(argv)
    # Like Ctrl-C, so that the databases of the run are removed all the same.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _perform(arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough; nothing more can be said to them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _perform(arguments: argparse.Namespace) -> int:
    if arguments.verb == "ls":
        return _list(json=arguments.json)
    try:
        chosen = scenario.changed(
            scenario.load(arguments.scenario), devices=arguments.devices, hours=arguments.hours
        )
    except scenario.ScenarioError as error:
        print(f"longstop-sim: {error.code}: {error}", file=sys.stderr)
        return 2
    began = time.monotonic()
    result = world.run(chosen, seed=arguments.seed, progress=None if arguments.json else _progress)
    if arguments.json:
        print(msgspec.json.encode(result).decode())
    else:
        print(report.text(result))
        print(f"  took      {time.monotonic() - began:.1f} s")
    return 0 if result.broken is None else 1


def _list(*, json: bool) -> int:
    scenarios = [scenario.load(name) for name in scenario.shipped()]
    if json:
        print(msgspec.json.encode(scenarios).decode())
    else:
        for one in scenarios:
            print(f"{one.name:12} {one.says}")
    return 0


def _progress(virtual_s: float, requests: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{virtual_s / 3600:5.1f} h  {requests:,} requests", end="", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
