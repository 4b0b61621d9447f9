"""`longstop-agent infer`: one input through the SDK, as any program would send it."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_agent.errors import BadRequest
from edge_agent.sdk import Answer, Client


def from_file(path: Path) -> npt.NDArray[np.generic]:
    """The array in a .npy file. Raises `BadRequest`."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadRequest(f"{path} holds no array: {error}; save one with numpy.save") from error
    if not isinstance(found, np.ndarray):
        raise BadRequest(f"{path} holds several arrays; save one alone with numpy.save")
    return found


def from_json(text: str, dtype: str) -> npt.NDArray[np.generic]:
    """The array written as JSON. Raises `BadRequest`."""
    try:
        return np.array(json.loads(text), dtype=np.dtype(dtype))
    except (ValueError, TypeError) as error:
        raise BadRequest(
            f"this is no array of {dtype}: {error}; write it as [[1, 2], [3, 4]]"
        ) from error


def infer(
    run: Path | None, task: str | None, given: npt.NDArray[np.generic], deadline_ms: float
) -> Answer:
    """The device's answer. Raises the SDK's errors."""
    with Client(task, name="longstop-agent", run=run) as client:
        return client.infer(given, deadline_ms=deadline_ms)


def as_json(answer: Answer) -> str:
    return json.dumps(dataclasses.asdict(answer))


def line(answer: Answer) -> str:
    """For a person."""
    sure = "no confidence" if answer.confidence is None else f"{answer.confidence:.1%} sure"
    kind = "final" if answer.final else "provisional, the cloud's answer is still owed"
    milliseconds = answer.timings.round_trip_us / 1000
    return (
        f"{answer.label} ({sure}) from {answer.source} {answer.version}, {kind}"
        f" [{answer.reason}], {milliseconds:.1f} ms"
    )
