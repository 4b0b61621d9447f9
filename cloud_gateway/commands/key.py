"""`longstop-gateway key`: the key that signs packages."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from cloud_gateway.commands.saying import print_json
from cloud_gateway.commands.verbs import admin_verb, data_folder, group

if TYPE_CHECKING:
    from cloud_gateway.commands.verbs import Verbs


class _Key(Struct, frozen=True):
    private: str
    public: str


def arguments(verbs: "Verbs") -> None:
    key = group(verbs, "key", "The key that signs packages")
    init = admin_verb(key, "init", _init, "Make the signing key and have this gateway trust it")
    init.add_argument(
        "--private",
        type=Path,
        metavar="FILE",
        help="where the private half is kept (~/.config/longstop/publisher.key)",
    )


def _init(options: argparse.Namespace) -> None:
    from cloud_gateway.admin import default_key, make_key

    private = options.private or default_key()
    public = make_key(data_folder(options), private)
    if options.json:
        print_json(_Key(str(private), public))
    else:
        print(f"signing key {private}\npublic key  {public}")
