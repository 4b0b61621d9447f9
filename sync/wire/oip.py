"""Open Inference Protocol version 2 over HTTP: bodies to tensors and back, JSON and binary.

1. A body is JSON alone, or a JSON header followed by raw tensors; then the HTTP header
   `Inference-Header-Content-Length` says where the JSON ends. One body may mix both forms.
2. Nothing is believed: the body is bounded, element counts must match the bytes, and every byte
   must belong to a tensor. What does not fit raises `MalformedMessage` or `MessageTooLarge`.
3. Shapes pass through as they are; whether there is a batch axis is the model's business.
"""

import math
from collections.abc import Collection, Sequence

import msgspec
from msgspec import Struct

from sync.errors import MalformedMessage, MessageTooLarge
from sync.wire.elements import ELEMENT_BYTES, from_json, to_json, unpack_bytes
from sync.wire.v1 import Tensor

HEADER_LENGTH = "Inference-Header-Content-Length"
MAX_BODY = 8 << 20
MAX_TENSORS = 64
MAX_RANK = 16
Parameter = bool | int | float | str
Parameters = dict[str, Parameter]
"""A mapping although mappings do not travel here: the protocol leaves the keys open."""


class WantedOutput(Struct, frozen=True):
    """An output the caller named, and the form it wants it in."""

    name: str
    binary: bool


class OipRequest(Struct, frozen=True):
    """One inference request."""

    inputs: tuple[Tensor, ...]
    id: str = ""
    parameters: Parameters = {}
    outputs: tuple[WantedOutput, ...] = ()
    """Empty: all of them, in the form `binary_output` says."""
    binary_output: bool = False

    def wants_binary(self, output: str) -> bool:
        """Whether this output is to be sent as raw bytes."""
        named = next((wanted for wanted in self.outputs if wanted.name == output), None)
        return self.binary_output if named is None else named.binary


class OipResponse(Struct, frozen=True):
    """One inference response."""

    model_name: str
    outputs: tuple[Tensor, ...]
    model_version: str = ""
    id: str = ""
    parameters: Parameters = {}


class Encoded(Struct, frozen=True):
    """A body; `header_length` is None where it is JSON alone and needs no extra HTTP header."""

    body: bytes
    header_length: int | None


class _TensorHeader(Struct, frozen=True, omit_defaults=True):
    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: Parameters = {}
    data: msgspec.Raw = msgspec.Raw()


class _OutputHeader(Struct, frozen=True, omit_defaults=True):
    name: str
    parameters: Parameters = {}


class _RequestHeader(Struct, frozen=True, omit_defaults=True):
    inputs: tuple[_TensorHeader, ...]
    id: str = ""
    parameters: Parameters = {}
    outputs: tuple[_OutputHeader, ...] = ()


class _ResponseHeader(Struct, frozen=True, omit_defaults=True):
    model_name: str
    outputs: tuple[_TensorHeader, ...]
    model_version: str = ""
    id: str = ""
    parameters: Parameters = {}


_encoder = msgspec.json.Encoder()
_request = msgspec.json.Decoder(_RequestHeader)
_response = msgspec.json.Decoder(_ResponseHeader)


def decode_request(body: bytes, header_length: int | None) -> OipRequest:
    """A request from a body and its `Inference-Header-Content-Length` (None: absent)."""
    head, rest = _split(body, header_length)
    try:
        header = _request.decode(head)
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedMessage(f"not an inference request: {error}") from error
    binary_output = header.parameters.get("binary_data_output") is True
    return OipRequest(
        inputs=_tensors(header.inputs, rest),
        id=header.id,
        parameters=header.parameters,
        outputs=tuple(
            WantedOutput(one.name, one.parameters.get("binary_data", binary_output) is True)
            for one in header.outputs
        ),
        binary_output=binary_output,
    )


def decode_response(body: bytes, header_length: int | None) -> OipResponse:
    """A response, as `decode_request`."""
    head, rest = _split(body, header_length)
    try:
        header = _response.decode(head)
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedMessage(f"not an inference response: {error}") from error
    return OipResponse(
        model_name=header.model_name,
        outputs=_tensors(header.outputs, rest),
        model_version=header.model_version,
        id=header.id,
        parameters=header.parameters,
    )


def encode_request(request: OipRequest, *, binary: bool = True) -> Encoded:
    """The body of a request, its inputs in the one form or the other."""
    names = [one.name for one in request.inputs] if binary else ()
    parameters = dict(request.parameters)
    if request.binary_output:
        parameters["binary_data_output"] = True
    header = _RequestHeader(
        inputs=_headers(request.inputs, names),
        id=request.id,
        parameters=parameters,
        outputs=tuple(
            _OutputHeader(one.name, {"binary_data": one.binary}) for one in request.outputs
        ),
    )
    return _join(_encoder.encode(header), request.inputs, names)


