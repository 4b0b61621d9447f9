"""longstop-agent: enroll | run | infer | feed | status | doctor | outbox ls, show.

Exit codes: 0 done, 1 refused or failed (one line on stderr says why), 2 a command nobody knows.
`doctor`: 0 all well, 1 something is broken, 3 nothing worse than a warning.
`feed`: 0 every line answered, 1 nobody to ask, 3 some lines not answered.
With --json the answer is one JSON object on stdout, errors included.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from edge_agent.errors import AgentError
from edge_agent.sdk.errors import LongstopError
from sync.errors import SyncError
from sync.usage import Parser, parsed

Command = Callable[[argparse.Namespace], int | None]
"""Gives back an exit code where 0 does not say it all."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = parsed(_parser(), arguments)
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
    command: Command = options.command
    try:
        return command(options) or 0
    except (AgentError, LongstopError, SyncError) as error:
        print(f"longstop-agent: {error.code}: {error}", file=sys.stderr)
        if options.json:
            print(json.dumps({"code": error.code, "message": str(error)}))
        return 1


def _enroll(options: argparse.Namespace) -> None:
    from edge_agent.commands.enroll import Invitation, enroll

    data = _data(options)
    invitation = Invitation(
        device=options.device,
        gateway=options.gateway,
        link=options.link or ("auto" if options.mqtt else "http"),
        public_key=options.key,
        mqtt=options.mqtt,
        mqtt_tls=options.mqtt_tls,
        ca=options.ca,
    )
    settings = enroll(
        data, invitation, options.token, check=not options.offline, replace=options.replace
    )
    if options.json:
        print(json.dumps({"device": settings.device, "link": settings.link, "data": str(data)}))
    else:
        told = "" if options.data is None else f" --data {data}"
        print(f"enrolled as {settings.device} over {settings.link}; next: longstop-agent run{told}")


def _run(options: argparse.Namespace) -> None:
    from edge_agent import settings
    from edge_agent.supervisor import Supervisor
    from edge_agent.update.local import local_package

    logging.basicConfig(
        level=options.log_level.upper(),
        format="%(asctime)s agent %(levelname)s %(name)s %(message)s",
    )
    data = _data(options)
    loaded = settings.load(data, environ=os.environ, overrides=options.set)
    packages = tuple(local_package(Path(folder)) for folder in options.package)
    if loaded.gateway or not packages:
        settings.check_enrolled(loaded, data)
    debug = os.environ.get("LONGSTOP_DEBUG") == "1"
    asyncio.run(Supervisor(loaded, data, packages=packages, debug=debug).run())


def _infer(options: argparse.Namespace) -> None:
    from edge_agent.commands import infer

    given: infer.Given
    if options.json_array is not None:
        given = infer.from_json(options.json_array, options.dtype)
    else:
        given = infer.from_file(options.file)
    answer = infer.infer(_sockets(options), options.task, given, options.deadline_ms)
    print(infer.as_json(answer) if options.json else infer.line(answer))


def _feed(options: argparse.Namespace) -> int:
    from edge_agent.commands import feed
    from edge_agent.sources.admission import Policy

    policy = Policy(
        per_second=options.per_second,
        burst=options.burst,
        backlog=options.at_once,
        at_once=options.at_once,
        same_below=options.same_below,
        answer_every_s=options.answer_every_s,
        counted=True,
    )
    order = feed.Order(
        task=options.task,
        run=_sockets(options),
        deadline_ms=options.deadline_ms,
        dtype=options.dtype,
        policy=policy,
    )
    return asyncio.run(feed.feed(order, sys.stdin.fileno(), feed.say_line))


def _status(options: argparse.Namespace) -> None:
    from edge_agent.commands import status
    from edge_agent.sdk.places import run_folder

    found = status.ask(run_folder(_sockets(options)))
    print(status.as_json(found) if options.json else "\n".join(status.lines(found)))


def _doctor(options: argparse.Namespace) -> int:
    from edge_agent.commands import doctor

    run = None if options.run_folder is None else Path(options.run_folder)
    diagnosis = doctor.examine(_data(options), run)
    print(doctor.as_json(diagnosis) if options.json else "\n".join(doctor.lines(diagnosis)))
    return doctor.exit_code(diagnosis)


def _outbox_ls(options: argparse.Namespace) -> None:
    from edge_agent.commands import outbox

    with outbox.Reader(_data(options)) as reader:
        found = reader.listing()
    _print(options, found, outbox.lines(found))


def _outbox_show(options: argparse.Namespace) -> None:
    from edge_agent.commands import outbox

    with outbox.Reader(_data(options)) as reader:
        found = reader.show(options.what)
    _print(options, found, outbox.lines_of(found))


