"""The Open Inference Protocol, version 2: infer, metadata, health.

The two hot routes are plain ASGI functions: FastAPI's machinery for one of its own costs about as
much as all else a request needs here.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec
import numpy as np
from fastapi import APIRouter, Request, Response
from msgspec import Struct

from cloud_gateway.bodies import whole
from cloud_gateway.errors import BadRequest
from cloud_gateway.inference.run import Answers, ModelFacts
from models.pipeline.answers import Classified
from models.tensors import datatype_of
from sync.wire import live, oip, v1
from sync.wire.elements import pack_text

Device = Callable[[Request], str]


class Asked(Protocol):
    """Who answers; `escalations.Escalations` is the real one."""

    async def answer(
        self, device: str, task: str, request_id: str, inputs: tuple[v1.Tensor, ...]
    ) -> Answers: ...


class _Tensor(Struct, frozen=True):
    name: str
    datatype: str
    shape: tuple[int, ...]


class _Model(Struct, frozen=True):
    """Metadata of one model, in the protocol's words."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[_Tensor, ...]
    outputs: tuple[_Tensor, ...]


class _Server(Struct, frozen=True):
    name: str
    version: str
    extensions: tuple[str, ...]


class _Ready(Struct, frozen=True):
    ready: bool


def infer_endpoint(
    asked: Asked, device: Device, *, max_body_bytes: int
) -> Callable[[Request], Awaitable[Response]]:
    """POST /v2/models/{task}/infer."""

    async def infer(request: Request) -> Response:
        name = device(request)
        body = await whole(request, min(max_body_bytes, oip.MAX_BODY))
        question = oip.decode_request(body, _header_length(request))
        # Only the header makes a request the same as another: `id` is the caller's own mark, and
        # many callers never change it.
        request_id = request.headers.get(live.REQUEST_ID, "")
        task = request.path_params["task"]
        answers = await asked.answer(name, task, request_id, question.inputs)
        outputs = _outputs(answers)
        if question.outputs:
            outputs = _chosen(outputs, [one.name for one in question.outputs])
        if not answers.batched and answers.predictions[0].confidence is None:
            outputs = tuple(one for one in outputs if one.name != live.CONFIDENCE)
        binary = {one.name for one in outputs if question.wants_binary(one.name)}
        parameters: oip.Parameters = {
            "version": answers.version,
            live.RUN_US: answers.predictions[0].run_us,
        }
        if any(one.confidence is None for one in answers.predictions):
            # NaN has no JSON, so what may hold one is left out there.
            parameters["degenerate"] = True
            outputs = tuple(one for one in outputs if one.name in binary or one.datatype == "BYTES")
        encoded = oip.encode_response(
            oip.OipResponse(
                model_name=task,
                model_version=answers.version,
                id=question.id or request_id,
                parameters=parameters,
                outputs=outputs,
            ),
            binary=binary,
        )
        if encoded.header_length is None:
            return Response(encoded.body, media_type="application/json")
        return Response(
            encoded.body,
            headers={oip.HEADER_LENGTH: str(encoded.header_length)},
            media_type="application/octet-stream",
        )

    return infer


def router(facts: Callable[[str], ModelFacts], ready: Callable[[], bool]) -> APIRouter:
    """Metadata and health under /v2, open to everybody who reaches the port."""
    routes = APIRouter(prefix="/v2")

    @routes.get("")
    async def server() -> Response:
        return _json(_Server("longstop", "2", ("binary_tensor_data",)))

    @routes.get("/health/live")
    async def server_live() -> Response:
        return Response()

    @routes.get("/health/ready")
    async def server_ready() -> Response:
        return Response(status_code=200 if ready() else 503)

    @routes.get("/models/{task}")
    async def model(task: str) -> Response:
        found = facts(task)
        given = found.given
        return _json(
            _Model(
                name=task,
                versions=(found.version,) if found.version else (),
                platform="longstop",
                inputs=(_Tensor(given.name, datatype_of(given.dtype), given.shape or (1,)),)
                if given
                else (),
                outputs=(
                    _Tensor(live.LABEL, "BYTES", (1,)),
                    _Tensor(live.CONFIDENCE, "FP64", (1,)),
                    _Tensor(live.ANSWER, "BYTES", (1,)),
                    *(
                        (_Tensor("logits", "FP32", (len(found.labels),)),)
                        if found.classifies
                        else ()
                    ),
                ),
            )
        )

    @routes.get("/models/{task}/ready")
    async def model_ready(task: str) -> Response:
        is_ready = facts(task).version is not None
        return _json(_Ready(is_ready), 200 if is_ready else 503)

    return routes


def _outputs(answers: Answers) -> tuple[v1.Tensor, ...]:
    found = answers.predictions
    lead = (len(found),) if answers.batched else ()
    shares = [np.nan if one.confidence is None else one.confidence for one in found]
    each = lead or (1,)
    outputs = [
        v1.Tensor(live.LABEL, "BYTES", each, pack_text([one.label for one in found])),
        v1.Tensor(live.CONFIDENCE, "FP64", each, np.array(shares, "<f8").tobytes()),
        v1.Tensor(live.ANSWER, "BYTES", each, pack_text([one.details() for one in found])),
    ]
    if isinstance(found[0].answer, Classified):
        logits = np.stack([one.output for one in found])
        shape = (*lead, logits.shape[1])
        outputs.append(v1.Tensor("logits", "FP32", shape, logits.astype("<f4").tobytes()))
    return tuple(outputs)


def _chosen(outputs: tuple[v1.Tensor, ...], names: Sequence[str]) -> tuple[v1.Tensor, ...]:
    by_name = {one.name: one for one in outputs}
    for name in names:
        if name not in by_name:
            raise BadRequest(f"there is no output {name[:80]!r}; there are {', '.join(by_name)}")
    return tuple(by_name[name] for name in dict.fromkeys(names))


def _header_length(request: Request) -> int | None:
    text = request.headers.get(oip.HEADER_LENGTH)
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 12:
        raise BadRequest(f"{oip.HEADER_LENGTH} is {text[:80]!r}, which is no length in bytes")
    return int(text)


def _json(value: Struct, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
