"""How a noun of `longstop-gateway` declares its verbs, and what all verbs have in common."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cloud_gateway.settings import PREFIX, Settings

if TYPE_CHECKING:
    from cloud_gateway.admin import Admin

    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]

Run = Callable[[argparse.Namespace], None]


def group(verbs: "Verbs", name: str, says: str) -> "Verbs":
    """A noun that verbs stand under."""
    noun = verbs.add_parser(name, help=says, description=says)
    return noun.add_subparsers(required=True)


def verb(verbs: "Verbs", name: str, run: Run, says: str) -> argparse.ArgumentParser:
    """A verb of this gateway's folder."""
    parser = verbs.add_parser(name, help=says, description=says)
    parser.set_defaults(run=run)
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="the gateway's folder (LONGSTOP_GATEWAY_DATA, else ./longstop-gateway)",
    )
    parser.add_argument("--json", action="store_true", help="answer in one JSON object")
    return parser


def admin_verb(verbs: "Verbs", name: str, run: Run, says: str) -> argparse.ArgumentParser:
    """A verb that asks a gateway that runs, this folder's or another."""
    parser = verb(verbs, name, run, says)
    parser.add_argument("--gateway", metavar="URL", help="another gateway than the folder's own")
    parser.add_argument(
        "--admin-token", type=Path, metavar="FILE", help="its token (DIR/admin.token)"
    )
    return parser


def data_folder(options: argparse.Namespace) -> Path:
    """The gateway's folder."""
    given: Path | None = options.data
    return given or Path(os.environ.get(f"{PREFIX}DATA", "") or Settings().data)


class admin_of:  # noqa: N801 - reads as the function it stands for
    """The admin client of these options, closed after use."""

    def __init__(self, options: argparse.Namespace) -> None:
        from cloud_gateway.admin import open_admin

        self._admin = open_admin(data_folder(options), options.gateway, options.admin_token)

    def __enter__(self) -> "Admin":
        return self._admin

    def __exit__(self, *error: object) -> None:
        self._admin.close()
