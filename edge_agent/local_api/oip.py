"""What the local HTTP listener answers: Open Inference Protocol 2, and the SDK's other calls.

1. An inference goes the way of every program (`callers`).
2. The deadline is the parameter `deadline_ms` or the header `X-Deadline-Ms`; who asks is the
   parameter `client` or the header `X-Client`. Only the header `X-Request-Id` makes a request the
   same as another: `id` is the caller's own mark, and many callers never change it.
3. BYTES are one encoded file, text or JSON record, whichever the task takes.
4. Errors are `{"error": words, "code": code}` with a fitting status.
"""

import contextlib
import math
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs

import msgspec
from msgspec import Struct

from edge_agent.local_api import callers
from edge_agent.local_api.callers import DATATYPES, DTYPES, Callers, Facts, Inputs, Sample
from edge_agent.local_api.http import HttpListener, HttpRequest, HttpResponse
from edge_agent.sdk import Answer
from edge_agent.sdk import errors as sdk
from edge_agent.workplace import Given
from sync.errors import MalformedMessage, MessageTooLarge, WireError
from sync.wire import live, oip, v1
from sync.wire.elements import pack_text, unpack_bytes

DEADLINE_MS = 300.0
CLIENT = "http"
DEADLINE_HEADER, CLIENT_HEADER = live.DEADLINE_MS.lower(), "x-client"
REQUEST_ID_HEADER = live.REQUEST_ID.lower()
_STATUSES: dict[type[sdk.LongstopError], int] = {
    sdk.DeadlineExceeded: 504,
    sdk.Overloaded: 503,
    sdk.InputTooLarge: 413,
    sdk.InvalidInput: 400,
    sdk.BadArgument: 400,
    sdk.UnknownTask: 404,
    sdk.AgentUnavailable: 503,
}


class _Tensor(Struct, frozen=True):
    name: str
    datatype: str
    shape: tuple[int, ...]


class _Model(Struct, frozen=True):
    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[_Tensor, ...]
    outputs: tuple[_Tensor, ...]


class _Problem(Exception):
    """A request that is answered by an error."""

    def __init__(self, status: int, code: str, words: str) -> None:
        super().__init__(words)
        self.status, self.code = status, code


class Door:
    """Requests to answers."""

    def __init__(self, run_folder: Path, facts: Facts, version: str) -> None:
        self._callers = Callers(run_folder)
        self._facts = facts
        self._inputs = Inputs(facts)
        self._version = version

    async def respond(self, request: HttpRequest) -> HttpResponse:
        """The answer, an error's too."""
        try:
            return await self._respond(request)
        except _Problem as problem:
            return refused(problem.status, problem.code, str(problem))
        except MessageTooLarge as error:
            return refused(413, error.code, str(error))
        except (MalformedMessage, WireError) as error:
            return refused(400, error.code, str(error))
        except sdk.LongstopError as error:
            status = next((n for kind, n in _STATUSES.items() if isinstance(error, kind)), 500)
            return refused(status, error.code, str(error))

    async def close(self) -> None:
        await self._callers.close()

    async def _respond(self, request: HttpRequest) -> HttpResponse:
        match request.method, tuple(request.path.strip("/").split("/")):
            case "GET", ("v2",):
                extensions = ["binary_tensor_data"]
                return _json(
                    {"name": "longstop", "version": self._version, "extensions": extensions}
                )
            case "GET", ("v2", "health", "live"):
                return HttpResponse()
            case "GET", ("v2", "health", "ready"):
                return HttpResponse(200 if self._facts.tasks() else 503)
            case "GET", ("v2", "models", task) | ("v2", "models", task, "versions", _):
                return _json(self._model(task))
            case "GET", ("v2", "models", task, *_, "ready"):
                ready = self._facts.served(task) is not None
                return _json({"name": task, "ready": ready}, 200 if ready else 503)
            case "POST", ("v2", "models", task, *_, "infer"):
                return await self._infer(task, request)
            case "GET", ("longstop", "status"):
                async with self._callers.client(None, CLIENT) as client:
                    return _json(await client.status())
            case "GET", ("longstop", "revisions"):
                return await self._revisions(request)
            case "POST", ("longstop", "feedback"):
                return await self._feedback(request)
            case _, ("v2" | "longstop", *_):
                raise _Problem(404, "not_found", f"no {request.method} {request.path[:80]} here")
            case _:
                raise _Problem(404, "not_found", "the Open Inference Protocol begins at /v2")

    def _model(self, task: str) -> _Model:
        served = self._facts.served(task)
        if served is None:
            raise callers.unknown(self._facts, task)
        given = served.given
        return _Model(
            name=task,
            versions=(served.version,),
            platform="longstop",
            inputs=()
            if given is None
            else (_Tensor(given.name, DATATYPES.get(given.dtype, "BYTES"), given.shape or (1,)),),
            outputs=(
                _Tensor(live.LABEL, "BYTES", (1,)),
                _Tensor(live.CONFIDENCE, "FP64", (1,)),
                _Tensor(live.ANSWER, "BYTES", (1,)),
            ),
        )

    async def _infer(self, task: str, request: HttpRequest) -> HttpResponse:
        length = request.headers.get(oip.HEADER_LENGTH.lower())
        if length is not None and not (length.isdecimal() and len(length) < 12):
            raise _Problem(400, "bad_request", f"{oip.HEADER_LENGTH} {length[:80]!r} is no length")
        asked = oip.decode_request(request.body, None if length is None else int(length))
        if len(asked.inputs) != 1:
            raise _Problem(400, "bad_request", f"{len(asked.inputs)} inputs; a task takes one")
        given = self._inputs.of(task)
        name = _said(asked, "client", request.headers.get(CLIENT_HEADER, CLIENT))
        deadline = _said(asked, "deadline_ms", request.headers.get(DEADLINE_HEADER, DEADLINE_MS))
        try:
            deadline_ms = float(deadline)
        except ValueError:
            raise _Problem(400, "bad_request", f"deadline_ms {deadline!r} is no number") from None
        sample = _sample(asked.inputs[0], given)
        async with self._callers.client(task, str(name)) as client:
            answer = await client.infer(
                sample.value,
                deadline_ms=deadline_ms,
                request_id=request.headers.get(REQUEST_ID_HEADER),
                dtype=sample.dtype,
                shape=sample.shape,
            )
        return _answered(asked, answer)

    async def _revisions(self, request: HttpRequest) -> HttpResponse:
        query = parse_qs(request.query)
        try:
            wait_s = float(query.get("wait_s", ["0"])[0])
        except ValueError:
            raise _Problem(400, "bad_request", "wait_s is a number of seconds") from None
        async with self._callers.client(None, query.get("client", [CLIENT])[0]) as client:
            found = [one async for one in client.revisions(wait_s=min(wait_s, 20.0))]
        return _json({"revisions": found})

    async def _feedback(self, request: HttpRequest) -> HttpResponse:
        try:
            said = msgspec.json.decode(request.body, type=_Feedback)
        except msgspec.DecodeError as error:
            raise _Problem(400, "bad_request", f"not a feedback: {error}") from error
        async with self._callers.client(said.task, said.client) as client:
            known = await client.feedback(said.request_id, said.label)
        return _json({"known": known})


