"""`longstop-models inspect`: what a package folder or archive holds."""

import argparse
from pathlib import Path

from models.commands.opening import opened
from models.commands.saying import print_json, shown

WHAT = "Show what a package folder or archive holds."


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, metavar="PATH", help="package folder or archive")


def run(given: argparse.Namespace) -> None:
    from models.describe import describe, to_text

    with opened(given.path) as (folder, manifest):
        description = describe(folder, manifest)
    if given.json:
        print_json(description)
    else:
        print(shown(to_text(description)))
