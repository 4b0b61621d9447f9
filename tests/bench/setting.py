"""How every bench begins and ends: `./just bench NAME [--full] [--json]`.

One JSON object per run. What was not measured is null with a sentence in `why`, never 0.
"""

import argparse
import os
import platform
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import msgspec

_VERSIONS = ("longstop", "numpy", "onnxruntime", "fastapi", "uvicorn", "uvloop", "paho-mqtt")


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """How and where a bench ran; the first keys of its JSON object."""

    bench: str
    quick: bool
    seed: int
    load1: float
    cpu: str
    python: str
    versions: dict[str, str]


class Options(msgspec.Struct, frozen=True):
    """What was asked for."""

    quick: bool
    json: bool
    seed: int


class NotMeasured(Exception):
    """A figure could not be taken here; the message is the sentence that says why."""


def begin(
    bench: str, says: str, arguments: Sequence[str] | None, *, also: Sequence[str] = ()
) -> tuple[Options, Setting]:
    """Read `--quick` (the default), `--full`, `--json`, `--seed`, and look at this machine.

    `also` names libraries that matter to this bench beside the usual ones. Called before anything
    is measured, so that `load1` is others' load. From here on SIGTERM unwinds like Ctrl-C, so that
    every process a bench starts ends with it.
    """
    options = _read_arguments(bench, says, arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    setting = Setting(
        bench=bench,
        quick=options.quick,
        seed=options.seed,
        load1=round(os.getloadavg()[0], 2),
        cpu=_cpu(),
        python=platform.python_version(),
        versions={name: metadata.version(name) for name in (*_VERSIONS, *also)},
    )
    return options, setting


def end(figures: Setting, why: Mapping[str, str], doubts: Sequence[str], *, json: bool) -> int:
    """Print the result and say the doubts; the exit code is 1 where a key is null or doubtful."""
    tell(figures, json=json)
    for doubt in doubts:
        note(doubt)
    return 1 if doubts or why else 0


def misplaced(
    key: str, floor: float | None, figure: float | None, control: float | None
) -> list[str]:
    """A figure outside its floor and control; of one that is null `why` speaks already."""
    if floor is None or figure is None or control is None or floor < figure < control:
        return []
    return [f"{key} {figure} does not lie between floor {floor} and control {control}"]


def tell(figures: Setting, *, json: bool) -> None:
    """Print the result: one JSON object, or a line per key for a person."""
    if json:
        print(msgspec.json.encode(figures).decode(), flush=True)
        return
    for key, value in msgspec.to_builtins(figures).items():
        match value:
            case [dict(), *_]:
                print(key)
                for row in value:
                    print("   ", "  ".join(f"{name}={_plain(cell)}" for name, cell in row.items()))
            case dict():
                print(f"{key:32}", "  ".join(f"{name}: {_plain(x)}" for name, x in value.items()))
            case _:
                print(f"{key:32} {_plain(value)}")


def note(words: str) -> None:
    """Say on stderr what is going on; stdout belongs to the result."""
    print(f"    {words}", file=sys.stderr, flush=True)


def _read_arguments(bench: str, says: str, arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog=f"./just bench {bench}", description=says)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="at most two minutes (the default)")
    length.add_argument("--full", action="store_true", help="longer; limits are judged on this")
    parser.add_argument("--json", action="store_true", help="print one JSON object and no more")
    parser.add_argument("--seed", type=int, default=1, help="of the inputs (1)")
    told = parser.parse_args(arguments)
    return Options(quick=not told.full, json=told.json, seed=told.seed)


def _plain(value: object) -> str:
    return "not measured" if value is None else str(value)


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
