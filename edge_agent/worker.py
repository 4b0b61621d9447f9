"""Wires the inference process of one task: model, cascade, local socket, line to its supervisor.

Started by the supervisor alone. It opens no network connection, except to a source its settings
name (docs/decisions/0006), and ends when its supervisor does.
Exit codes: 0 drained after `Retire` or SIGTERM, 2 started wrongly, 3 the package does not run here,
4 the supervisor is gone.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop
from msgspec.structs import replace

from edge_agent.cascade import value
from edge_agent.cloud import handover
from edge_agent.cloud.ask import SupervisorAsk, SupervisorAudits
from edge_agent.cloud.line import Line
from edge_agent.cloud.pipe import RecordPipe
from edge_agent.errors import (
    AgentError,
    BadOrder,
    DeadlineExceeded,
    Overloaded,
    SupervisorGone,
)
from edge_agent.local_api import frames
from edge_agent.local_api.recent import Recent
from edge_agent.local_api.run import Given, LocalApi
from edge_agent.sdk.messages import Infer, Refused, Reply
from edge_agent.sdk.wire import Frame
from edge_agent.workplace import Given as InputGiven
from models.errors import ModelsError
from sync.clock import SystemClock
from sync.errors import MalformedMessage
from sync.runner import ThreadRunner
from sync.wire import codec, v1

if TYPE_CHECKING:
    from edge_agent.engine import Engine

REMEMBER_S = 2.0
"""How long the supervisor may take to say what was answered before."""
DRAINED, STARTED_WRONGLY, DOES_NOT_RUN, SUPERVISOR_GONE = 0, 2, 3, 4

log = logging.getLogger(__name__)


def main() -> int:
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s worker %(levelname)s %(name)s %(message)s"
    )
    # Ctrl-C reaches every process of the terminal; when workers end is the supervisor's to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # numpy reads it when it is imported, which is below: more threads only get in each other's way.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        order = handover.read_order(os.environ.get(handover.VARIABLE, ""))
    except BadOrder as error:
        log.error("worker.not_started code=%s why=%s", error.code, error)
        return STARTED_WRONGLY
    if order.nice:
        os.nice(order.nice)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work(order))


async def work(order: handover.WorkerOrder) -> int:
    """Serve until told to retire or left alone; gives back the exit code."""
    from edge_agent.cascade.ports import InferRequest, Terms
    from edge_agent.cascade.privacy import Ruled
    from edge_agent.cascade.run import Cascade
    from edge_agent.engine import Engine
    from edge_agent.governor.sparing import Sparing
    from edge_agent.inlets import open_source
    from edge_agent.lookups import open_sources
    from edge_agent.risk import key
    from edge_agent.risk.audit import Audits
    from edge_agent.sources.arrays import Kind

    clock = SystemClock()
    retire = asyncio.Event()
    remembered, serving = asyncio.Event(), asyncio.Event()
    told: list[bytearray] = []
    recent = Recent()

    sparing = Sparing()
    chosen: Audits | None = None

    def in_force(said: handover.Terms) -> Terms:
        return Terms(
            threshold=said.threshold,
            certificate=said.certificate if said.mode != "uncertified" else "",
            certified_risk=said.certified_risk,
            curve=said.curve,
            uncertified=said.why if said.mode == "safe" else engine.uncertified,
        )

    def on_frame(frame: Frame) -> None:
        try:
            said = handover.read_to_worker(frame.meta)
        except MalformedMessage as error:
            log.warning("worker.not_understood why=%s", error)
            return
        match said:
            case handover.Retire():
                retire.set()
            case handover.Conditions():
                cascade.weather = _weather(said)  # like `Terms`, after `Ready`
            case handover.Terms():
                cascade.terms = in_force(said)
            case handover.Sparing(part, slowed, refusing):
                sparing.told(sources=slowed, refusing=refusing)
                if chosen is not None:
                    chosen.rarer(part)
            case handover.Remember():
                told.append(frame.body)
                remembered.set()
                if serving.is_set():
                    remember()
            case handover.Answer() | handover.NoAnswer():
                ask.heard(said, order.task)

    line = await Line.open(socket.socket(fileno=order.control_fd), on_frame)
    ask = SupervisorAsk(line)
    try:
        engine = Engine.load(
            Path(order.package),
            digest=order.digest,
            clock=clock,
            thread=lambda: ThreadRunner("engine"),
            place=order.place,
            sources=None
            if order.place is None
            else open_sources(order.place, clock, Path(order.package)),
            queue=order.queue,
        )
        if engine.task != order.task:
            raise BadOrder(f"package {order.package} is of task {engine.task}, not {order.task}")
    except (ModelsError, AgentError) as error:
        log.error("worker.failed code=%s why=%s", error.code, error)
        line.send(handover.Failed(error.code, str(error)))
        await line.close()
        return DOES_NOT_RUN
    pipe = RecordPipe(order.record_fd, lambda count: line.send(handover.Missed(count)))
    audits: SupervisorAudits | None = None
    place = order.place
    promises = engine.threshold is not None and engine.signed.feasible
    if (
        promises
        and place is not None
        and place.audit_share
        and (secret := key.read(Path(place.data)))
    ):
        chosen = Audits(secret, place.audit_share)
        audits = SupervisorAudits(line, chosen)
    cascade = Cascade(
        engine=engine,
        ask=ask,
        records=pipe,
        clock=clock,
        device=order.device,
        privacy=None if order.place is None else Ruled(order.place.privacy),
        audits=audits,
    )
    for one in order.terms:
        if one.signed == engine.signed.id and engine.uncertified is None:
            cascade.terms = in_force(one.terms)

    def answer(infer: Infer, data: bytes | bytearray | memoryview, received: float) -> Given:
        if (known := recent.find(infer.client, infer.id)) is not None:
            return known
        if sparing.refusing:
            return Refused(infer.id, Overloaded.code, sparing.refusing)
        request = InferRequest(
            id=infer.id,
            client=infer.client,
            dtype=infer.dtype,
            shape=infer.shape,
            data=data,
            deadline_ms=infer.deadline_ms,
            received=received,
            until=frames.moment(infer, received),
        )
        for missed in infer.unanswered:
            ask.unanswered(missed[:128])
        try:
            given = cascade.begin(request)
        except SupervisorGone:
            raise
        except (ModelsError, AgentError) as error:
            if isinstance(error, DeadlineExceeded):
                ask.unanswered(infer.id)
            return Refused(infer.id, error.code, str(error))
        if isinstance(given, Reply):
            return recent.keep(infer.client, given)
        return recent.keep_later(infer.client, _in_time(infer.id, given, ask))

    def remember() -> None:
        bodies = told[:]
        told.clear()
        for body in bodies if engine.label_says_all else ():
            for packed in handover.split_records(body)[0]:
                record = codec.decode_record(packed[handover.RECORD_LENGTH.size :])
                if isinstance(record, v1.Answered):
                    recent.told(record, engine.uncertified)

    async def answer_source(infer: Infer, data: bytes) -> Reply | Refused:
        if not sparing.takes_from_source():
            return Refused(infer.id, Overloaded.code, "the device spares itself; sources wait")
        return await _waited(answer(infer, data, clock.monotonic()))

    api = LocalApi(socket.socket(fileno=order.listen_fd), answer, clock)
    files = ThreadRunner("source")
    sources: list[asyncio.Task[None]] = []
    if order.source is not None:
        source = open_source(
            order.source,
            task=order.task,
            data="" if order.place is None else order.place.data,
            run="" if order.place is None else order.place.run,
            kind=Kind(engine.input_dtype, engine.input_shape),
            answer=answer_source,
            records=pipe,
            runner=files,
            clock=clock,
            tell=lambda state: line.send(handover.SourceSaid(state)),
        )
        sources.append(asyncio.create_task(source.run()))
        sources[-1].add_done_callback(_tell_if_broken)
    # What is here now stays: the collector need not look at it again in the middle of a request.
    gc.collect()
    gc.freeze()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, retire.set)
    if order.remembers:
        with contextlib.suppress(TimeoutError):  # then it serves all the same
            await asyncio.wait_for(remembered.wait(), REMEMBER_S)
    remember()
    serving.set()
    api.start()
    line.send(
        handover.Ready(
            engine.task,
            engine.version,
            engine.digest,
            os.getpid(),
            runs_on=engine.runs_on,
            uncertified=engine.uncertified,
            certificate=replace(engine.signed, gain=None),  # which is the worker's to use
            given=InputGiven(engine.input_name, engine.input_dtype, engine.input_shape),
        )
    )
    beating = asyncio.create_task(_beat(line, engine))
    log.info(
        "worker.ready task=%s version=%s run_us=%.0f runs_on=%r",
        engine.task,
        engine.version,
        engine.typical_s * 1e6,
        engine.runs_on.why,
    )
    try:
        return await _until_the_end(line, retire, api, sources, pipe, ask)
    finally:
        beating.cancel()
        engine.close()
        files.close()


async def _beat(line: Line, engine: "Engine") -> None:
    """Tell the supervisor's watchdog that the loop turns, and how long the model has been busy."""
    page = os.sysconf("SC_PAGESIZE")
    statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    try:
        while True:
            await asyncio.sleep(handover.BEAT_S / (2 if engine.running_s else 1))
            rss_bytes = int(os.pread(statm, 64, 0).split()[1]) * page
            line.send(handover.Alive(engine.running_s, engine.p99_s, rss_bytes))
    finally:
        os.close(statm)


