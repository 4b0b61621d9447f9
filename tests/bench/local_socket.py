"""What the SDK, a Unix socket and the worker's server cost beyond an answer in process."""

import contextlib
from pathlib import Path
from time import perf_counter_ns

from edge_agent.local_api import frames
from edge_agent.sdk import Client
from edge_agent.sdk.call import Call
from edge_agent.sdk.tensor import tensor_of
from models.tensors import Sample
from tests.bench import plain_socket
from tests.bench.in_process import DEADLINE_MS, InProcess, in_process
from tests.bench.lone_worker import lone_worker
from tests.bench.measure import Measure, interleaved, median, over, typical_us
from tests.bench.plain_socket import BytesCaller, ListCaller
from tests.bench.rows import InputRow
from tests.bench.setting import NotMeasured

_RUNS = 100
_LIST_RUNS = 1


def measure(task: str, folder: Path, raw: Sample, home: Path, *, rounds: int) -> InputRow:
    """In process, through the SDK, the floor and the control, in turn. Raises `NotMeasured`."""
    with contextlib.ExitStack() as stack:
        here = stack.enter_context(in_process(folder, raw))
        stack.enter_context(lone_worker(folder, task, home))
        client = stack.enter_context(Client(task, run=home))
        request, reply = _sizes(task, raw, here)
        floor_at, control_at = home / f"{task}-bytes", home / f"{task}-list"
        stack.enter_context(plain_socket.serving("bytes", floor_at, request, reply))
        stack.enter_context(plain_socket.serving("list", control_at, request, reply))
        floor = stack.enter_context(contextlib.closing(BytesCaller(floor_at, request, reply)))
        control = ListCaller(control_at, raw)
        measures: list[Measure] = [
            lambda: here.raw_us(_RUNS),
            lambda: here.cascade_us(_RUNS),
            lambda: _sdk_us(client, raw),
            lambda: floor.round_trip_us(_RUNS),
            lambda: control.round_trip_us(_LIST_RUNS),
        ]
        for warm_up in measures:
            warm_up()
        raw_us, cascade_us, sdk_us, floor_us, control_us = interleaved(rounds, measures)
    return InputRow(
        task=task,
        bytes=raw.nbytes,
        rounds=rounds,
        raw_run_us=median(raw_us),
        in_process_us=median(cascade_us),
        in_process_overhead_us=over(cascade_us, raw_us),
        sdk_us=median(sdk_us),
        sdk_overhead_us=over(sdk_us, cascade_us),
        best_sdk_overhead_us=round(min(sdk_us) - min(cascade_us), 1),
        floor_sdk_overhead_us=median(floor_us),
        control_sdk_overhead_us=median(control_us),
    )


def _sdk_us(client: Client, raw: Sample) -> float:
    took = []
    for _ in range(_RUNS):
        begun = perf_counter_ns()
        answer = client.infer(raw, deadline_ms=DEADLINE_MS)
        took.append(perf_counter_ns() - begun)
        if (answer.source, answer.reason) != ("edge", "confident"):
            raise NotMeasured(f"the worker answered {answer}, which is not the same work")
    return typical_us(took)


def _sizes(task: str, raw: Sample, here: InProcess) -> tuple[int, int]:
    """Bytes of a request and of its reply on the local socket, headers included."""
    call = Call(task, "bench", tensor_of(raw, dtype=None, shape=None), DEADLINE_MS, None)
    return len(call.head()) + len(call.data), len(frames.write_reply(here.reply()))
