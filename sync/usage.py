"""Command lines whose misuse a script can read: with `--json` it is an object on stdout, too.

A `Parser` raises where argparse would end the program, so that one place says what was wrong: usage
and reason on stderr, exit code 2, and `{"code": "wrong_usage", "message": ...}` where it was asked
for. Parsers of verbs are made by argparse in the class of their parent.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

CODE = "wrong_usage"
EXIT = 2
Check = Callable[[argparse.Namespace], str | None]
"""Says why arguments do not go together; None where they do."""


class Misused(Exception):
    """What is wrong with a command line, and whose usage helps."""

    def __init__(self, parser: argparse.ArgumentParser, why: str) -> None:
        super().__init__(why)
        self.parser = parser


class Parser(argparse.ArgumentParser):
    """Raises `Misused` instead of ending the program."""

    def error(self, message: str) -> NoReturn:
        raise Misused(self, message)


def parsed(
    parser: Parser, arguments: Sequence[str] | None, *, check: Check | None = None
) -> argparse.Namespace:
    """The arguments, None for the program's own. Ends the program with 2 where they are wrong."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        options = parser.parse_args(given)
        why = None if check is None else check(options)
        if why is not None:
            parser.error(why)
    except Misused as misused:
        misused.parser.print_usage(sys.stderr)
        print(f"{misused.parser.prog}: error: {misused}", file=sys.stderr)
        if "--json" in given:
            print(json.dumps({"code": CODE, "message": str(misused)}))
        sys.exit(EXIT)
    return options