async def _until_the_end(
    line: Line,
    retire: asyncio.Event,
    api: LocalApi,
    sources: list[asyncio.Task[None]],
    pipe: RecordPipe,
    ask: SupervisorAsk,
) -> int:
    told = asyncio.ensure_future(retire.wait())
    await asyncio.wait((line.gone, told), return_when=asyncio.FIRST_COMPLETED)
    for source in sources:
        source.cancel()
    if not line.gone.done():
        drained = asyncio.ensure_future(_drained(api, sources))
        await asyncio.wait((line.gone, drained), return_when=asyncio.FIRST_COMPLETED)
        if drained.done():
            pipe.tell()
            ask.tell()
            line.send(handover.Drained())
            await line.close()
            log.info("worker.drained")
            return DRAINED
    log.warning("worker.left_alone")
    return SUPERVISOR_GONE


async def _drained(api: LocalApi, sources: list[asyncio.Task[None]]) -> None:
    """Both end what they have begun."""
    await asyncio.gather(api.retire(), *sources, return_exceptions=True)


async def _waited(given: Given) -> Reply | Refused:
    return given if isinstance(given, Reply | Refused) else await given


async def _in_time(request_id: str, given: Awaitable[Reply], ask: SupervisorAsk) -> Reply | Refused:
    try:
        return await given
    except SupervisorGone:
        raise
    except DeadlineExceeded as error:
        ask.unanswered(request_id)
        return Refused(request_id, error.code, str(error))
    except (ModelsError, AgentError) as error:
        return Refused(request_id, error.code, str(error))


def _weather(said: handover.Conditions) -> value.Weather:
    return value.weather(
        up=said.up,
        round_trips=said.round_trips,
        left=said.left,
        price=said.price,
        call_cost=said.call_cost,
        byte_cost=said.byte_cost,
        revision_worth=said.revision_worth,
        wait_cost=said.wait_cost,
    )


def _tell_if_broken(source: asyncio.Task[None]) -> None:
    """A source that broke takes nothing else with it, but it is not silent either."""
    if not source.cancelled() and (error := source.exception()) is not None:
        log.error("worker.source_broken", exc_info=error)


if __name__ == "__main__":
    sys.exit(main())
