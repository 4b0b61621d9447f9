"""Questions on a local broker: topics and payloads to what is asked. No I/O.

1. `<task>/infer` is one JSON object; in `<task>/infer/<id>` the payload is the input itself: one
   picture, sound, text or record, or the numbers of an array as they lie in memory.
2. An answer goes to `<task>/answer/<client>` where the question names its client, else to
   `<task>/answer/<id>`. A question that names neither is told so on `refused`.
3. An array in JSON has the task's own type unless told, and the shape of its nesting; a flat one
   with as many numbers as the task takes has the task's shape.
4. A text in JSON is a text where the task takes one, else bytes in base64.
"""

import base64
import binascii
import math
from collections.abc import Callable

import msgspec
from msgspec import Struct

from edge_agent.local_api.callers import DATATYPES, Sample, whole
from edge_agent.sdk import errors as sdk
from edge_agent.sdk.call import checked_deadline_ms, checked_id
from edge_agent.sdk.places import checked_name
from edge_agent.sdk.wire import MAX_BODY
from edge_agent.workplace import Given
from sync.errors import MalformedMessage
from sync.wire.elements import ELEMENT_BYTES, from_json

CLIENT = "local-mqtt"
"""Who asks where nobody is named."""
REFUSED = "refused"
MOST_JSON = 1 << 20
"""Bytes of a question in JSON; what is larger goes raw, and holds up nobody while it is read."""
SUBSCRIPTIONS = ("+/infer", "+/infer/+", "+/feedback", "status/get", "revision/+/get")
_WHOLE = ("bytes", "text", "record")

Id = str | int
GivenOf = Callable[[str], Given | None]
"""What a task takes. Raises `UnknownTask`, `AgentUnavailable`."""


class Asked(Struct, frozen=True):
    """One input. `id`: as the caller wrote it, None where it wrote none."""

    task: str
    client: str
    id: Id | None
    to: str
    """Topic of the answer."""
    deadline_ms: float
    sample: Sample


class FeedbackGiven(Struct, frozen=True):
    """The right answer to an earlier request."""

    task: str
    client: str
    request_id: str
    label: str
    to: str


class StatusAsked(Struct, frozen=True):
    """How is the device?"""


class RevisionsAsked(Struct, frozen=True):
    """This client is here to hear its revisions."""

    client: str


Question = Asked | FeedbackGiven | StatusAsked | RevisionsAsked


class Unfit(Exception):
    """A question that is answered by an error. `to`: on this topic."""

    def __init__(self, to: str, id: Id | None, code: str, words: str) -> None:
        super().__init__(words)
        self.to, self.id, self.code = to, id, code


class _Infer(Struct, frozen=True, forbid_unknown_fields=True):
    input: msgspec.Raw
    id: Id | None = None
    client: str | None = None
    deadline_ms: float | None = None
    dtype: str | None = None
    shape: tuple[int, ...] | None = None


class _Feedback(Struct, frozen=True, forbid_unknown_fields=True):
    request_id: str
    label: str
    client: str = CLIENT


class _From(Struct, frozen=True):
    """Whom an answer would go to, read where all else may be wrong."""

    id: object = None
    client: object = None


_infer = msgspec.json.Decoder(_Infer)
_feedback = msgspec.json.Decoder(_Feedback)
_from = msgspec.json.Decoder(_From)
_BAD = (sdk.LongstopError, MalformedMessage)


def read(topic: str, payload: bytes, given_of: GivenOf, deadline_ms: float) -> Question:
    """What is asked. `topic`: without the prefix. Raises `Unfit`."""
    match topic.split("/"):
        case ["status", "get"]:
            return StatusAsked()
        case ["revision", client, "get"]:
            try:
                return RevisionsAsked(checked_name("client", client))
            except sdk.BadArgument as error:
                raise Unfit(REFUSED, None, error.code, str(error)) from error
        case [task, "infer"]:
            return _asked(task, payload, given_of, deadline_ms)
        case [task, "infer", request_id]:
            to = _answer_topic(task, None, request_id)
            try:
                _check_request_id(request_id)
                sample = _raw(payload, given_of(task))
            except _BAD as error:
                raise Unfit(to, request_id, error.code, str(error)) from error
            return Asked(task, CLIENT, request_id, to, deadline_ms, sample)
        case [task, "feedback"]:
            return _told(task, payload)
        case _:
            raise Unfit(REFUSED, None, "not_found", f"nothing is asked on {topic[:200]!r}")