def encode_response(response: OipResponse, *, binary: Collection[str] = ()) -> Encoded:
    """The body of a response; `binary` names the outputs that go as raw bytes."""
    header = _ResponseHeader(
        model_name=response.model_name,
        outputs=_headers(response.outputs, binary),
        model_version=response.model_version,
        id=response.id,
        parameters=response.parameters,
    )
    return _join(_encoder.encode(header), response.outputs, binary)


def _split(body: bytes, header_length: int | None) -> tuple[memoryview, memoryview]:
    if len(body) > MAX_BODY:
        raise MessageTooLarge(f"inference body of {len(body)} bytes is over {MAX_BODY}")
    if header_length is None:
        header_length = len(body)
    if not 0 <= header_length <= len(body):
        raise MalformedMessage(
            f"{HEADER_LENGTH} is {header_length} and the body has {len(body)} bytes"
        )
    view = memoryview(body)
    return view[:header_length], view[header_length:]


def _join(head: bytes, tensors: Sequence[Tensor], binary: Collection[str]) -> Encoded:
    raw = [one.data for one in tensors if one.name in binary]
    body = b"".join([head, *raw])
    if len(body) > MAX_BODY:
        raise MessageTooLarge(f"inference body of {len(body)} bytes is over {MAX_BODY}")
    return Encoded(body, len(head) if raw else None)


def _tensors(headers: Sequence[_TensorHeader], rest: memoryview) -> tuple[Tensor, ...]:
    if len(headers) > MAX_TENSORS:
        raise MessageTooLarge(f"{len(headers)} tensors in one body; at most {MAX_TENSORS}")
    if len({one.name for one in headers}) < len(headers):
        raise MalformedMessage("two tensors of one body have the same name")
    tensors = []
    for header in headers:
        count = _count(header)
        size = header.parameters.get("binary_data_size")
        if size is None:
            data = _from_json(header, count)
        elif isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(rest):
            raise MalformedMessage(
                f"tensor {header.name!r}: binary_data_size is {size!r}, "
                f"{len(rest)} bytes are left in the body"
            )
        elif len(header.data):
            raise MalformedMessage(f"tensor {header.name!r} has both data and binary_data_size")
        else:
            data, rest = bytes(rest[:size]), rest[size:]
        _check_size(header, count, data)
        tensors.append(Tensor(header.name, header.datatype, header.shape, data))
    if len(rest):
        raise MalformedMessage(f"{len(rest)} bytes at the end of the body belong to no tensor")
    return tuple(tensors)


def _from_json(header: _TensorHeader, count: int) -> bytes:
    if not len(header.data):
        raise MalformedMessage(f"tensor {header.name!r} has neither data nor binary_data_size")
    try:
        return from_json(header.datatype, header.shape, bytes(header.data), count)
    except MalformedMessage as error:
        raise MalformedMessage(
            f"tensor {header.name!r} ({header.datatype}, shape {list(header.shape)}): {error}"
        ) from error


def _count(header: _TensorHeader) -> int:
    if header.datatype != "BYTES" and header.datatype not in ELEMENT_BYTES:
        raise MalformedMessage(f"tensor {header.name!r} has unknown datatype {header.datatype!r}")
    if len(header.shape) > MAX_RANK or any(axis < 0 for axis in header.shape):
        raise MalformedMessage(f"tensor {header.name!r} has an impossible shape")
    count = math.prod(header.shape)
    # An element takes at least one byte, four in BYTES; more elements than bytes is a lie.
    if count * ELEMENT_BYTES.get(header.datatype, 4) > MAX_BODY:
        raise MessageTooLarge(
            f"tensor {header.name!r} claims {count} elements, over {MAX_BODY} bytes"
        )
    return count


def _check_size(header: _TensorHeader, count: int, data: bytes) -> None:
    if header.datatype == "BYTES":
        found = sum(1 for _ in unpack_bytes(data))
        if found != count:
            raise MalformedMessage(
                f"tensor {header.name!r} of shape {list(header.shape)} holds {found} elements"
            )
    elif len(data) != count * ELEMENT_BYTES[header.datatype]:
        raise MalformedMessage(
            f"tensor {header.name!r} ({header.datatype}, shape {list(header.shape)}) needs "
            f"{count * ELEMENT_BYTES[header.datatype]} bytes and has {len(data)}"
        )


def _headers(tensors: Sequence[Tensor], binary: Collection[str]) -> tuple[_TensorHeader, ...]:
    headers = []
    for one in tensors:
        header = _TensorHeader(one.name, one.datatype, one.shape)
        _check_size(header, _count(header), one.data)
        if one.name in binary:
            header = msgspec.structs.replace(header, parameters={"binary_data_size": len(one.data)})
        else:
            header = msgspec.structs.replace(header, data=msgspec.Raw(to_json(one)))
        headers.append(header)
    return tuple(headers)
