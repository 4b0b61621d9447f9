"""The worker's way from an input to an answer, without its socket: shipped engine, cascade, pipe.

The worker itself is one process further; what lies between is measured by `local_socket`.
"""

import asyncio
import contextlib
import fcntl
import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter_ns
from typing import Literal

import uvloop

from edge_agent.cascade.ports import InferRequest
from edge_agent.cascade.run import Cascade
from edge_agent.cloud.pipe import RecordPipe
from edge_agent.engine import Engine
from edge_agent.local_api import frames
from edge_agent.sdk.messages import Infer, Reply
from edge_agent.upkeep.process import PIPE_BYTES
from models.tensors import Sample
from sync.clock import SystemClock
from sync.runner import ThreadRunner
from sync.wire import v1
from tests.bench.inputs import BareCall
from tests.bench.measure import typical_us
from tests.bench.setting import NotMeasured

DIGEST = "ab" * 32
DEADLINE_MS = 5000


class NeverAsked:
    """The way to the cloud of a bench whose inputs are all answered here."""

    async def ask(
        self, escalation: v1.Escalation, client: str, until: float
    ) -> v1.Escalated | v1.Refused:
        raise NotMeasured(f"request {escalation.request_id} was judged hard and would have left")

    def weigh(self, worth: float, cost: int) -> None:
        """No budget, so nobody finds a price."""

    def leave(
        self, question: v1.Escalation, client: str, *, kind: Literal["later", "audit"], value: float
    ) -> None:
        raise NotMeasured(f"request {question.request_id} would have left later, as {kind}")


class InProcess:
    """One package's cascade in this process, beside the bare call on the same input."""

    def __init__(self, folder: Path, raw: Sample, records: int) -> None:
        self._bare = BareCall(folder, raw)
        self._clock = SystemClock()
        self._missed = 0
        self._raw = raw.tobytes()
        self._infer = Infer("bench-0", "bench", DEADLINE_MS, str(raw.dtype), raw.shape)
        self._loop = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.engine = Engine.load(
            folder, digest=DIGEST, clock=self._clock, thread=lambda: ThreadRunner("engine")
        )
        self._cascade = Cascade(
            engine=self.engine,
            ask=NeverAsked(),
            records=RecordPipe(records, self._note_missed),
            clock=self._clock,
            device="bench",
        )

    def raw_us(self, runs: int) -> float:
        """The floor: `session.run`, one call."""
        return self._bare.us(runs)

    def cascade_us(self, runs: int) -> float:
        """One answer of the cascade, its record written."""
        took_us = self._loop.run(self._many(runs))
        if self._missed:
            raise NotMeasured(
                f"{self._missed} records found no room in their pipe and cost less than real ones"
            )
        return took_us

    def reply(self) -> Reply:
        """One answer, to see that it is what the other measures get."""
        return self._loop.run(self._answer())

    def close(self) -> None:
        self._loop.close()
        self.engine.close()

    async def _many(self, runs: int) -> float:
        took = []
        for _ in range(runs):
            begun = perf_counter_ns()
            await self._answer()
            took.append(perf_counter_ns() - begun)
        return typical_us(took)

    async def _answer(self) -> Reply:
        # What the worker does with a request it has read: see `edge_agent.worker.work`.
        received = self._clock.monotonic()
        request = InferRequest(
            id=self._infer.id,
            client=self._infer.client,
            dtype=self._infer.dtype,
            shape=self._infer.shape,
            data=self._raw,
            deadline_ms=self._infer.deadline_ms,
            received=received,
            until=frames.moment(self._infer, received),
        )
        return await self._cascade.answer(request)

    def _note_missed(self, count: int) -> None:
        self._missed += count


@contextlib.contextmanager
def pipe_with_a_reader() -> Iterator[int]:
    """The write end of a pipe another process empties, as a supervisor would."""
    read_end, write_end = os.pipe()
    with contextlib.suppress(OSError):  # an unprivileged user may have used up his own
        fcntl.fcntl(read_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    words = [sys.executable, "-P", "-m", "tests.bench.record_reader"]
    reader = subprocess.Popen(words, stdin=read_end)
    os.close(read_end)
    try:
        yield write_end
    finally:
        os.close(write_end)
        reader.wait()


@contextlib.contextmanager
def in_process(folder: Path, raw: Sample) -> Iterator[InProcess]:
    """A package loaded here, with nothing left for the garbage collector to look at."""
    with (
        pipe_with_a_reader() as records,
        contextlib.closing(InProcess(folder, raw, records)) as here,
    ):
        gc.collect()
        gc.freeze()
        try:
            yield here
        finally:
            gc.unfreeze()
