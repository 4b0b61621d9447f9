"""The elements of one tensor: their size, and their bytes as JSON and back.

Bytes are row-major and little-endian. An element of BYTES is a 4-byte length and as many bytes; in
JSON it is a string. No numpy: a supervisor reads these too.
"""

import math
import struct
from collections.abc import Iterator, Sequence
from typing import TypeVar

import msgspec

from sync.errors import MalformedMessage
from sync.wire.v1 import Tensor

ELEMENT_BYTES = {
    "BOOL": 1,
    "UINT8": 1,
    "INT8": 1,
    "UINT16": 2,
    "INT16": 2,
    "UINT32": 4,
    "INT32": 4,
    "UINT64": 8,
    "INT64": 8,
    "FP16": 2,
    "FP32": 4,
    "FP64": 8,
}
"""Every datatype but BYTES, whose elements have no fixed size."""

_STRUCT_CODE = dict(zip(ELEMENT_BYTES, "?BbHhIiQqefd", strict=True))
_encoder = msgspec.json.Encoder()
_any_list = msgspec.json.Decoder(list[object])
_texts = msgspec.json.Decoder(list[str])
_truths = msgspec.json.Decoder(list[bool])
_numbers = msgspec.json.Decoder(list[float])
_whole_numbers = msgspec.json.Decoder(list[int])
T = TypeVar("T")


def pack_text(elements: Sequence[str]) -> bytes:
    """The bytes of a BYTES tensor that holds these texts."""
    return pack_bytes([element.encode() for element in elements])


def pack_bytes(elements: Sequence[bytes]) -> bytes:
    """The bytes of a BYTES tensor."""
    return b"".join(struct.pack("<I", len(one)) + one for one in elements)


def unpack_bytes(data: bytes) -> Iterator[bytes]:
    """The elements of a BYTES tensor. Raises `MalformedMessage`."""
    at = 0
    while at < len(data):
        if len(data) - at < 4:
            raise MalformedMessage("a BYTES tensor ends inside a length")
        (size,) = struct.unpack_from("<I", data, at)
        at += 4 + size
        if at > len(data):
            raise MalformedMessage(f"a BYTES tensor ends inside an element of {size} bytes")
        yield data[at - size : at]


def to_json(tensor: Tensor) -> bytes:
    """The elements as a flat JSON array. Raises `MalformedMessage` for what JSON cannot say."""
    if tensor.datatype == "BYTES":
        try:
            texts = [element.decode() for element in unpack_bytes(tensor.data)]
        except UnicodeDecodeError as error:
            raise MalformedMessage(
                f"tensor {tensor.name!r} holds bytes that are no text; send it in binary form"
            ) from error
        return _encoder.encode(texts)
    count = len(tensor.data) // ELEMENT_BYTES[tensor.datatype]
    values = struct.unpack(f"<{count}{_STRUCT_CODE[tensor.datatype]}", tensor.data)
    if tensor.datatype.startswith("FP") and not all(map(math.isfinite, values)):
        raise MalformedMessage(
            f"tensor {tensor.name!r} holds NaN or infinity, which JSON cannot say; "
            "ask for it in binary form"
        )
    return _encoder.encode(values)


def from_json(datatype: str, shape: Sequence[int], data: bytes, count: int) -> bytes:
    """The bytes of `count` elements in JSON, flat or nested. Raises `MalformedMessage`.

    Nested data must have the very shape that is claimed.
    """
    values: Sequence[float]
    match datatype:
        case "BYTES":
            return pack_text(_read(_texts, data, shape, count))
        case "BOOL":
            truths = _read(_truths, data, shape, count)
            values = truths
        case "FP16" | "FP32" | "FP64":
            values = _read(_numbers, data, shape, count)
        case _:
            whole = _read(_whole_numbers, data, shape, count)
            values = whole
    try:
        return struct.pack(f"<{count}{_STRUCT_CODE[datatype]}", *values)
    except (struct.error, OverflowError) as error:
        raise MalformedMessage(f"a value does not fit {datatype}: {error}") from error


def _read(
    decoder: msgspec.json.Decoder[list[T]], data: bytes, shape: Sequence[int], count: int
) -> list[T]:
    try:
        try:
            values = decoder.decode(data)
        except msgspec.ValidationError:
            nested = _any_list.decode(data)
            if not nested or not isinstance(nested[0], list):
                raise
            flat: list[object] = []
            _flatten(nested, shape, flat)
            values = decoder.decode(_encoder.encode(flat))
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedMessage(f"data is not of the tensor's type: {error}") from error
    if len(values) != count:
        raise MalformedMessage(f"data holds {len(values)} elements")
    return values


def _flatten(values: object, shape: Sequence[int], into: list[object]) -> None:
    if not shape:
        into.append(values)
        return
    if not isinstance(values, list) or len(values) != shape[0]:
        raise MalformedMessage("the nesting of the data does not follow the shape")
    for value in values:
        _flatten(value, shape[1:], into)
