"""`longstop-gateway`: serve devices, and say who they are and what they run.

Exit codes: 0 done, 1 refused or failed (one line on stderr says why), 2 a command nobody knows.
With --json the answer is one JSON object on stdout, errors included.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from msgspec import Struct

from cloud_gateway import __doc__ as about
from cloud_gateway.commands import device, features, key, package, serve
from cloud_gateway.commands.saying import print_json
from cloud_gateway.errors import GatewayError
from models.errors import ModelsError
from sync.errors import SyncError
from sync.usage import Parser, parsed


class _Failed(Struct, frozen=True):
    """What --json prints for an error."""

    code: str
    message: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = parsed(_parser(), arguments)
    try:
        code = _perform(options)
        sys.stdout.flush()  # here, where a reader that left can still be answered for
    except BrokenPipeError:
        # Whoever read our output has seen enough; nothing more can be said to them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _perform(options: argparse.Namespace) -> int:
    run: Callable[[argparse.Namespace], None] = options.run
    try:
        run(options)
    except (GatewayError, ModelsError, SyncError) as error:
        print(f"longstop-gateway: {error.code}: {error}", file=sys.stderr)
        if options.json:
            print_json(_Failed(error.code, str(error)))
        return 1
    return 0


def _parser() -> Parser:
    parser = Parser("longstop-gateway", description=about)
    verbs = parser.add_subparsers(required=True)
    for noun in (serve, device, key, package, features):
        noun.arguments(verbs)
    return parser


if __name__ == "__main__":
    sys.exit(main())
