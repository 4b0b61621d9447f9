"""longstop-gateway: serve | device add, list, remove | key init | package publish, list, desire |
features put, list, remove.

Exit codes: 0 done, 1 refused or failed (one line on stderr says why), 2 a command nobody knows.
With --json the answer is one JSON object on stdout, errors included.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from cloud_gateway import __doc__ as about
from cloud_gateway.errors import GatewayError
from cloud_gateway.settings import Settings
from models.errors import ModelsError
from sync import settings as grammar
from sync.errors import SyncError

if TYPE_CHECKING:
    from cloud_gateway.admin import Admin
    from cloud_gateway.shapes import Invitation, Serving

PREFIX = "LONGSTOP_GATEWAY_"


class _Failed(Struct, frozen=True):
    """What --json prints for an error."""

    code: str
    message: str


class _Key(Struct, frozen=True):
    private: str
    public: str


class _Done(Struct, frozen=True):
    done: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
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
            _print_json(_Failed(error.code, str(error)))
        return 1
    return 0


def _serve(options: argparse.Namespace) -> None:
    import uvloop

    from cloud_gateway.serving import serve

    logging.basicConfig(
        level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    settings = _settings(options)

    def say(serving: "Serving") -> None:
        if options.json:
            _print_json(serving)
            return
        mqtt = f"mqtt {serving.mqtt} ({serving.broker})" if serving.mqtt else "no broker"
        print(f"page {serving.page}  {mqtt}  data {serving.data}", flush=True)

    uvloop.run(serve(settings, say))


def _device_add(options: argparse.Namespace) -> None:
    with _admin(options) as admin:
        invitation = admin.add_device(options.name)
    if options.json:
        _print_json(invitation)
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


def _device_list(options: argparse.Namespace) -> None:
    with _admin(options) as admin:
        found = admin.devices()
    if options.json:
        _print_json(found)
        return
    for one in found.devices:
        print(f"{one.device:<40} added {_moment(one.added_at)}")
    if not found.devices:
        print("no devices yet; longstop-gateway device add NAME", file=sys.stderr)


def _device_remove(options: argparse.Namespace) -> None:
    with _admin(options) as admin:
        admin.remove_device(options.name)
    _done(options, f"device {options.name} is shut out; what it sent stays")


def _key_init(options: argparse.Namespace) -> None:
    from cloud_gateway.admin import default_key, make_key

    private = options.private or default_key()
    public = make_key(_data(options), private)
    if options.json:
        _print_json(_Key(str(private), public))
    else:
        print(f"signing key {private}\npublic key  {public}")


def _package_publish(options: argparse.Namespace) -> None:
    from cloud_gateway.admin import default_key

    shown = sys.stderr.isatty() and not options.json

    def progress(name: str, sent: int, total: int) -> None:
        if shown:
            end = "\n" if sent == total else ""
            print(f"\r{name} archive {_kilo(sent)} of {_kilo(total)}", end=end, file=sys.stderr)

    with _admin(options) as admin:
        found = admin.publish(options.folder, options.key or default_key(), progress)
    if options.json:
        _print_json(found)
    else:
        print(
            f"published {found.task} {found.version}; "
            f"next: longstop-gateway package desire {found.task} {found.version}"
        )


def _package_list(options: argparse.Namespace) -> None:
    with _admin(options) as admin:
        found = admin.releases()
    if options.json:
        _print_json(found)
        return
    for one in found.releases:
        mark = "  answers in the cloud" if one.served else ""
        print(f"{one.task:<20} {one.version:<12} published {_moment(one.published_at)}{mark}")
    if not found.releases:
        print("no packages yet; longstop-gateway package publish FOLDER", file=sys.stderr)


def _package_desire(options: argparse.Namespace) -> None:
    from cloud_gateway.shapes import DesiredVersion

    devices = tuple(options.device or ())
    wanted = DesiredVersion(options.task, options.version, devices, all=not devices)
    with _admin(options) as admin:
        admin.desire(wanted)
    whom = ", ".join(devices) or "every device"
    _done(options, f"{options.task} {options.version} is wanted on {whom}")


def _features_put(options: argparse.Namespace) -> None:
    from cloud_gateway.features.file import pieces

    # Read to its end before anything is sent: a mistake in the last row changes nothing.
    found = list(pieces(options.file, key=options.key, updated=options.updated))
    with _admin(options) as admin:
        for rows in found:
            admin.put_features(options.table, rows)
    _done(options, f"{sum(map(len, found))} rows were put into {options.table}")


def _features_list(options: argparse.Namespace) -> None:
    with _admin(options) as admin:
        found = admin.feature_tables()
    if options.json:
        _print_json(found)
        return
    for one in found.tables:
        print(f"{one.table:<32} {one.rows} rows, newest of {_moment(one.newest_at)}")
    if not found.tables:
        print("no tables yet; longstop-gateway features put TABLE FILE.csv", file=sys.stderr)


def _features_remove(options: argparse.Namespace) -> None:
    with _admin(options) as admin:
        admin.remove_features(options.table)
    _done(options, f"table {options.table} is gone; who asks for it is given defaults")


class _admin:  # noqa: N801 - reads as the function it stands for
    """The admin client of these options, closed after use."""

    def __init__(self, options: argparse.Namespace) -> None:
        from cloud_gateway.admin import open_admin

        self._admin = open_admin(_data(options), options.gateway, options.admin_token)

    def __enter__(self) -> "Admin":
        return self._admin

    def __exit__(self, *error: object) -> None:
        self._admin.close()


def _data(options: argparse.Namespace) -> Path:
    given: Path | None = options.data
    return given or Path(os.environ.get(f"{PREFIX}DATA", "") or Settings().data)


def _settings(options: argparse.Namespace) -> Settings:
    told = {
        "data": options.data,
        "host": options.host,
        "port": options.port,
        "broker.port": options.mqtt_port,
        "broker.kind": options.broker,
    }
    flags = [f"{name}={value}" for name, value in told.items() if value is not None]
    return grammar.load(
        Settings,
        toml=options.config,
        environ=os.environ,
        prefix=PREFIX,
        overrides=[*options.set, *flags],
    )


def _done(options: argparse.Namespace, text: str) -> None:
    if options.json:
        _print_json(_Done(text))
    else:
        print(text)


def _print_json(value: Struct) -> None:
    print(msgspec.json.encode(value).decode(), flush=True)


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _kilo(size: int) -> str:
    return f"{size / 1000:.0f} kB"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("longstop-gateway", description=about)
    verbs = parser.add_subparsers(required=True)

    serve = _verb(verbs, "serve", _serve, "Serve devices, the page and the API until Ctrl-C")
    serve.add_argument("--host", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=int, help="HTTP port, 0 for any free one (8080)")
    serve.add_argument("--mqtt-port", type=int, help="MQTT port, 0 for any free one (1883)")
    serve.add_argument(
        "--broker",
        choices=("auto", "mosquitto", "amqtt", "none"),
        help="which MQTT broker to start; auto takes mosquitto where it is installed (auto)",
    )
    serve.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML")
    serve.add_argument(
        "--set", action="append", default=[], metavar="A.B=C", help="one setting; may be repeated"
    )
    serve.add_argument(
        "--log-level", default="warning", choices=("debug", "info", "warning", "error")
    )

    device = _group(verbs, "device", "Who belongs to the fleet")
    add = _verb(device, "add", _device_add, "Add a device and print the line that enrols it")
    add.add_argument("name")
    _verb(device, "list", _device_list, "List devices")
    remove = _verb(device, "remove", _device_remove, "Shut a device out, at once")
    remove.add_argument("name")

    key = _group(verbs, "key", "The key that signs packages")
    init = _verb(key, "init", _key_init, "Make the signing key and have this gateway trust it")
    init.add_argument(
        "--private",
        type=Path,
        metavar="FILE",
        help="where the private half is kept (~/.config/longstop/publisher.key)",
    )

    package = _group(verbs, "package", "Versions, and who should run them")
    publish = _verb(package, "publish", _package_publish, "Pack, sign and upload a package folder")
    publish.add_argument("folder", type=Path)
    publish.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help="the private signing key (~/.config/longstop/publisher.key)",
    )
    _verb(package, "list", _package_list, "List published versions")
    desire = _verb(package, "desire", _package_desire, "Say which version devices should run")
    desire.add_argument("task")
    desire.add_argument("version")
    desire.add_argument(
        "--device",
        action="append",
        metavar="NAME",
        help="this device only, may be repeated (every device, now and later)",
    )

    features = _group(verbs, "features", "Numbers by key, for packages that look them up")
    feed = _verb(features, "put", _features_put, "Add rows to a table, or replace those there")
    feed.add_argument("table", metavar="TABLE", help="as packages name their source")
    feed.add_argument("file", type=Path, metavar="FILE.csv", help="its first line names columns")
    feed.add_argument("--key", metavar="COLUMN", help="what rows are found by (the first column)")
    feed.add_argument(
        "--updated", metavar="COLUMN", help="seconds since 1970 at which a row was true (now)"
    )
    _verb(features, "list", _features_list, "List tables")
    gone = _verb(features, "remove", _features_remove, "Remove a table and all its rows")
    gone.add_argument("table", metavar="TABLE")
    return parser


def _group(verbs: "_Verbs", name: str, says: str) -> "_Verbs":
    group = verbs.add_parser(name, help=says, description=says)
    return group.add_subparsers(required=True)


def _verb(
    verbs: "_Verbs", name: str, run: Callable[[argparse.Namespace], None], says: str
) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=says, description=says)
    verb.set_defaults(run=run)
    verb.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="the gateway's folder (LONGSTOP_GATEWAY_DATA, else ./longstop-gateway)",
    )
    verb.add_argument("--json", action="store_true", help="answer in one JSON object")
    if name != "serve":
        verb.add_argument("--gateway", metavar="URL", help="another gateway than the folder's own")
        verb.add_argument(
            "--admin-token", type=Path, metavar="FILE", help="its token (DIR/admin.token)"
        )
    return verb


if TYPE_CHECKING:
    _Verbs = argparse._SubParsersAction[argparse.ArgumentParser]


if __name__ == "__main__":
    sys.exit(main())