class _Feedback(Struct, frozen=True):
    task: str
    request_id: str
    label: str
    client: str = CLIENT


def refused(status: int, code: str, words: str) -> HttpResponse:
    """An error as the protocol has it, with its code."""
    headers = (("retry-after", "1"),) if status == 503 else ()
    body = msgspec.json.encode({"error": words, "code": code})
    return HttpResponse(status, body, headers=headers)


def _said(asked: oip.OipRequest, name: str, otherwise: str | float) -> str | float:
    found = asked.parameters.get(name, otherwise)
    return otherwise if isinstance(found, bool) else found


def _sample(tensor: v1.Tensor, given: Given | None) -> Sample:
    """What the SDK is handed."""
    if tensor.datatype != "BYTES":
        shape = tensor.shape
        if given is not None and shape == (1, *given.shape):
            shape = given.shape  # many callers put a batch axis before every input
        return Sample(tensor.data, DTYPES[tensor.datatype], shape)
    elements = list(unpack_bytes(tensor.data))
    if len(elements) != 1:
        raise _Problem(400, "bad_request", f"{len(elements)} elements; send one input at a time")
    return callers.whole(elements[0], "bytes" if given is None else given.dtype)


def _answered(asked: oip.OipRequest, answer: Answer) -> HttpResponse:
    details = "" if answer.details is None else msgspec.json.encode(answer.details).decode()
    outputs = [
        v1.Tensor(live.LABEL, "BYTES", (1,), pack_text([answer.label])),
        v1.Tensor(live.ANSWER, "BYTES", (1,), pack_text([details])),
    ]
    if answer.confidence is not None and math.isfinite(answer.confidence):
        packed = struct.pack("<d", answer.confidence)
        outputs.insert(1, v1.Tensor(live.CONFIDENCE, "FP64", (1,), packed))
    if asked.outputs:
        wanted = {one.name for one in asked.outputs}
        outputs = [one for one in outputs if one.name in wanted]
    parameters: oip.Parameters = {
        "source": answer.source,
        "final": answer.final,
        "reason": answer.reason,
        "hard": answer.hard,
        "degraded": answer.degraded,
        "certificate": answer.certificate,
        "model": answer.model,
    }
    if answer.certified_risk is not None:
        parameters["certified_risk"] = answer.certified_risk
    if answer.uncertified is not None:
        parameters["uncertified"] = answer.uncertified
    response = oip.OipResponse(
        model_name=answer.task,
        model_version=answer.version,
        id=asked.id or answer.request_id,
        parameters=parameters,
        outputs=tuple(outputs),
    )
    binary = [one.name for one in outputs if asked.wants_binary(one.name)]
    encoded = oip.encode_response(response, binary=binary)
    if encoded.header_length is None:
        return HttpResponse(body=encoded.body)
    return HttpResponse(
        body=encoded.body,
        media_type="application/octet-stream",
        headers=((oip.HEADER_LENGTH, str(encoded.header_length)),),
    )


def _json(value: object, status: int = 200) -> HttpResponse:
    return HttpResponse(status, msgspec.json.encode(value))


@contextlib.asynccontextmanager
async def listening(
    listen: str, run_folder: Path, facts: Facts, version: str
) -> AsyncIterator[int]:
    """Listen at `host:port` inside the block; gives the port. Raises `OSError`."""
    door = Door(run_folder, facts, version)
    listener = HttpListener(door.respond, refused, most_body=oip.MAX_BODY)
    host, _, port = listen.rpartition(":")
    try:
        yield await listener.start(host, int(port))
    finally:
        await listener.close()
        await door.close()
