"""The application on one device: sends inputs through the SDK on time and keeps its own book.

It runs as a process of its own (`python -m sim.demo.caller`, its `Errand` as JSON on standard
input) because it is the witness: deadlines and drops are judged by this clock and no other. The
stream is open loop: a request is sent when its time has come, whatever became of those before.

It makes its book when it is ready, waits for a `Go` on standard input so that a slow start delays
nobody's requests, and then writes one JSON line per request and one per revision. It ends no sooner
than it is told `Enough`: on a slow machine the story takes longer, and the stream with it.
"""

import asyncio
import gc
import itertools
import math
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

import msgspec
import numpy as np

from edge_agent.sdk import AsyncClient
from edge_agent.sdk.errors import LongstopError
from models.zoo import data
from models.zoo.data import Raw
from sim.demo.book import Revised, Sent, line

_REVISION_POLL_S = 1.0


class Errand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one caller is asked to do."""

    device: str
    task: str
    run: str
    book: str
    rate: float
    seed: int
    seconds: float
    """How long it sends, and longer until it is told that it is enough."""
    settle_s: float
    """How long after the stream it waits for the last revisions."""
    deadline_ms: int


class Go(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When to begin, in seconds on the monotonic clock of this machine."""

    start_at: float


class Enough(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    """The story is over, or nearly."""


def order(task: str, seed: int, count: int) -> list[int]:
    """Which test samples are sent: the split shuffled, again and again; never by hardness."""
    size = len(data.load(task).test_y)
    chance = np.random.default_rng(seed)
    rounds = [chance.permutation(size) for _ in range(-(-count // size))]
    return [int(index) for index in np.concatenate(rounds)[:count]]


async def run(
    errand: Errand,
    chosen: list[int],
    samples: Raw,
    start_at: float,
    book: TextIO,
    enough: threading.Event,
) -> None:
    """Send every request at its time, collect the revisions, write both down."""
    give_up_at = math.inf
    owed: set[str] = set()
    done = asyncio.Event()

    async with AsyncClient(errand.task, name="demo", run=Path(errand.run)) as client:

        async def one(number: int, index: int) -> None:
            request_id = f"{errand.device}-{number:06d}"
            began = time.monotonic()
            try:
                answer = await client.infer(
                    samples[index], deadline_ms=errand.deadline_ms, request_id=request_id
                )
            except LongstopError as error:
                took = (time.monotonic() - began) * 1000
                entry = Sent(
                    request_id, index, began, took, "", "", False, "", "", type(error).code
                )
            else:
                took = (time.monotonic() - began) * 1000
                entry = Sent(
                    request_id,
                    index,
                    began,
                    took,
                    answer.label,
                    answer.source,
                    answer.final,
                    answer.reason,
                    answer.version,
                    "",
                )
                if not answer.final:
                    owed.add(request_id)
            book.write(line(entry))

        async def revisions() -> None:
            while time.monotonic() < give_up_at and not (done.is_set() and not owed):
                async for revision in client.revisions(wait_s=_REVISION_POLL_S):
                    owed.discard(revision.request_id)
                    got = Revised(revision.request_id, revision.label, time.monotonic())
                    book.write(line(got))

        collecting = asyncio.create_task(revisions())
        sending: set[asyncio.Task[None]] = set()
        gc.collect()
        gc.freeze()
        for number, index in enumerate(itertools.cycle(chosen)):
            due = start_at + number / errand.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if number >= len(chosen) and enough.is_set():
                break
            task = asyncio.create_task(one(number, index))
            sending.add(task)
            task.add_done_callback(sending.discard)
        if sending:
            await asyncio.wait(sending)
        give_up_at = time.monotonic() + errand.settle_s
        done.set()
        await collecting


def main() -> int:
    """Get ready for the errand on standard input, and run it when told to."""
    errand = msgspec.json.decode(sys.stdin.buffer.readline(), type=Errand)
    samples = data.load(errand.task).test_x
    chosen = order(errand.task, errand.seed, int(errand.seconds * errand.rate))
    with Path(errand.book).open("w", buffering=1) as book:
        go = msgspec.json.decode(sys.stdin.buffer.readline(), type=Go)
        enough = threading.Event()
        threading.Thread(target=_listen, args=(enough,), daemon=True).start()
        asyncio.run(run(errand, chosen, samples, go.start_at, book, enough))
    return 0


def _listen(enough: threading.Event) -> None:
    """Whatever ends standard input, nobody is left who could say more."""
    sys.stdin.buffer.readline()
    enough.set()


if __name__ == "__main__":
    sys.exit(main())
