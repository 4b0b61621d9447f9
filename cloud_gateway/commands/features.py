"""`longstop-gateway features`: numbers by key, for packages that look them up."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cloud_gateway.commands.saying import moment, print_json, say_done
from cloud_gateway.commands.verbs import admin_of, admin_verb, group

if TYPE_CHECKING:
    from cloud_gateway.commands.verbs import Verbs


def arguments(verbs: "Verbs") -> None:
    features = group(verbs, "features", "Numbers by key, for packages that look them up")
    feed = admin_verb(features, "put", _put, "Add rows to a table, or replace those there")
    feed.add_argument("table", metavar="TABLE", help="as packages name their source")
    feed.add_argument("file", type=Path, metavar="FILE.csv", help="its first line names columns")
    feed.add_argument("--key", metavar="COLUMN", help="what rows are found by (the first column)")
    feed.add_argument(
        "--updated", metavar="COLUMN", help="seconds since 1970 at which a row was true (now)"
    )
    admin_verb(features, "list", _list, "List tables")
    gone = admin_verb(features, "remove", _remove, "Remove a table and all its rows")
    gone.add_argument("table", metavar="TABLE")


def _put(options: argparse.Namespace) -> None:
    from cloud_gateway.features.file import pieces

    # Read to its end before anything is sent: a mistake in the last row changes nothing.
    found = list(pieces(options.file, key=options.key, updated=options.updated))
    with admin_of(options) as admin:
        for rows in found:
            admin.put_features(options.table, rows)
    say_done(options, f"{sum(map(len, found))} rows were put into {options.table}")


def _list(options: argparse.Namespace) -> None:
    with admin_of(options) as admin:
        found = admin.feature_tables()
    if options.json:
        print_json(found)
        return
    for one in found.tables:
        print(f"{one.table:<32} {one.rows} rows, newest of {moment(one.newest_at)}")
    if not found.tables:
        print("no tables yet; longstop-gateway features put TABLE FILE.csv", file=sys.stderr)


def _remove(options: argparse.Namespace) -> None:
    with admin_of(options) as admin:
        admin.remove_features(options.table)
    say_done(options, f"table {options.table} is gone; who asks for it is given defaults")
