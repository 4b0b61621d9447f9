"""`longstop-models build`: a package from a recipe, or from the zoo."""

import argparse
from pathlib import Path

from msgspec import Struct

from models.commands import limits
from models.commands.saying import print_json

WHAT = "Build a package as a new folder, from a recipe or the zoo."


class Built(Struct, frozen=True):
    """What `--json` prints."""

    folder: str


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe.toml, or a task of the zoo")
    parser.add_argument("--version", help="version the package will carry (default: the recipe's)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")


def wrong_usage(given: argparse.Namespace) -> str | None:
    """Why the arguments make no sense."""
    return limits.version(given.version)


def run(given: argparse.Namespace) -> None:
    if given.recipe.endswith(".toml"):
        from models.build import build
        from models.recipe import read_recipe

        found = read_recipe(Path(given.recipe))
        folder = build(found.parts, given.version or found.version, given.out)
    else:
        from models.zoo.packages import build_zoo

        folder = build_zoo(given.recipe, given.version or "1", given.out)
    if given.json:
        print_json(Built(str(folder)))
    else:
        print(f"{folder}")
