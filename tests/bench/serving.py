"""What the gateway costs around one run of a model: CPU time of its process, per request.

    ./just bench serving [--full] [--json] [--seed N]

The server keeps to one core and the client to another; load of others changes latencies, but not
how much CPU time an answer takes. docs/reference/benchmarks.md explains every key. Exit codes: 0
measured, 1 a key is null, or floor and control do not lie on their sides of a figure.
"""

import contextlib
import http.client
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from tests.bench.bare_http import bare_http
from tests.bench.inputs import IMAGE, WINDOW, BareCall, Shape, build_tiny, sample
from tests.bench.measure import cores, interleaved, pin
from tests.bench.programs import Gateway, gateway, until
from tests.bench.served import Cell, Server, ServingRow, question
from tests.bench.setting import NotMeasured, Options, Setting, begin, end, misplaced, note

SAYS = "What the gateway costs around one run of a model: CPU time per request."
_AT = {WINDOW.task: (1, 8, 32), IMAGE.task: (8,)}
"""By input, how many requests are open at once."""
_CONTROL_AT = 8


class ServingFigures(Setting, frozen=True, kw_only=True):
    """The JSON object of `./just bench serving`."""

    window_us: dict[str, float] | None
    image_us_8: float | None
    floor_window_us: dict[str, float] | None
    floor_image_us_8: float | None
    control_window_us_8: float | None
    control_image_us_8: float | None
    rows: tuple[ServingRow, ...]
    why: dict[str, str]


class Plan(Struct, frozen=True):
    """How often, and how long each time."""

    rounds: int
    seconds: float


QUICK = Plan(rounds=5, seconds=0.5)
FULL = Plan(rounds=15, seconds=2.0)


class Findings(Struct):
    """Rows taken, and why others were not, by server and input."""

    rows: list[ServingRow]
    why: dict[str, str]


def main(arguments: Sequence[str] | None = None) -> int:
    options, setting = begin("serving", SAYS, arguments)
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        try:
            found = take_all(options, Path(home), QUICK if options.quick else FULL)
        except NotMeasured as error:
            found = Findings([], dict.fromkeys(KEYS, str(error)))
    figures = summed_up(setting, found)
    return end(figures, figures.why, doubtful(figures), json=options.json)


def take_all(options: Options, home: Path, plan: Plan) -> Findings:
    """Every server under every load, in turn. Raises `NotMeasured` where none came to serve."""
    with contextlib.ExitStack() as stack:
        note("starting a gateway")
        # Without a broker the gateway is one process, which is the one that is counted.
        cloud = stack.enter_context(gateway(home / "cloud", broker="none"))
        token = cloud.invite("bench-1").token
        cells: list[Cell] = []
        for shape in (WINDOW, IMAGE):
            folder = build_tiny(shape, home / shape.task)
            cloud.publish(folder)
            until(f"the gateway serves {shape.task}", partial(_serves, cloud, shape))
            raw = sample(shape, options.seed)
            call = BareCall(folder, raw)
            bare = stack.enter_context(bare_http(folder))
            for server, binary, concurrencies in (
                (Server("gateway", cloud.pid, _port(cloud)), True, _AT[shape.task]),
                (Server("floor", bare.pid, bare.port), True, _AT[shape.task]),
                (Server("control", cloud.pid, _port(cloud)), False, (_CONTROL_AT,)),
            ):
                pin(server.pid, cores()[0])
                asked = question(shape, raw, token, binary=binary)
                cells += [
                    Cell(
                        server,
                        asked,
                        call,
                        input_name=shape.task,
                        concurrency=concurrency,
                        seconds=plan.seconds,
                    )
                    for concurrency in concurrencies
                ]
        note(f"measuring {len(cells)} loads, {plan.rounds} rounds")
        interleaved(plan.rounds, [cell.round for cell in cells])
    found = Findings([], {})
    for cell in cells:
        try:
            found.rows.append(cell.row())
        except NotMeasured as error:
            found.why[KEYS_BY[cell.server.name, cell.input_name]] = str(error)
    return found


KEYS_BY = {
    ("gateway", WINDOW.task): "window_us",
    ("gateway", IMAGE.task): "image_us_8",
    ("floor", WINDOW.task): "floor_window_us",
    ("floor", IMAGE.task): "floor_image_us_8",
    ("control", WINDOW.task): "control_window_us_8",
    ("control", IMAGE.task): "control_image_us_8",
}
KEYS = tuple(KEYS_BY.values())


def summed_up(setting: Setting, found: Findings) -> ServingFigures:
    """The keys out of the rows; one with a reason in `why` is null."""
    by_key: dict[str, dict[str, float]] = {}
    for row in found.rows:
        key = KEYS_BY[row.server, row.input]
        by_key.setdefault(key, {})[str(row.concurrency)] = row.over_us

    def each(key: str) -> dict[str, float] | None:
        return None if key in found.why else by_key[key]

    def one(key: str) -> float | None:
        return None if key in found.why else by_key[key]["8"]

    return ServingFigures(
        **msgspec.structs.asdict(setting),
        window_us=each("window_us"),
        image_us_8=one("image_us_8"),
        floor_window_us=each("floor_window_us"),
        floor_image_us_8=one("floor_image_us_8"),
        control_window_us_8=one("control_window_us_8"),
        control_image_us_8=one("control_image_us_8"),
        rows=tuple(found.rows),
        why=found.why,
    )


def doubtful(figures: ServingFigures) -> list[str]:
    """What says that the method did not work this time."""
    return [
        *misplaced(
            "window_us at 8",
            (figures.floor_window_us or {}).get("8"),
            (figures.window_us or {}).get("8"),
            figures.control_window_us_8,
        ),
        *misplaced(
            "image_us_8",
            figures.floor_image_us_8,
            figures.image_us_8,
            figures.control_image_us_8,
        ),
    ]


def _serves(cloud: Gateway, shape: Shape) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", _port(cloud), timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", f"/v2/models/{shape.task}/ready")
        return connection.getresponse().status == 200


def _port(cloud: Gateway) -> int:
    port = urlsplit(cloud.serving.gateway).port
    assert port is not None
    return port


if __name__ == "__main__":
    sys.exit(main())
