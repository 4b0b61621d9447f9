"""`./just demo`: the whole system in about two minutes, judged by those who had no part in it.

Exit status: 0 every promise kept; 1 one was broken, or a program failed; 2 wrong usage; 130 ended
by Ctrl-C.
"""

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from models.zoo import data
from sim.demo import report, story
from sim.demo.fleet import Fleet
from sim.demo.programs import DemoError, Programs

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SECRETS = {"publisher.key", "token", "admin.token"}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./just demo",
        description="Start a gateway, a broker and three agents, give them a bad minute, "
        "and count what came of it.",
    )
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument(
        "--serve", action="store_true", help="keep the fleet running afterwards, until Ctrl-C"
    )
    parser.add_argument(
        "--sabotage",
        choices=("lose", "twice", "late"),
        help="break one promise on purpose; the demo must notice and exit 1",
    )
    parser.add_argument("--seconds", type=float, default=60, help="length of the streams (60)")
    parser.add_argument(
        "--rate", type=float, default=50, help="inputs a second on each device (50)"
    )
    parser.add_argument("--seed", type=int, default=1, help="shuffles the inputs (1)")
    parser.add_argument(
        "--digits", action="store_true", help="run digits even where the larger data sets are"
    )
    parser.add_argument("--keep", type=Path, help="leave logs and databases in this new folder")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the demo as the arguments say."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not (40 <= arguments.seconds <= 86_400 and 1 <= arguments.rate <= 1000):
        parser.error(
            "--seconds must be at least 40 (the cut takes ten) and at most 86400, "
            "--rate from 1 to 1000"
        )
    home = Path(tempfile.mkdtemp(prefix="longstop-"))
    say = _teller()
    try:
        return asyncio.run(_run(home, arguments, say))
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("demo: ended; every program it started has been stopped", file=sys.stderr)
        return 130
    finally:
        try:
            if arguments.keep:
                shutil.copytree(home, arguments.keep, dirs_exist_ok=True, ignore=_unkept)
        finally:
            shutil.rmtree(home)


async def _run(home: Path, arguments: argparse.Namespace, say: Callable[[str], None]) -> int:
    wishes = story.Wishes(arguments.seconds, arguments.rate, arguments.seed, arguments.sabotage)
    loop = asyncio.get_running_loop()
    this = asyncio.current_task()
    if this is not None:  # always: a coroutine given to asyncio.run is a task
        for number in _ENDING:
            loop.add_signal_handler(number, this.cancel)
    fleet = Fleet(home, Programs(home / "logs"), say)
    try:
        tasks = ("digits",) if arguments.digits else _tasks(say)
        outcome = await story.tell(fleet, tasks, wishes)
        print(report.table(outcome.figures, outcome.promises), flush=True)
        if arguments.json:
            print(msgspec.json.encode(outcome.figures).decode(), flush=True)
        if arguments.serve:
            await story.carry_on(fleet, tasks, wishes)
            say(f"serving: page at {fleet.url}/  Ctrl-C ends everything")
            await asyncio.Event().wait()
    finally:
        # A second Ctrl-C must not interrupt what the first one began.
        for number in _ENDING:
            loop.add_signal_handler(number, lambda: None)
        await fleet.close()
    return 0 if all(promise.kept for promise in outcome.promises) else 1


def _tasks(say: Callable[[str], None]) -> tuple[str, ...]:
    try:
        for task in ("apparel", "activity"):
            data.load(task)
    except data.DataMissing as missing:
        say(f"data: {missing}; every device runs digits")
        return ("digits",)
    return ("apparel", "activity")


def _teller() -> Callable[[str], None]:
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:5.1f} s] {text}", file=sys.stderr, flush=True)

    return say


def _unkept(folder: str, names: list[str]) -> set[str]:
    """Sockets, which cannot be copied, and secrets, which should not be."""
    return {name for name in names if name in _SECRETS or (Path(folder) / name).is_socket()}
