"""`longstop-gateway device`: who belongs to the fleet."""

import argparse
import sys
from typing import TYPE_CHECKING

from cloud_gateway.commands.saying import moment, print_json, say_done
from cloud_gateway.commands.verbs import admin_of, admin_verb, group

if TYPE_CHECKING:
    from cloud_gateway.commands.verbs import Verbs
    from cloud_gateway.shapes import Invitation


def arguments(verbs: "Verbs") -> None:
    device = group(verbs, "device", "Who belongs to the fleet")
    add = admin_verb(device, "add", _add, "Add a device and print the line that enrols it")
    add.add_argument("name")
    admin_verb(device, "list", _list, "List devices")
    remove = admin_verb(device, "remove", _remove, "Shut a device out, at once")
    remove.add_argument("name")


def _add(options: argparse.Namespace) -> None:
    with admin_of(options) as admin:
        invitation = admin.add_device(options.name)
    if options.json:
        print_json(invitation)
    else:
        print(enrol_line(invitation))


def enrol_line(invitation: "Invitation") -> str:
    """The one line that makes a machine this device."""
    parts = [f"longstop-agent enroll --gateway {invitation.gateway}"]
    if invitation.mqtt:
        parts.append(f"--mqtt {invitation.mqtt}")
    parts.append(f"--device {invitation.device} --token {invitation.token}")
    if invitation.key:
        parts.append(f"--key {invitation.key}")
    return " ".join(parts)


def _list(options: argparse.Namespace) -> None:
    with admin_of(options) as admin:
        found = admin.devices()
    if options.json:
        print_json(found)
        return
    for one in found.devices:
        print(f"{one.device:<40} added {moment(one.added_at)}")
    if not found.devices:
        print("no devices yet; longstop-gateway device add NAME", file=sys.stderr)


def _remove(options: argparse.Namespace) -> None:
    with admin_of(options) as admin:
        admin.remove_device(options.name)
    say_done(options, f"device {options.name} is shut out; what it sent stays")
