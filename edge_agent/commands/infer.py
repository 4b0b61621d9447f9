"""`longstop-agent infer`: one input through the SDK, as any program would send it."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_agent.errors import BadRequest
from edge_agent.sdk import Answer, Client

_WHOLE = (".jpg", ".jpeg", ".png", ".wav")
Given = npt.NDArray[np.generic] | bytes | str | dict[str, object]
"""What the SDK takes: an array, an encoded picture or sound, a text, a record."""


def from_file(path: Path) -> Given:
    """The input in a file, whose name says what it holds. Raises `BadRequest`."""
    try:
        match path.suffix.lower():
            case ".npy":
                return _array(path)
            case ".txt":
                return path.read_text(encoding="utf-8")
            case ".json":
                return _record(path)
            case suffix if suffix in _WHOLE:
                return path.read_bytes()
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise BadRequest(f"{path} is no text: {error}; save it in UTF-8") from error
    raise BadRequest(
        f"{path.name} is no kind of file that can be sent; an array is a .npy file (numpy.save), a "
        "picture .jpg or .png, a sound .wav, a text .txt, and a record .json"
    )


def _array(path: Path) -> npt.NDArray[np.generic]:
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise BadRequest(f"{path} holds no array: {error}; save one with numpy.save") from error
    if not isinstance(found, np.ndarray):
        raise BadRequest(f"{path} holds several arrays; save one alone with numpy.save")
    return found


def _record(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise BadRequest(
            f'{path} is no JSON: {error}; write a record as {{"amount": 3}}'
        ) from error
    if not isinstance(found, dict):
        raise BadRequest(
            f'{path} holds no record: write one as {{"amount": 3}}; an array goes as a .npy file'
            " or by --json-array"
        )
    return found


def from_json(text: str, dtype: str) -> npt.NDArray[np.generic]:
    """The array written as JSON. Raises `BadRequest`."""
    try:
        return np.array(json.loads(text), dtype=np.dtype(dtype))
    except (ValueError, TypeError) as error:
        raise BadRequest(
            f"this is no array of {dtype}: {error}; write it as [[1, 2], [3, 4]]"
        ) from error


def infer(run: Path | None, task: str | None, given: Given, deadline_ms: float) -> Answer:
    """The device's answer. Raises the SDK's errors."""
    with Client(task, name="longstop-agent", run=run) as client:
        return client.infer(given, deadline_ms=deadline_ms)


def as_json(answer: Answer) -> str:
    return json.dumps(dataclasses.asdict(answer))


def line(answer: Answer) -> str:
    """For a person."""
    sure = "no confidence" if answer.confidence is None else f"{answer.confidence:.1%} sure"
    kind = "final" if answer.final else "provisional, the cloud's answer is still owed"
    warning = "" if answer.uncertified is None else f"; uncertified: {answer.uncertified}"
    milliseconds = answer.timings.round_trip_us / 1000
    return (
        f"{answer.label} ({sure}) from {answer.source} {answer.version}, {kind}"
        f" [{answer.reason}], {milliseconds:.1f} ms{warning}"
    )
