"""Newline-delimited JSON from a descriptor: one input a line.

1. An array is an array, a string is a text, an object is a record.
2. An object of nothing but `id` and either `input` or `file` says what its input is called: `input`
   is one of the three above, `file` the path of an encoded picture or sound.
3. Empty lines are none. What cannot be read is named, and the next line is read.
"""

import asyncio
import math
import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from edge_agent.errors import BadRequest

MAX_LINE = 64 << 20
"""Bytes; four times the largest input, since numbers are longer as text."""
_READ_BYTES = 256 << 10
_ENVELOPES = ({"input"}, {"id", "input"}, {"file"}, {"id", "file"})

Given = npt.NDArray[np.generic] | bytes | str | dict[str, object]


class Line(Struct, frozen=True):
    """One line. `given`: what it holds, or why it holds nothing."""

    number: int
    """The first is 1; empty ones count."""
    id: str | int | None
    """What the line calls its input."""
    given: Given | BadRequest


def read(text: bytes, number: int, dtype: str) -> Line:
    """What stands in a line; arrays are made of this type."""
    try:
        said: object = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Line(number, None, BadRequest(f"line {number} is no JSON: {error}"))
    name: str | int | None = None
    try:
        if isinstance(said, dict) and set(said) in _ENVELOPES:
            name = _name(said.get("id"))
            if "file" in said:
                return Line(number, name, _file(said["file"]))
            said = said["input"]
        return Line(number, name, _given(said, dtype))
    except BadRequest as error:
        return Line(number, name, BadRequest(f"line {number}: {error}"))


async def lines(descriptor: int) -> AsyncIterator[bytes]:
    """Lines as they come, without their ends; the last may have none. Raises `BadRequest`."""
    begun = bytearray()
    async for data in _pieces(descriptor):
        begun += data
        *whole, rest = begun.split(b"\n")
        for line in whole:
            yield bytes(line)
        begun = rest
        if len(begun) > MAX_LINE:
            raise BadRequest(f"a line of more than {MAX_LINE} bytes; is this one JSON a line?")
    if begun:
        yield bytes(begun)


async def _pieces(descriptor: int) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(descriptor, ready.set)
    except PermissionError:  # a plain file, which never makes anybody wait
        while data := os.read(descriptor, _READ_BYTES):
            yield data
            await asyncio.sleep(0)
        return
    try:
        while True:
            await ready.wait()
            ready.clear()
            data = os.read(descriptor, _READ_BYTES)
            if not data:
                return
            loop.remove_reader(descriptor)  # while nobody wants more, the writer waits
            yield data
            loop.add_reader(descriptor, ready.set)
    finally:
        loop.remove_reader(descriptor)


def _given(said: object, dtype: str) -> Given:
    match said:
        case str() | dict():
            return said
        case list():
            return _array(said, dtype)
        case _:
            raise BadRequest(
                f"{said!r} is no input; write an array, a text, or a record of named values"
            )


def _array(said: list[object], dtype: str) -> npt.NDArray[np.generic]:
    try:
        return np.array(said, dtype=np.dtype(dtype))
    except (ValueError, TypeError, OverflowError) as error:
        raise BadRequest(
            f"this is no array of {dtype}: {error}; write it as [[1, 2], [3, 4]]"
        ) from error


def _file(said: object) -> bytes:
    if not isinstance(said, str):
        raise BadRequest(f"{said!r} is no path of a file")
    try:
        return Path(said).read_bytes()
    except (OSError, ValueError) as error:
        raise BadRequest(f"{said} cannot be read: {error}; check the path") from error


def _name(said: object) -> str | int | None:
    if said is None or (isinstance(said, str | int) and not isinstance(said, bool)):
        return said
    if isinstance(said, float) and math.isfinite(said) and said.is_integer():
        return int(said)
    raise BadRequest(f"the id {said!r} is neither a text nor a number")
