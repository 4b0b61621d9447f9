"""The application on one device: sends inputs through the SDK on time and keeps its own book.

It runs as a process of its own (`python -m sim.demo.caller`, its `Errand` as JSON on standard
input) because it is the witness: deadlines and drops are judged by this clock and no other. The
stream is open loop: a request is sent when its time has come, whatever became of those before.

It writes one JSON line per request, then one per revision.
"""

import asyncio
import gc
import sys
import time
from pathlib import Path
from typing import TextIO

import msgspec
import numpy as np

from edge_agent.sdk import AsyncClient
from edge_agent.sdk.errors import LongstopError
from models.zoo import data
from sim.demo.book import Revised, Sent, line

_REVISION_POLL_S = 1.0


class Errand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one caller is asked to do. Times are seconds on the monotonic clock of this machine."""

    device: str
    task: str
    run: str
    book: str
    rate: float
    seed: int
    start_at: float
    end_at: float
    give_up_at: float
    deadline_ms: int


def order(task: str, seed: int, count: int) -> list[int]:
    """Which test samples are sent: the split shuffled, again and again; never by hardness."""
    size = len(data.load(task).test_y)
    chance = np.random.default_rng(seed)
    rounds = [chance.permutation(size) for _ in range(-(-count // size))]
    return [int(index) for index in np.concatenate(rounds)[:count]]


async def run(errand: Errand, book: TextIO) -> None:
    """Send every request at its time, collect the revisions, write both down."""
    samples = data.load(errand.task).test_x
    count = int((errand.end_at - errand.start_at) * errand.rate)
    chosen = order(errand.task, errand.seed, count)
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
            while time.monotonic() < errand.give_up_at and not (done.is_set() and not owed):
                async for revision in client.revisions(wait_s=_REVISION_POLL_S):
                    owed.discard(revision.request_id)
                    got = Revised(revision.request_id, revision.label, time.monotonic())
                    book.write(line(got))

        collecting = asyncio.create_task(revisions())
        sending: set[asyncio.Task[None]] = set()
        gc.collect()
        gc.freeze()
        for number, index in enumerate(chosen):
            due = errand.start_at + number / errand.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(one(number, index))
            sending.add(task)
            task.add_done_callback(sending.discard)
        if sending:
            await asyncio.wait(sending)
        done.set()
        await collecting


def main() -> int:
    """Run the errand given on standard input."""
    errand = msgspec.json.decode(sys.stdin.buffer.read(), type=Errand)
    with Path(errand.book).open("w", buffering=1) as book:
        asyncio.run(run(errand, book))
    return 0


if __name__ == "__main__":
    sys.exit(main())
