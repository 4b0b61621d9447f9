"""`longstop-gateway package`: versions, and who should run them."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cloud_gateway.commands.saying import moment, print_json, say_done
from cloud_gateway.commands.verbs import admin_of, admin_verb, group

if TYPE_CHECKING:
    from cloud_gateway.commands.verbs import Verbs


def arguments(verbs: "Verbs") -> None:
    package = group(verbs, "package", "Versions, and who should run them")
    publish = admin_verb(package, "publish", _publish, "Pack, sign and upload a package folder")
    publish.add_argument("folder", type=Path)
    publish.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help="the private signing key (~/.config/longstop/publisher.key)",
    )
    admin_verb(package, "list", _list, "List published versions")
    desire = admin_verb(package, "desire", _desire, "Say which version devices should run")
    desire.add_argument("task")
    desire.add_argument("version")
    desire.add_argument(
        "--device",
        action="append",
        metavar="NAME",
        help="this device only, may be repeated (every device, now and later)",
    )


def _publish(options: argparse.Namespace) -> None:
    from cloud_gateway.admin import default_key

    shown = sys.stderr.isatty() and not options.json

    def progress(name: str, sent: int, total: int) -> None:
        if shown:
            end = "\n" if sent == total else ""
            print(f"\r{name} archive {_kilo(sent)} of {_kilo(total)}", end=end, file=sys.stderr)

    with admin_of(options) as admin:
        found = admin.publish(options.folder, options.key or default_key(), progress)
    if options.json:
        print_json(found)
    else:
        print(
            f"published {found.task} {found.version}; "
            f"next: longstop-gateway package desire {found.task} {found.version}"
        )


def _list(options: argparse.Namespace) -> None:
    with admin_of(options) as admin:
        found = admin.releases()
    if options.json:
        print_json(found)
        return
    for one in found.releases:
        mark = "  answers in the cloud" if one.served else ""
        print(f"{one.task:<20} {one.version:<12} published {moment(one.published_at)}{mark}")
    if not found.releases:
        print("no packages yet; longstop-gateway package publish FOLDER", file=sys.stderr)


def _desire(options: argparse.Namespace) -> None:
    from cloud_gateway.shapes import DesiredVersion

    devices = tuple(options.device or ())
    wanted = DesiredVersion(options.task, options.version, devices, all=not devices)
    with admin_of(options) as admin:
        admin.desire(wanted)
    whom = ", ".join(devices) or "every device"
    say_done(options, f"{options.task} {options.version} is wanted on {whom}")


def _kilo(size: int) -> str:
    return f"{size / 1000:.0f} kB"
