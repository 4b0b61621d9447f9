"""How the gateway's commands answer: for a person, or with --json for a program."""

import argparse
from datetime import UTC, datetime

import msgspec
from msgspec import Struct


class Done(Struct, frozen=True):
    """What --json prints where there is nothing to show."""

    done: str


def say_done(options: argparse.Namespace, text: str) -> None:
    """That it was done, in words."""
    if options.json:
        print_json(Done(text))
    else:
        print(text)


def print_json(value: Struct) -> None:
    """One object on one line."""
    print(msgspec.json.encode(value).decode(), flush=True)


def moment(at: float) -> str:
    """Seconds since 1970 as people write them."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
