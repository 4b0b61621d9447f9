"""Samples in the messages of a sensor: several values at one moment. Pure.

A message holds one sample or several, in one of three formats:

1. `json`: an object, whose fields are named in the settings; an array of numbers; or an array of
   either. Arrays have their columns in the order of `fields`, or every column is a channel.
2. `csv`: a line of numbers for each sample, with commas between; columns as for JSON arrays.
3. `raw`: float32 in little-endian order, sample after sample, one number for each channel.
"""

import csv
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import Struct

from edge_agent.sources.arrays import Unreadable

_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
MOST_SAMPLES = 100_000
"""Of one message."""


class Format(Struct, frozen=True):
    """How messages are to be read."""

    channels: int
    name: str = "json"
    fields: tuple[str, ...] = ()
    time: str = ""
    """The field that holds the time; it is no channel."""
    time_unit: str = "s"


class Sample(NamedTuple):
    """One moment. `at` in seconds by the sensor's own clock; None where it tells none."""

    at: float | None
    values: tuple[float, ...]


def read(payload: bytes, how: Format) -> list[Sample]:
    """The samples of a message, at least one. Raises `Unreadable`."""
    match how.name:
        case "raw":
            found = _raw(payload, how)
        case "csv":
            found = _csv(payload, how)
        case _:
            found = _json(payload, how)
    if not 0 < len(found) <= MOST_SAMPLES:
        raise Unreadable("unreadable", f"a message of {len(found)} samples")
    return found


def _raw(payload: bytes, how: Format) -> list[Sample]:
    if len(payload) % (4 * how.channels):
        raise Unreadable(
            "unreadable", f"{len(payload)} bytes are no float32 of {how.channels} channels"
        )
    rows = np.frombuffer(payload, "<f4").reshape(-1, how.channels)
    return [Sample(None, tuple(map(float, row))) for row in rows]


def _csv(payload: bytes, how: Format) -> list[Sample]:
    try:
        lines = payload.decode().splitlines()
    except UnicodeDecodeError as error:
        raise Unreadable("unreadable", f"no text: {error}") from error
    return [_columns(row, how) for row in csv.reader(lines) if row]


def _json(payload: bytes, how: Format) -> list[Sample]:
    try:
        said: object = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable("unreadable", f"no JSON: {error}") from error
    if isinstance(said, list) and said and isinstance(said[0], list | dict):
        return [_one(row, how) for row in said]
    return [_one(said, how)]


def _one(said: object, how: Format) -> Sample:
    if isinstance(said, dict):
        return _named(said, how)
    if isinstance(said, list):
        return _columns(said, how)
    return _columns([said], how)


def _named(said: Mapping[object, object], how: Format) -> Sample:
    if not how.fields:
        raise Unreadable("unreadable", "an object, and the settings name no fields of it")
    wanted = [name for name in how.fields if name != how.time]
    return _sample(said.get(how.time) if how.time else None, map(said.get, wanted), how)


def _columns(row: list[object] | list[str], how: Format) -> Sample:
    values: list[object] = list(row)
    at: object = None
    if how.time:
        if how.time not in how.fields:
            raise Unreadable("unreadable", f"the settings' fields have no column {how.time!r}")
        place = how.fields.index(how.time)
        at = values.pop(place) if place < len(values) else None
    return _sample(at, values, how)


def _sample(at: object, values: Iterable[object], how: Format) -> Sample:
    numbers = tuple(_number(value) for value in values)
    if len(numbers) != how.channels:
        raise Unreadable("unreadable", f"{len(numbers)} values, not {how.channels}")
    if not how.time:
        return Sample(None, numbers)
    seconds = _number(at) * _UNITS[how.time_unit]
    if not math.isfinite(seconds):
        raise Unreadable("unreadable", f"{at!r} is no time")
    return Sample(seconds, numbers)


def _number(value: object) -> float:
    if isinstance(value, int | float | str):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise Unreadable("unreadable", f"{value!r} is no number")