def _asked(task: str, payload: bytes, given_of: GivenOf, deadline_ms: float) -> Asked:
    if len(payload) > MOST_JSON:
        raise Unfit(
            REFUSED,
            None,
            sdk.InputTooLarge.code,
            f"a question of {len(payload)} bytes of JSON; what is over {MOST_JSON} goes raw, on"
            f" {task}/infer/<id>",
        )
    known = _sender(payload)
    to = _answer_topic(task, known.client, known.id)
    mark = known.id if isinstance(known.id, str | int) else None
    try:
        said = _infer.decode(payload)
        if said.client is None and said.id is None:
            raise sdk.BadArgument('name an "id" or a "client", so that the answer finds you')
        client = CLIENT if said.client is None else checked_name("client", said.client)
        if said.id is not None:
            _check_request_id(str(said.id))
        within = deadline_ms if said.deadline_ms is None else said.deadline_ms
        checked_deadline_ms(within)
        sample = _sample(said, given_of(task))
    except _BAD as error:
        raise Unfit(to, mark, error.code, str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unfit(to, mark, "bad_request", f"this is no question: {error}") from error
    return Asked(task, client, said.id, to, within, sample)


def _told(task: str, payload: bytes) -> FeedbackGiven:
    known = _sender(payload)
    to = _answer_topic(task, known.client, None)
    try:
        said = _feedback.decode(payload)
        checked_name("client", said.client)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unfit(to, None, "bad_request", f"this is no feedback: {error}") from error
    except sdk.BadArgument as error:
        raise Unfit(to, None, error.code, str(error)) from error
    to = _answer_topic(task, said.client, None)
    return FeedbackGiven(task, said.client, said.request_id, said.label, to)


def _sender(payload: bytes) -> _From:
    try:
        return _from.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _From()


def _answer_topic(task: str, client: object, request_id: object) -> str:
    """Where an answer goes; `refused` for names that can be no part of a topic."""
    for argument, name in (("task", task), ("client", client)):
        if name is not None:
            try:
                checked_name(argument, name)
            except sdk.BadArgument:
                return REFUSED
    if client is not None:
        return f"{task}/answer/{client}"
    if isinstance(request_id, str | int) and not isinstance(request_id, bool):
        try:
            _check_request_id(str(request_id))
        except sdk.BadArgument:
            return REFUSED
        return f"{task}/answer/{request_id}"
    return REFUSED


def _check_request_id(request_id: str) -> None:
    checked_id(request_id)
    if any(sign in request_id for sign in "/+#"):
        raise sdk.BadArgument(f"the id {request_id!r} holds one of / + #, which topics keep")


def _raw(payload: bytes, given: Given | None) -> Sample:
    if given is None or given.dtype in _WHOLE:
        return whole(payload, "bytes" if given is None else given.dtype)
    return Sample(payload, given.dtype, given.shape)


def _sample(said: _Infer, given: Given | None) -> Sample:
    written = bytes(said.input).strip()
    kind = "bytes" if given is None else given.dtype
    match written[:1]:
        case b"[":
            return _array(written, said, given)
        case b"{":
            return whole(written, "record")
        case b'"':
            text = msgspec.json.decode(written, type=str)
            if kind == "text":
                return Sample(text, said.dtype, said.shape)
            data = _from_base64(text, kind)
            if said.dtype is not None or said.shape is not None or kind not in _WHOLE:
                own = None if given is None or kind in _WHOLE else given
                dtype = said.dtype or (None if own is None else own.dtype)
                shape = said.shape if said.shape is not None or own is None else own.shape
                return Sample(data, dtype, shape)
            return whole(data, kind)
        case _:
            raise sdk.UnsupportedInput(
                f"{written[:40].decode(errors='replace')} is no input; send an array, a text, a"
                " record of named values, or bytes in base64"
            )


def _array(written: bytes, said: _Infer, given: Given | None) -> Sample:
    own = None if given is None or given.dtype in _WHOLE else given
    dtype = said.dtype or ("float32" if own is None else own.dtype)
    datatype = DATATYPES.get(dtype)
    if datatype is None:
        raise sdk.WrongDtype(f"dtype {dtype!r} is unknown; use one of {', '.join(DATATYPES)}")
    shape = said.shape
    if shape is None:
        shape = _nesting(msgspec.json.decode(written))
        if own is not None and len(shape) == 1 and shape[0] == math.prod(own.shape):
            shape = own.shape
    if any(axis < 0 for axis in shape):
        raise sdk.BadArgument(f"shape {list(shape)} has an axis below 0")
    count = math.prod(shape)
    if count * ELEMENT_BYTES[datatype] > MAX_BODY:
        raise sdk.InputTooLarge(f"{dtype} of shape {list(shape)} is over {MAX_BODY} bytes")
    return Sample(from_json(datatype, shape, written, count), dtype, shape)


def _nesting(values: object) -> tuple[int, ...]:
    shape = []
    while isinstance(values, list):
        shape.append(len(values))
        values = values[0] if values else None
    return tuple(shape)


def _from_base64(text: str, kind: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise sdk.UndecodableInput(
            f"the task takes {kind}, and this text is no base64: {error}"
        ) from error
