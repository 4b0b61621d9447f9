"""`longstop-models`: from a model file to a package with a promise, and what it is worth.

Exit codes: 0 done, 1 refused (the reason and its code on stderr), 2 wrong usage, 130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from msgspec import Struct

from models.commands import batch, build, calibrate, evaluate, explore, inspect, quantize, verify
from models.commands.saying import print_json
from models.errors import ModelsError
from sync.errors import SyncError
from sync.usage import Check, Parser, parsed

COMMANDS: dict[str, ModuleType] = {
    "build": build,
    "inspect": inspect,
    "verify": verify,
    "quantize": quantize,
    "calibrate": calibrate,
    "evaluate": evaluate,
    "explore": explore,
    "batch": batch,
}
"""In the order of a package's life. Each has `WHAT`, `arguments`, `run`, and may have
`wrong_usage`, which says why arguments do not go together."""


class Failure(Struct, frozen=True):
    """What `--json` prints instead when a command refuses."""

    code: str
    message: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    given = parsed(_parser(), arguments, check=_wrong_usage)
    try:
        code = _perform(COMMANDS[given.verb], given)
        sys.stdout.flush()  # here, where a reader that left can still be answered for
    except BrokenPipeError:
        # Whoever read our output has seen enough; nothing more can be said to them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _wrong_usage(given: argparse.Namespace) -> str | None:
    check: Check | None = getattr(COMMANDS[given.verb], "wrong_usage", None)
    return None if check is None else check(given)


def _perform(command: ModuleType, given: argparse.Namespace) -> int:
    try:
        command.run(given)
    except (ModelsError, SyncError) as error:
        print(f"longstop-models: {error.code}: {error}", file=sys.stderr)
        if given.json:
            print_json(Failure(error.code, str(error)))
        return 1
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="longstop-models",
        description="Make model packages, give them a promise, judge them and use them.",
        epilog="exit codes: 0 done, 1 refused, 2 wrong usage, 130 interrupted",
    )
    names = ",".join(COMMANDS)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar=f"{{{names}}}")
    for name, command in COMMANDS.items():
        verb = verbs.add_parser(name, help=command.WHAT, description=command.WHAT)
        verb.add_argument("--json", action="store_true", help="print one JSON object")
        command.arguments(verb)
    return parser


if __name__ == "__main__":
    sys.exit(main())