def _print(options: argparse.Namespace, found: object, lines: Sequence[str]) -> None:
    print(msgspec.json.encode(found).decode() if options.json else "\n".join(lines))


def _data(options: argparse.Namespace) -> Path:
    from edge_agent.settings import DEFAULT_DATA

    return Path(options.data or DEFAULT_DATA).expanduser()


def _sockets(options: argparse.Namespace) -> Path | None:
    """The run folder where one was named; None lets the SDK look where it always looks."""
    from edge_agent import settings

    if options.run_folder is not None:
        return Path(options.run_folder)
    if options.data is None:
        return None
    data = _data(options)
    return settings.run_folder(settings.load(data, environ=os.environ), data)


def _count(text: str) -> int:
    if (found := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {found}")
    return found


def _amount(text: str) -> float:
    if not (found := float(text)) >= 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, not {found}")
    return found


def _parser() -> Parser:
    parser = Parser(prog="longstop-agent", description=_ABOUT)
    verbs = parser.add_subparsers(required=True)

    enroll = _verb(verbs, "enroll", _enroll, "make this machine a device of a gateway")
    enroll.add_argument("--gateway", required=True, metavar="URL", help="as in http://HOST:PORT")
    enroll.add_argument("--mqtt", default="", metavar="HOST:PORT", help="the broker")
    enroll.add_argument("--mqtt-tls", action="store_true", help="the broker speaks TLS")
    enroll.add_argument(
        "--ca", type=Path, metavar="FILE", help="PEM of whom to believe, where an address is https"
    )
    enroll.add_argument("--device", required=True, metavar="NAME", help="as the gateway knows it")
    enroll.add_argument("--token", required=True, help="shown once by `device add`")
    enroll.add_argument("--key", required=True, help="signs packages: ed25519:…")
    enroll.add_argument("--link", choices=("auto", "mqtt", "http"), help="auto with --mqtt")
    enroll.add_argument("--offline", action="store_true", help="do not ask whether anybody answers")
    enroll.add_argument("--replace", action="store_true", help="forget earlier settings")

    run = _verb(verbs, "run", _run, "answer requests until told to stop")
    run.add_argument(
        "--package", action="append", default=[], metavar="FOLDER", help="run this one; development"
    )
    run.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="one setting")
    run.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))

    infer = _verb(verbs, "infer", _infer, "ask the running agent about one input", sockets=True)
    infer.add_argument("--task", help="needed where several are served")
    infer.add_argument("--deadline-ms", type=float, default=300.0)
    given = infer.add_mutually_exclusive_group(required=True)
    given.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help=".npy, .jpg, .png, .wav, .txt or .json"
    )
    given.add_argument("--json-array", metavar="JSON", help="as in [[1, 2], [3, 4]]")
    infer.add_argument("--dtype", default="float32", help="of --json-array")

    feed = _verb(
        verbs, "feed", _feed, "answer standard input, one JSON a line in and out", sockets=True
    )
    feed.add_argument("task", nargs="?", metavar="TASK", help="needed where several are served")
    feed.add_argument("--deadline-ms", type=float, default=5000.0)
    feed.add_argument("--dtype", default="float32", help="of arrays")
    feed.add_argument("--at-once", type=_count, default=4, metavar="N")
    feed.add_argument("--per-second", type=_amount, default=0.0, metavar="N")
    feed.add_argument("--burst", type=_count, default=1, metavar="N")
    feed.add_argument("--same-below", type=_amount, default=0.0, metavar="SHARE")
    feed.add_argument("--answer-every-s", type=_amount, default=60.0, metavar="S")

    _verb(verbs, "status", _status, "how the device is: link, records, tasks", sockets=True)

    _verb(verbs, "doctor", _doctor, "what is wrong here, and what to do about it", sockets=True)

    outbox = verbs.add_parser(
        "outbox", help="what the device still owes the cloud", description=_OUTBOX
    )
    parts = outbox.add_subparsers(required=True)
    _verb(parts, "ls", _outbox_ls, "list batches, losses, open questions and waiting revisions")
    show = _verb(parts, "show", _outbox_show, "show one batch's records, or one question")
    show.add_argument("what", metavar="NUMBER|REQUEST_ID")
    return parser


_ABOUT = "The half of Longstop on a device: answers here, escalates hard cases, outlives its link."
_OUTBOX = "Look into the outbox without touching it; the agent may be running."


def _verb(
    verbs: "argparse._SubParsersAction[Parser]",
    name: str,
    command: Command,
    about: str,
    *,
    sockets: bool = False,
) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
    verb.set_defaults(command=command)
    verb.add_argument("--data", metavar="FOLDER", help="the agent's data folder")
    verb.add_argument("--json", action="store_true", help="one JSON object, for programs")
    if sockets:
        verb.add_argument("--run-folder", metavar="FOLDER", help="where the sockets are")
    return verb
